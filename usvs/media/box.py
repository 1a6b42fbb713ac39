"""A rectangle of pixels."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    def translate(self, x_px: int, y_px: int) -> "Box":
        """Return the box moved to the right by `x_px` and down by `y_px`."""
        return Box(self.left + x_px, self.top + y_px, self.right + x_px, self.bottom + y_px)

    def crop(self, image: NDArray[Pixel]) -> NDArray[Pixel]:
        """Return the part of an image [H, W] inside the box, as a view."""
        return image[self.top : self.bottom, self.left : self.right]
