"""Settings of clips and of what `usvs prepare` writes."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Profile, Settings


class ClipSettings(Settings):
    """What is drawn from the archive (section 2.1, Fig. 2 left)."""

    clip_seconds: float = Field(2.0, gt=0)  # 60 frames at 30 fps
    groups_per_clip: int = Field(2, ge=1)  # K
    shift_range_clips: int = Field(5, ge=2)  # D: the negative's clip lies 1 .. D - 1 clips away
    speech_seconds: float = Field(0.6, gt=0)
    speech_fraction_high: float = Field(0.5, ge=0, le=1)  # ours: "mostly noise" is less speech than this
    order_spacing_seconds: float = Field(0.5, gt=0)  # ours: evenly spaced frames of the clip ...
    order_jitter_seconds: float = Field(0.1, ge=0)  # ... each moved by up to this much

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.speech_seconds > self.clip_seconds:
            raise ValueError(f"speech_seconds {self.speech_seconds} is longer than clip_seconds {self.clip_seconds}")
        if 3 * self.order_spacing_seconds + 2 * self.order_jitter_seconds > self.clip_seconds:
            raise ValueError("four order frames (3 spacings + 2 jitters) do not fit into clip_seconds")
        if 2 * self.order_jitter_seconds >= self.order_spacing_seconds:
            raise ValueError("order_jitter_seconds must be below half of order_spacing_seconds")
        return self


class PrepareSettings(Settings):
    """What `usvs prepare` writes."""

    frame_pixels: int = Field(256, ge=32)  # 224 and a margin for random crops
    codec: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: int = Field(95, ge=1, le=100)
    rate_hz: int = Field(24_000, gt=0)


def prepare_profile(profile: Profile) -> PrepareSettings:
    """The settings of a store made for a profile: frames with a margin around what its network sees."""
    return PrepareSettings() if profile == "paper" else PrepareSettings(frame_pixels=72)
