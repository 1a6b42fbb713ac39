"""What is known of a video before it is decoded, and what is counted while it is decoded."""

from dataclasses import dataclass, field

from usvs.media.box import Box
from usvs.media.timing import Timing


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file, from its header and its packets.

    Attributes:
        container: FFmpeg's name of the file format, ``dicom``, or ``dicom of <format>`` for a stream inside a DICOM.
        video_codec: FFmpeg's name of the codec, or the DICOM transfer syntax.
        width: in pixels, after rotation and with square pixels, as the frames are decoded.
        height: in pixels, likewise.
        timing: when each frame is shown.
        audio_codec: FFmpeg's name of the codec of the first audio stream; None without audio.
        audio_rate_hz: sample rate of that stream.
        audio_channels: number of channels of that stream.
        rotation_degrees: counterclockwise rotation that is applied to decoded frames, a multiple of 90.
        pixel_aspect: width of a stored pixel divided by its height.
        region: where the file itself states the ultrasound image (DICOM).
        file_note: what is unusual about the file although it is used.
        patient: the file's own patient id (DICOM); only for `Keys.patient_key`, never stored or shown.
    """

    container: str
    video_codec: str
    width: int
    height: int
    timing: Timing
    audio_codec: str | None
    audio_rate_hz: int | None
    audio_channels: int | None
    rotation_degrees: int = 0
    pixel_aspect: float = 1.0
    region: Box | None = None
    file_note: str | None = None
    patient: str | None = field(default=None, repr=False)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.timing.seconds)


@dataclass
class VideoDecodeStats:
    """Counts that are kept up to date while frames are decoded.

    Attributes:
        frames: frames decoded.
        damaged_packets: packets that could not be decoded.
        damaged_frames: decoded frames that the decoder marked as corrupt.
        misplaced_frames: frames left out because their time was not after that of the frame before.
    """

    frames: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    misplaced_frames: int = 0
