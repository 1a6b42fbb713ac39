"""Reading of one media file: video, audio and DICOM, frame times, truncation checks and sector geometry.

The functions below are imported on first use, so that ``import usvs.media`` loads neither FFmpeg nor OpenCV.

Example:
    >>> from usvs import media
    >>> info = media.read_video_info("scan.mp4")
    >>> frames = [image for seconds, image in media.iter_gray_frames("scan.mp4", info)]
    >>> sector = media.detect_sector(frames)
    >>> waveform = media.read_audio("scan.mp4", rate_hz=24_000)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "AudioDecodeStats": "usvs.media.audio",
    "Box": "usvs.media.box",
    "Sector": "usvs.media.sector",
    "VideoDecodeStats": "usvs.media.video_info",
    "VideoInfo": "usvs.media.video_info",
    "detect_sector": "usvs.media.sector",
    "iter_gray_frames": "usvs.media.video",
    "iter_keyframes": "usvs.media.video",
    "read_audio": "usvs.media.audio",
    "read_video_info": "usvs.media.video",
}

__all__ = [
    "AudioDecodeStats",
    "Box",
    "Sector",
    "VideoDecodeStats",
    "VideoInfo",
    "detect_sector",
    "iter_gray_frames",
    "iter_keyframes",
    "read_audio",
    "read_video_info",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'usvs.media' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
