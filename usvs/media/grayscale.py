"""Decoded pictures as full-range gray, upright, with square pixels."""

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from usvs.media.sector import Box

_BLACK, _STRETCH = 16, 255 / 219  # ITU-R BT.601 and BT.709 limited range: luma 16 to 235
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
SQUARE = 0.002  # a pixel aspect nearer to 1 than this is rounding


def to_gray(frame: VideoFrame, box: Box | None = None) -> NDArray[np.uint8]:
    """Return a frame's luma in full range [H, W], or what of it is inside a box."""
    form = frame.format
    if form.name.startswith(("yuv", "nv", "gray")) and all(part.bits == 8 for part in form.components):
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        luma = luma if box is None else box.crop(luma)
        full = form.name.startswith(("yuvj", "gray")) or int(frame.color_range) == _FULL_RANGE
        return luma.copy() if full else expand_limited(luma)
    gray = frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
    return gray if box is None else box.crop(gray)


def to_shown(
    frame: VideoFrame, rotation_degrees: int, pixel_aspect: float, box: Box | None = None
) -> NDArray[np.uint8]:
    """Return a frame as it is shown, gray [H, W], or what of that is inside a box."""
    if rotation_degrees == 0 and not _is_oblong(pixel_aspect):
        return to_gray(frame, box)  # what lies outside costs nothing
    shown = as_shown(to_gray(frame), rotation_degrees, pixel_aspect)
    return shown if box is None else box.crop(shown)


def expand_limited(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return limited-range luma (16 to 235) in full range (0 to 255)."""
    # one rounding and saturation at the end; no level lies near a half, so every machine rounds alike
    return cv2.addWeighted(luma, _STRETCH, luma, 0, -_BLACK * _STRETCH).astype(np.uint8, copy=False)


def shown_size(width: int, height: int, rotation_degrees: int, pixel_aspect: float) -> tuple[int, int]:
    """Return width and height of a picture as it is shown."""
    square = (max(1, round(width * pixel_aspect)) if _is_oblong(pixel_aspect) else width, height)
    return square if rotation_degrees % 180 == 0 else (square[1], square[0])


def as_shown(picture: NDArray[np.uint8], rotation_degrees: int, pixel_aspect: float) -> NDArray[np.uint8]:
    """Return a stored picture [H, W] with square pixels and upright, as `shown_size` says."""
    if _is_oblong(pixel_aspect):
        size = shown_size(picture.shape[1], picture.shape[0], 0, pixel_aspect)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    turns = rotation_degrees // 90 % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _is_oblong(pixel_aspect: float) -> bool:
    return abs(pixel_aspect - 1) > SQUARE
