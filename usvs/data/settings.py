"""Settings of frame augmentation and of reading pairs."""

from typing import Literal

import numpy as np
from pydantic import Field

from usvs.config import Settings
from usvs.errors import ConfigError
from usvs.store.settings import ClipSettings

LoaderName = Literal["torch", "dali", "dali-video"]
TEMPORAL_STRIDE = 8  # every eighth frame of a scan or a video (section 3.2)


def check_stride(stride: int) -> None:
    """Refuse a stride that is no whole number of at least 1.

    Raises:
        ConfigError: for such a stride.
    """
    if not isinstance(stride, (int, np.integer)) or stride < 1:
        raise ConfigError(f"stride: expected a whole number of at least 1, got {stride}")


class AugmentSettings(Settings):
    """Random augmentation of frames and speech in training; our reading, the paper names none.

    The four frames of the order task get the same parameters.
    """

    crop_fraction: float = Field(0.9, gt=0, le=1)
    """Side of the random square crop, in fractions of the frame's."""
    zoom: float = Field(1.0, ge=1, le=4)
    """Largest factor that the side of a pair's crop is divided by, uniform in the logarithm from 1 on; 1: none."""
    flip: bool = True
    """Flip left to right, with probability 1/2."""
    gain_db: float = Field(2.0, ge=0)
    """Change of the displayed gray level, uniform in plus or minus this much, in dB."""
    order_jitter_pixels: int = Field(0, ge=0)
    """OPN's spatial jitter of each order frame, in pixels."""
    speech_speed: float = Field(1.0, ge=1, le=2)
    """Largest factor by which a piece of speech is played faster or slower, and so higher or lower; 1: none."""

    def crop_only(self) -> "AugmentSettings":
        """Return settings under which frames are cropped at random positions and nothing is changed otherwise."""
        return self.model_copy(update={"zoom": 1.0, "flip": False, "gain_db": 0.0, "speech_speed": 1.0})


class PairSettings(Settings):
    """How the pairs that a sampling plan names are read from a store and turned into tensors."""

    clips: ClipSettings = ClipSettings()
    """How scans are cut into clips, and what is sampled from a clip."""
    augment: AugmentSettings = AugmentSettings()
    """Random augmentation of frames and speech."""
    frame_pixels: int = Field(224, ge=32, le=4096)
    """P, side of the network's input, in pixels."""
    rate_hz: int = Field(24_000, gt=0)
    """Sampling rate of the speech, in Hz; the store's must be equal."""
    loader: LoaderName = "torch"
    """Data-loading backend."""
    loader_workers: int = Field(1, ge=0)
    """Threads that load; 0 loads in the caller's."""
