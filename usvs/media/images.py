"""Image files of any origin as gray levels, and their crops: the one reader of still images."""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import ConfigError, DataError
from usvs.media.box import Box
from usvs.media.code_streams import read_code_stream
from usvs.utils.regular_files import MEBIBYTE, check_regular

SMALLEST_SIDE = 16
MAX_IMAGE_PIXELS = 64_000_000  # 8,000 x 8,000; far beyond any screen, and 0.5 GB as gray levels
MAX_IMAGE_BYTES = 512 * MEBIBYTE  # of a file: as many pixels with 3 x 16 bits, uncompressed
HEADER_BYTES = 4096
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))


def read_gray_image(file: Path) -> NDArray[np.float64]:
    """Read a PNG, JPEG, BMP or TIFF as gray levels, the mean of its colours, turned as its EXIF orientation says.

    Transparency is dropped. More than 8 bits are scaled by the number of significant bits: what the file states (the
    chunk sBIT of a PNG), else the highest bit that is used. So 12 bits in 16 have the full range.

    Returns:
        Gray levels 0 .. 255, [H, W].

    Raises:
        DataError: for a file that is missing, not an image, smaller than 16 pixels a side or larger than
            `MAX_IMAGE_PIXELS`, or whose samples are not unsigned integers of 8 or 16 bits.
    """
    try:
        check_regular(file, MAX_IMAGE_BYTES)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"image '{file}': {reason}") from None
    content, stated_bits = _remove_significant_bits(np.fromfile(file, np.uint8))
    try:
        # any depth and colour, without alpha; OpenCV applies the EXIF orientation unless it reads "unchanged"
        pixels = (
            cv2.imdecode(content, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR) if _check_size(content, file) else None
        )
    except cv2.error:  # more than OpenCV's own limit of pixels
        pixels = None
    if pixels is None:
        raise DataError(f"image '{file}': not readable as an image")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"image '{file}': expected unsigned samples of 8 or 16 bits, got {pixels.dtype} "
            f"from {pixels.min():g} to {pixels.max():g}"
        )
    largest = int(pixels.max(initial=0))
    levels = np.asarray(pixels.mean(axis=2) if pixels.ndim == 3 else pixels, np.float64)
    if largest > 255 or (stated_bits > 8 and pixels.dtype == np.uint16):
        bits = max(largest.bit_length(), stated_bits)
        if stated_bits and not (pixels & (2 ** (16 - stated_bits) - 1)).any():
            bits = 16  # as the PNG standard has it: the significant bits are the upper ones
        levels = levels / ((2**bits - 1) / 255)  # by 257 for 16 bits
    if min(levels.shape) < SMALLEST_SIDE:
        raise DataError(f"image '{file}': expected at least {SMALLEST_SIDE} pixels a side, got {list(levels.shape)}")
    return levels


def _check_size(content: NDArray[np.uint8], file: Path) -> bool:
    """Return whether there is content; a PNG, BMP or JPEG of too many pixels is refused before it is decoded."""
    head = content[:HEADER_BYTES].tobytes()
    width, height = 0, 0
    if head.startswith(PNG_MAGIC) and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
    elif head.startswith(b"BM") and len(head) >= 26:
        width, height = (abs(side) for side in struct.unpack("<ii", head[18:26]))
    elif head.startswith(b"\xff\xd8"):
        stream = read_code_stream(content.tobytes())
        width, height = (stream.width, stream.height) if stream else (0, 0)
    elif head[:4] in (b"II*\0", b"MM\0*"):
        width, height = _read_tiff_size(content.tobytes())
    if width * height > MAX_IMAGE_PIXELS:
        raise DataError(f"image '{file}': expected at most {MAX_IMAGE_PIXELS:,} pixels, got {width} x {height}")
    return len(content) > 0


def _read_tiff_size(content: bytes) -> tuple[int, int]:
    order = "<" if content[:2] == b"II" else ">"
    sides = {256: 0, 257: 0}  # ImageWidth, ImageLength
    try:
        (position,) = struct.unpack_from(f"{order}I", content, 4)
        (entries,) = struct.unpack_from(f"{order}H", content, position)
        for entry in range(entries):
            tag, kind = struct.unpack_from(f"{order}HH", content, position + 2 + 12 * entry)
            if tag in sides:
                form = f"{order}H" if kind == 3 else f"{order}I"
                (sides[tag],) = struct.unpack_from(form, content, position + 2 + 12 * entry + 8)
    except struct.error:
        return 0, 0
    return sides[256], sides[257]


def _remove_significant_bits(content: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Return a file without the chunk sBIT of a PNG, and the significant bits it states, at most 16; 0 without.

    libpng would shift the samples by it, also where a writer has stored them unshifted.
    """
    head = content[:HEADER_BYTES].tobytes()
    at = head.find(b"sBIT") if head.startswith(PNG_MAGIC) else -1
    if at < 4 or at + 4 >= len(head):
        return content, 0
    length = int.from_bytes(head[at - 4 : at], "big")
    bits = max(head[at + 4 : at + 4 + min(length, 4)], default=0)
    return np.concatenate([content[: at - 4], content[at + 4 + length + 4 :]]), min(16, bits)


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
