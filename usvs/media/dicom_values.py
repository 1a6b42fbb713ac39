"""Where the header of an uncompressed DICOM file and its values disagree about the bits in use, the values decide."""

from typing import BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from usvs.media.dicom_correction import get_optional

BLOCK_BYTES = 1 << 24
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAY_BIT_POSITION = 0x0102  # other than 0: the overlay is in bits of the pixels that are not used
MIN_BITS = 8


def correct_bits(file: BinaryIO, header: Dataset, syntax: UID, position: int, length: int) -> tuple[str, ...]:
    """Give the header of unsigned gray images in 16 bits the bits that its values use; return notes.

    Values that begin above bit 0 (HighBit) are used as they are stored. The highest bit in use is full scale where more
    or all 16 bits are announced and no window says otherwise, as for pictures (`usvs.media.images`).

    Args:
        file: the opened file.
        header: changed where it is wrong.
        syntax: transfer syntax.
        position: byte position of the pixel data.
        length: its length in bytes.
    """
    allocated, stored, high, sign, samples = (
        get_optional(header, keyword)
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
    )
    is_gray = str(get_optional(header, "PhotometricInterpretation")).startswith("MONOCHROME")
    if allocated != 16 or samples != 1 or sign or not is_gray or not isinstance(stored, int) or not 0 < stored <= 16:
        return ()
    if any(get_optional(header, (group, OVERLAY_BIT_POSITION)) for group in OVERLAY_GROUPS):
        return ()
    varying, used = _bits_in_use(file, syntax, position, length)
    unused = high + 1 - stored if isinstance(high, int) and stored <= high < 16 else 0
    if unused and not varying & ((1 << unused) - 1):
        header.BitsStored, header.HighBit = high + 1, high
        header.RescaleSlope = float(get_optional(header, "RescaleSlope") or 1) / (1 << unused)
        return (f"the values begin at bit {unused}",)
    has_window = get_optional(header, "WindowCenter") is not None and get_optional(header, "WindowWidth") is not None
    found = max(used, MIN_BITS)
    if varying >> stored or (stored == 16 and found < 16 and not has_window):
        header.BitsStored, header.HighBit = found, found - 1
        return (f"the header announces {stored} bits, the values use {used}: {found} are used",)
    return ()


def _bits_in_use(file: BinaryIO, syntax: UID, position: int, length: int) -> tuple[int, int]:
    """Return which bits differ between values, and how many bits the largest value has."""
    file.seek(position)
    kind, either, every = np.dtype("<u2" if syntax.is_little_endian else ">u2"), 0, 0xFFFF
    while length >= 2:
        block = file.read(min(length, BLOCK_BYTES))
        values = np.frombuffer(block, kind, len(block) // 2)
        if not len(values):
            break
        either |= int(np.bitwise_or.reduce(values))
        every &= int(np.bitwise_and.reduce(values))
        length -= len(block)
    return either & ~every, either.bit_length()
