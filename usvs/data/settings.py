"""Settings of frame augmentation."""

from pydantic import Field

from usvs.config import Settings


class AugmentSettings(Settings):
    """How a frame is varied in training; ours, the paper names none. The four order frames are varied as one."""

    crop_fraction: float = Field(0.9, gt=0, le=1)  # side of the random square crop
    flip: bool = True
    gain_db: float = Field(2.0, ge=0)  # uniform in plus or minus this much, on the displayed gray level
    order_jitter_pixels: int = Field(0, ge=0)  # OPN's spatial jitter per frame
