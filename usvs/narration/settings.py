"""Settings of narrated archives."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Settings


class NarrateSettings(Settings):
    """How silent videos become narrated scans."""

    scans: int | None = Field(None, ge=1)  # that join clips of all patients; None: each patient has scans of its own
    scans_per_patient: int = Field(1, ge=1)  # where each patient has scans of its own
    clip_seconds: float = Field(6.0, ge=1)  # each clip is played to and fro for this long, plus or minus 20 %
    scan_seconds: float | None = Field(None, ge=2)  # None: 120 of joined scans, each clip once of a patient's scan
    on_topic_fraction: float = Field(2 / 3, ge=0, le=1)  # of the remarks; the others are about another topic
    silent_fraction: float = Field(0.05, ge=0, le=1)  # of the clips that are not commented
    delay_seconds: tuple[float, float] = (-0.2, 0.4)  # of the comment's start and end, relative to the clip's
    noise_db: float = Field(0.0, ge=-40, le=40)  # added to the level of hiss and ventilation
    voices: int = Field(8, ge=1)  # all of them speak in every scan, in random turns
    test_fraction: float = Field(0.3, gt=0, lt=1)  # of the patients of each class, where a part is chosen
    frame_rate_hz: int = Field(10, ge=2, le=120)
    frame_pixels: int = Field(256, ge=64, le=2048)  # longer side of a scan's frame
    crop_to_sector: bool | None = None  # None: where scans are joined, as their videos are of several scanners
    sound_rate_hz: Literal[44_100, 48_000] = 48_000
    video_crf: int = Field(23, ge=0, le=51)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.delay_seconds
        if low > high:
            raise ValueError(f"delay_seconds: expected a lower and an upper bound in this order, got {low}, {high}")
        return self
