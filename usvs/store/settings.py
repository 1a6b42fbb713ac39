"""Settings of `usvs index` and `usvs prepare`."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.archive.settings import GazeSettings, LabelSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.config import Profile, Settings


class ClipSettings(Settings):
    """How scans are cut into clips, and what is sampled from a clip (section 2.1, Fig. 2 left)."""

    clip_seconds: float = Field(2.0, gt=0)
    """Length of a clip, in seconds; 2 s are 60 frames at 30 frames per second."""
    groups_per_clip: int = Field(2, ge=1)
    """K: pairs that are drawn from a clip."""
    shift_range_clips: int = Field(5, ge=2)
    """D: the hard negative is 1 to D - 1 clips away."""
    speech_seconds: float = Field(0.6, gt=0)
    """Length of a speech piece, in seconds."""
    speech_fraction_high: float = Field(0.5, ge=0, le=1)
    """Our reading: a clip with a smaller fraction of speech is low-affinity ("mostly noise")."""
    order_spacing_seconds: float = Field(0.5, gt=0)
    """Our reading: the four frames of the order task are this far apart, in seconds ..."""
    order_jitter_seconds: float = Field(0.1, ge=0)
    """... and each is moved by up to this much, in seconds."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.speech_seconds > self.clip_seconds:
            raise ValueError(
                f"expected speech_seconds up to clip_seconds ({self.clip_seconds}), got {self.speech_seconds}"
            )
        if 3 * self.order_spacing_seconds + 2 * self.order_jitter_seconds > self.clip_seconds:
            raise ValueError(
                "expected 3 order_spacing_seconds + 2 order_jitter_seconds up to clip_seconds: four frames must fit"
            )
        if 2 * self.order_jitter_seconds >= self.order_spacing_seconds:
            raise ValueError("expected order_jitter_seconds below half of order_spacing_seconds")
        return self


class IndexSettings(Settings):
    """All settings of `usvs index`."""

    clips: ClipSettings = ClipSettings()
    """How scans are cut into clips."""
    voice_activity: VoiceActivitySettings = VoiceActivitySettings()
    """The speech detector."""
    gaze: GazeSettings = GazeSettings()
    """How gaze was recorded."""
    labels: LabelSettings = LabelSettings()
    """Columns of the table of labels."""


class PrepareSettings(Settings):
    """How `usvs prepare` encodes frames and speech."""

    frame_pixels: int = Field(256, ge=32, le=4096)
    """Side of a prepared frame, in pixels: the network's input, and a margin for random crops."""
    codec: Literal["jpeg", "raw"] = "jpeg"
    """How frames are stored; raw is larger and faster to read."""
    jpeg_quality: int = Field(95, ge=1, le=100)
    """Quality of JPEG frames, 1 to 100."""
    rate_hz: int = Field(24_000, gt=0)
    """Sampling rate of the speech, in Hz."""
    crop: Literal["inscribed", "sector", "unfolded"] = "inscribed"
    """What a frame shows, squeezed to a square: the largest rectangle inside the sector (the paper crops to it); the
    complete sector, black outside of it; or the complete sector unfolded: a column per beam, a row per depth."""


def prepare_profile(profile: Profile) -> PrepareSettings:
    """Return the settings of a store for a profile: frames are larger than the network input, for random crops."""
    return PrepareSettings() if profile == "paper" else PrepareSettings(frame_pixels=72)
