"""Conversion of decoded frames to full-range gray, in display orientation and with square pixels."""

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from usvs.media.box import Box

_LIMITED_BLACK, _LIMITED_SCALE = 16, 255 / 219  # ITU-R BT.601 and BT.709 limited range: luma 16 to 235
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
SQUARE_TOLERANCE = 0.002  # a pixel aspect closer to 1 than this is rounding


def to_gray(frame: VideoFrame, box: Box | None = None) -> NDArray[np.uint8]:
    """Return a frame's luma in full range [H, W], or the part of it inside a box."""
    layout = frame.format
    if layout.name.startswith(("yuv", "nv", "gray")) and all(part.bits == 8 for part in layout.components):
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        luma = luma if box is None else box.crop(luma)
        is_full_range = layout.name.startswith(("yuvj", "gray")) or int(frame.color_range) == _FULL_RANGE
        return luma.copy() if is_full_range else expand_limited_range(luma)
    gray = frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
    return gray if box is None else box.crop(gray)


def to_display_gray(
    frame: VideoFrame, rotation_degrees: int, pixel_aspect: float, box: Box | None = None
) -> NDArray[np.uint8]:
    """Return a frame in full-range gray and display orientation [H, W], or the part of that inside a box."""
    if rotation_degrees == 0 and not _is_anamorphic(pixel_aspect):
        return to_gray(frame, box)  # only the box is converted
    image = orient_for_display(to_gray(frame), rotation_degrees, pixel_aspect)
    return image if box is None else box.crop(image)


def expand_limited_range(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return limited-range luma (16 to 235) in full range (0 to 255)."""
    # Rounds and saturates once, at the end. No level is close to a half, so every machine rounds alike.
    return cv2.addWeighted(luma, _LIMITED_SCALE, luma, 0, -_LIMITED_BLACK * _LIMITED_SCALE).astype(np.uint8, copy=False)


def compute_display_size(width: int, height: int, rotation_degrees: int, pixel_aspect: float) -> tuple[int, int]:
    """Return width and height of a stored image after rotation and with square pixels."""
    square = (max(1, round(width * pixel_aspect)) if _is_anamorphic(pixel_aspect) else width, height)
    return square if rotation_degrees % 180 == 0 else (square[1], square[0])


def orient_for_display(image: NDArray[np.uint8], rotation_degrees: int, pixel_aspect: float) -> NDArray[np.uint8]:
    """Return a stored image [H, W] with square pixels and rotated upright, of the size `compute_display_size` gives.

    Args:
        image: as stored.
        rotation_degrees: counterclockwise, a multiple of 90.
        pixel_aspect: width of a stored pixel divided by its height.
    """
    if _is_anamorphic(pixel_aspect):
        size = compute_display_size(image.shape[1], image.shape[0], 0, pixel_aspect)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    quarter_turns = rotation_degrees // 90 % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _is_anamorphic(pixel_aspect: float) -> bool:
    return abs(pixel_aspect - 1) > SQUARE_TOLERANCE
