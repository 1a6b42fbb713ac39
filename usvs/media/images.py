"""Image files of any origin as gray levels, and their crops."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import ConfigError, DataError
from usvs.media.box import Box

SMALLEST_SIDE = 16
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))


def read_gray_image(file: Path) -> NDArray[np.float64]:
    """Read a PNG, JPEG, BMP or TIFF as gray levels, the mean of its colours; transparency is dropped.

    Returns:
        Gray levels 0 .. 255, [H, W].

    Raises:
        DataError: for a file that is missing, not an image, or smaller than 16 pixels a side.
    """
    if not file.is_file():
        raise DataError(f"image '{file}': there is no such file")
    pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED) if file.stat().st_size else None
    if pixels is None:
        raise DataError(f"image '{file}': not readable as an image")
    if pixels.ndim == 3:
        pixels = pixels[..., : 1 if pixels.shape[2] == 2 else 3].mean(axis=2)
    levels = np.asarray(pixels, np.float64)
    if levels.max(initial=0) > 255:  # 16 bits
        levels = levels / 257
    if min(levels.shape) < SMALLEST_SIDE:
        raise DataError(f"image '{file}': expected at least {SMALLEST_SIDE} pixels a side, got {list(levels.shape)}")
    return levels


def parse_box(text: str) -> Box:
    """Read ``LEFT,TOP,RIGHT,BOTTOM`` in pixels, right and bottom exclusive.

    Raises:
        ConfigError: for anything else.
    """
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        left = top = right = bottom = -1
    if not (0 <= left < right and 0 <= top < bottom):
        raise ConfigError(f"--box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got '{text}'")
    return Box(left, top, right, bottom)


def crop_to(image: NDArray[np.float64], box: Box, file: Path) -> NDArray[np.float64]:
    """Return the part of an image inside the box.

    Raises:
        DataError: where the box reaches outside of the image.
    """
    height, width = image.shape
    if box.right > width or box.bottom > height:
        raise DataError(f"image '{file}': {width} x {height} pixels, and --box reaches to {box.right}, {box.bottom}")
    return image[box.top : box.bottom, box.left : box.right]


def padded_to_aspect(image: NDArray[np.float64], width_over_height: float) -> NDArray[np.float64]:
    """Pad an image with black at its sides or below, so that it has an aspect ratio without being stretched."""
    height, width = image.shape
    sides = max(0, round(height * width_over_height) - width)
    below = max(0, round(width / width_over_height) - height) if sides == 0 else 0
    return np.pad(image, ((0, below), (sides // 2, sides - sides // 2)))
