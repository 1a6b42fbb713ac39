"""Settings of narrated archives."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Settings


class NarrateSettings(Settings):
    """How silent videos become narrated scans."""

    scans: int | None = Field(None, ge=1)
    """Number of scans that join clips of all patients; none: each patient has scans of its own."""
    scans_per_patient: int = Field(1, ge=1)
    """Number of scans of a patient, where each has scans of its own."""
    clip_seconds: float = Field(6.0, ge=1)
    """Each clip is played to and fro for this long, plus or minus 20 %, in seconds."""
    scan_seconds: float | None = Field(None, ge=2)
    """Duration of a scan, in seconds; none: 120 of joined scans, each clip once of a patient's scan."""
    on_topic_fraction: float = Field(2 / 3, ge=0, le=1)
    """Fraction of the remarks that are about what is shown; the others are about another topic."""
    silent_fraction: float = Field(0.05, ge=0, le=1)
    """Fraction of the clips that are not commented."""
    delay_seconds: tuple[float, float] = (-0.2, 0.4)
    """Bounds of the delay of a comment's start and end, relative to the clip's, in seconds."""
    noise_db: float = Field(0.0, ge=-40, le=40)
    """Added to the level of hiss and ventilation, in dB."""
    voices: int = Field(8, ge=1)
    """Number of voices; all of them speak in every scan, in random turns."""
    test_fraction: float = Field(0.3, gt=0, lt=1)
    """Fraction of the patients of each class that is for tests, where a part is chosen."""
    frame_rate_hz: int = Field(10, ge=2, le=120)
    """Frames per second."""
    frame_pixels: int = Field(256, ge=64, le=2048)
    """Longer side of a scan's frame, in pixels."""
    crop_to_sector: bool | None = None
    """Crop videos to their sectors; none: where scans are joined, as their videos are of several scanners."""
    sound_rate_hz: Literal[44_100, 48_000] = 48_000
    """Sampling rate of the sound, in Hz."""
    video_crf: int = Field(23, ge=0, le=51)
    """Constant rate factor of the H.264 encoder: 0 is lossless, 51 the smallest file."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.delay_seconds
        if low > high:
            raise ValueError(f"delay_seconds: expected a lower and an upper bound in this order, got {low}, {high}")
        return self
