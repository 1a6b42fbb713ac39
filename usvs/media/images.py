"""Image files of any origin as gray levels, and their crops: the one reader of still images."""

import struct
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import ConfigError, DataError
from usvs.media.box import Box
from usvs.media.code_streams import read_code_stream
from usvs.media.several_pictures import JPEG_MAGIC, PNG_MAGIC, count_pictures
from usvs.media.tiff_header import MAGICS as TIFF_MAGICS
from usvs.media.tiff_header import TiffHeader, read_tiff_header
from usvs.utils.regular_files import MEBIBYTE, check_regular

SMALLEST_SIDE = 16
MAX_IMAGE_PIXELS = 64_000_000  # 8,000 x 8,000; far beyond any screen, and 0.5 GB as gray levels
MAX_IMAGE_BYTES = 512 * MEBIBYTE  # of a file: as many pixels with 3 x 16 bits, uncompressed
HEADER_BYTES = 4096
ALPHA_MULTIPLIED = 1  # value of the tag ExtraSamples of a TIFF
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))


def read_gray_image(file: Path) -> NDArray[np.float64]:
    """Read a PNG, JPEG, BMP or TIFF as gray levels, the mean of its colours, turned as its EXIF orientation says.

    Transparency is dropped: colours are those without it, also where a TIFF stores them multiplied by it. More than
    8 bits are scaled by the number of significant bits: what the file states (the
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
    header = _read_header(content, file)
    pixels = _decode(content, header, file)
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
    if header.tiff is not None and header.tiff.is_white_zero and pixels.dtype == np.uint16:
        levels = 255 - levels  # OpenCV inverts 8 bits only
    if min(levels.shape) < SMALLEST_SIDE:
        raise DataError(f"image '{file}': expected at least {SMALLEST_SIDE} pixels a side, got {list(levels.shape)}")
    return levels


class _Header(NamedTuple):
    width: int
    height: int
    tiff: TiffHeader | None = None


def _read_header(content: NDArray[np.uint8], file: Path) -> _Header:
    """Return what a file states before it is decoded.

    Raises:
        DataError: for another format, too many pixels, several pages, or what OpenCV decodes wrongly.
    """
    file_bytes = content.tobytes()
    header = _parse_header(file_bytes)
    head = content[:4].tobytes()
    if header is None and head.startswith((PNG_MAGIC[:4], b"BM", JPEG_MAGIC, *TIFF_MAGICS)):
        raise DataError(f"image '{file}': not readable as an image: its header is damaged or cut off")
    if header is None:
        raise DataError(f"image '{file}': expected a PNG, JPEG, BMP or TIFF, got a file that begins with {head!r}")
    if header.width * header.height > MAX_IMAGE_PIXELS:
        raise DataError(
            f"image '{file}': expected at most {MAX_IMAGE_PIXELS:,} pixels, got {header.width} x {header.height}"
        )
    if (pictures := count_pictures(file_bytes)) > 1:
        raise DataError(
            f"image '{file}': expected one picture, got {pictures} (animation, or files in a row); save it as a video"
        )
    if header.tiff is not None and header.tiff.pages > 1:
        raise DataError(f"image '{file}': expected one picture, got {header.tiff.pages} pages; save each as a file")
    if header.tiff is not None and header.tiff.is_planar and header.tiff.bits > 8:
        raise DataError(
            f"image '{file}': expected the samples of a pixel side by side (PlanarConfiguration 1), got"
            f" {header.tiff.bits} bits with a plane for each colour; save it as PNG"
        )
    return header


def _parse_header(content: bytes) -> _Header | None:
    if content.startswith(PNG_MAGIC) and len(content) >= 24:
        return _Header(*struct.unpack(">II", content[16:24]))
    if content.startswith(b"BM") and len(content) >= 26:
        is_os2 = content[14:18] == b"\x0c\0\0\0"  # the older, shorter header
        sides = struct.unpack("<HH", content[18:22]) if is_os2 else struct.unpack("<ii", content[18:26])
        return _Header(*(abs(side) for side in sides))
    if content.startswith(JPEG_MAGIC):
        stream = read_code_stream(content)
        return _Header(stream.width, stream.height) if stream else None
    if content[:4] in TIFF_MAGICS:
        tiff = read_tiff_header(content)
        return _Header(tiff.width, tiff.height, tiff) if tiff else None
    return None


def _decode(content: NDArray[np.uint8], header: _Header, file: Path) -> NDArray[np.generic] | None:
    """Return samples [H, W] or [H, W, 3] of any depth, without alpha and turned upright; None where that fails.

    Raises:
        DataError: where the gray levels are multiplied by an alpha that OpenCV does not return.
    """
    place = None if header.tiff is None else header.tiff.alpha_place
    if place is not None:  # libtiff multiplies 8 bits by an alpha that is stated to be one
        content = content.copy()
        content[place : place + 2] = 0
    # OpenCV applies the EXIF orientation of a JPEG or PNG unless it reads "unchanged"
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR if place is None else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(content, flags)
    except cv2.error:  # more than OpenCV's own limit of pixels
        return None
    if pixels is None or header.tiff is None or place is None:
        return pixels
    if header.tiff.alpha == ALPHA_MULTIPLIED:
        return _divide_by_alpha(pixels, file)
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def _divide_by_alpha(pixels: NDArray[np.generic], file: Path) -> NDArray[np.generic]:
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"image '{file}': expected gray levels that are not multiplied by the alpha channel, got ExtraSamples"
            f" {ALPHA_MULTIPLIED}; save it as PNG"
        )
    full = 255 if pixels.dtype == np.uint8 else 65_535
    straight = np.asarray(pixels[..., :3], np.float64) * (full / np.maximum(pixels[..., 3:], 1))
    colours: NDArray[np.generic] = np.minimum(np.round(straight), full).astype(pixels.dtype)
    return colours


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
