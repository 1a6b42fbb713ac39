"""Settings of the phantom archive."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Settings


class PhantomSettings(Settings):
    """The synthetic archive; the defaults make it learnable in minutes, but not trivial."""

    scan_seconds: float = Field(90.0, ge=2)
    """Duration of a scan, in seconds; in 90 every plane is shown about once."""
    scans_per_patient: int = Field(1, ge=1)
    """Number of scans of a patient."""
    sonographers: int = Field(2, ge=1)
    """Number of voices; all of them speak in every scan, in random turns."""
    frame_rate_hz: int = Field(8, ge=5, le=120)
    """Frames per second."""
    frame_width: int = Field(400, ge=160, le=4096)
    """Width of a frame, in pixels; of each patient's scanner plus or minus 10 %."""
    frame_height: int = Field(320, ge=128, le=4096)
    """Height of a frame, in pixels."""
    sound_rate_hz: Literal[44_100, 48_000] = 48_000
    """Sampling rate of the sound, in Hz."""
    gaze_rate_hz: float = Field(90.0, gt=0)
    """Gaze points per second."""
    dwell_seconds: tuple[float, float] = (4.5, 7.0)
    """Bounds of the time that a plane is held, in seconds."""
    transition_seconds: tuple[float, float] = (0.7, 1.3)
    """Bounds of the duration of a transition between planes, in seconds."""
    search_seconds: tuple[float, float] = (2.5, 4.0)
    """Bounds of the duration of a longer search, in seconds."""
    search_fraction: float = Field(0.15, ge=0, le=1)
    """Fraction of the transitions between planes that are a longer search."""
    drift_fraction: tuple[float, float] = (0.10, 0.22)
    """Bounds of the drift of the probe, in fractions of the inscribed crop's width per two seconds."""
    rotation_degrees: float = Field(8.0, ge=0, le=180)
    """Largest rotation of a visit, in both directions, in degrees."""
    scale: tuple[float, float] = (0.9, 1.12)
    """Bounds of the magnification of a visit."""
    shift: float = Field(0.15, ge=0)
    """Largest lateral shift of a visit, in tissue units; 0.8 of it in depth."""
    spoken_fraction: float = Field(0.95, ge=0, le=1)
    """Fraction of the visits that are commented."""
    chatter_fraction: float = Field(0.05, ge=0, le=1)
    """Fraction of the remarks that are about another topic."""
    idle_fraction: float = Field(0.15, ge=0, le=1)
    """Fraction of the transitions between planes that are commented."""
    delay_seconds: tuple[float, float] = (-0.2, 0.4)
    """Bounds of the delay of a comment's start and end, relative to the visit's, in seconds."""
    video_crf: int = Field(24, ge=0, le=51)
    """Constant rate factor of the H.264 encoder: 0 is lossless, 51 the smallest file."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name in (
            "dwell_seconds",
            "transition_seconds",
            "search_seconds",
            "drift_fraction",
            "scale",
            "delay_seconds",
        ):
            low, high = getattr(self, name)
            if low > high or (low <= 0 and name not in ("drift_fraction", "delay_seconds")):
                raise ValueError(
                    f"{name}: expected a lower and an upper bound, positive and in this order, got {low}, {high}"
                )
        return self
