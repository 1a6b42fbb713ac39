"""What is known of a video before it is decoded, and what comes to light while it is."""

from dataclasses import dataclass, field

from usvs.media.sector import Box
from usvs.media.timing import Timing


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, from its header and its packets.

    Attributes:
        container: FFmpeg's name of the file format, or ``dicom``.
        video_codec: FFmpeg's name of the codec, or the DICOM transfer syntax.
        width: of the picture as it is shown, upright and with square pixels.
        height: likewise.
        timing: when each frame is shown.
        rotation_degrees: by which decoded pictures are turned counterclockwise, a multiple of 90.
        pixel_aspect: width of a stored pixel over its height.
        region: where the file itself says that the ultrasound picture is (DICOM).
        file_note: what is odd about a file that is used all the same.
        patient: who was scanned, by the file's own word (DICOM); for `Keys.patient_key` and nothing else.
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
class Decoded:
    """What came to light while frames were decoded."""

    frames: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    misplaced_frames: int = 0
