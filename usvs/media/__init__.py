"""Reading of one media file: video, audio and DICOM, frame times, truncation checks and sector geometry.

The functions below are imported on first use, so that ``import usvs.media`` loads neither FFmpeg nor OpenCV.

Example:
    >>> from usvs import media
    >>> info = media.read_video_info("scan.mp4")
    >>> frames = [image for seconds, image in media.iter_gray_frames("scan.mp4", info)]
    >>> sector = media.detect_sector(frames)
    >>> waveform = media.read_audio("scan.mp4", rate_hz=24_000)
"""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from usvs.media.audio import AudioDecodeStats as AudioDecodeStats
    from usvs.media.audio import read_audio as read_audio
    from usvs.media.box import Box as Box
    from usvs.media.sector import Sector as Sector
    from usvs.media.sector import detect_sector as detect_sector
    from usvs.media.video import iter_gray_frames as iter_gray_frames
    from usvs.media.video import iter_keyframes as iter_keyframes
    from usvs.media.video import read_video_info as read_video_info
    from usvs.media.video_info import VideoDecodeStats as VideoDecodeStats
    from usvs.media.video_info import VideoInfo as VideoInfo

lazy_attributes(
    "usvs.media",
    {
        "audio": ("AudioDecodeStats", "read_audio"),
        "box": ("Box",),
        "sector": ("Sector", "detect_sector"),
        "video": ("iter_gray_frames", "iter_keyframes", "read_video_info"),
        "video_info": ("VideoDecodeStats", "VideoInfo"),
    },
)
