"""Uncompressed TIFFs with any tags: what no writer at hand writes."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LONG_TAGS = (256, 257, 273, 278, 279)


def tiff_bytes(
    planes: Sequence[NDArray[np.generic]], tags: Mapping[int, Sequence[int]] | None = None, order: str = "<"
) -> bytes:
    """Return a TIFF of planes [H, W] of uint8 or uint16; `tags` are added to those needed, or replace them."""
    (height, width), count, size = planes[0].shape, len(planes), planes[0].dtype.itemsize
    is_planar = dict(tags or {}).get(284) == [2]
    pixels = np.stack(planes, 0 if is_planar else -1).astype(f"{order}u{size}").tobytes()
    pixels += b"\0" * (len(pixels) % 2)
    parts = count if is_planar else 1
    part = height * width * count * size // parts
    values: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [8 * size] * count,
        259: [1],  # not compressed
        262: [2 if count > 2 else 1],
        273: [8 + part * number for number in range(parts)],
        277: [count],
        278: [height],
        279: [part] * parts,
        **(tags or {}),
    }
    start = 8 + len(pixels)
    directory, beyond = struct.pack(f"{order}H", len(values)), b""
    for tag, entries in sorted(values.items()):
        form = "I" if tag in LONG_TAGS else "H"
        field = struct.pack(f"{order}{len(entries)}{form}", *entries)
        if len(field) > 4:
            place = start + 2 + 12 * len(values) + 4 + len(beyond)
            beyond += field + b"\0" * (len(field) % 2)
            field = struct.pack(f"{order}I", place)
        directory += struct.pack(f"{order}HHI", tag, 4 if form == "I" else 3, len(entries)) + field.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + pixels + directory + b"\0\0\0\0" + beyond
