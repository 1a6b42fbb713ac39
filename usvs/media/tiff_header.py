"""The header of a TIFF: what OpenCV reads wrongly or not at all, without an error."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGICS = (b"II*\0", b"MM\0*")
MAX_PAGES = 4096  # a chain of directories may lead back to its beginning
_SUBFILE, _WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 254, 256, 257, 258, 262, 277, 284, 338
_DEFAULTS = {_SUBFILE: 0, _WIDTH: 0, _LENGTH: 0, _BITS: 1, _PHOTOMETRIC: 1, _SAMPLES: 1, _PLANAR: 1, _EXTRA: 0}
_THUMBNAIL_OR_MASK = 0b101  # bits of the tag NewSubfileType
_FORMS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG


class TiffHeader(NamedTuple):
    """What the first directory of a TIFF states (TIFF 6.0, section 8).

    Attributes:
        width: in pixels, 0 where the file does not state it; likewise `height`.
        height: in pixels.
        bits: of a sample.
        is_white_zero: whether 0 is white (PhotometricInterpretation 0).
        is_planar: whether the samples of a pixel are apart from each other.
        alpha: what the first extra sample is: 0 nothing known, 1 alpha that the colours are multiplied by, 2 alpha.
        alpha_place: where in the file the two bytes of `alpha` are; None where there is no extra sample.
        pages: number of pictures in the file that are no thumbnail and no mask.
    """

    width: int
    height: int
    bits: int
    is_white_zero: bool
    is_planar: bool
    alpha: int
    alpha_place: int | None
    pages: int


def read_tiff_header(content: bytes) -> TiffHeader | None:
    """Return the header of a TIFF; None for a file that has no readable directory."""
    directories = list(_read_directories(content))
    if not directories:
        return None
    first, places = directories[0]
    pages = sum(not tags[_SUBFILE] & _THUMBNAIL_OR_MASK for tags, _ in directories)
    return TiffHeader(
        width=first[_WIDTH],
        height=first[_LENGTH],
        bits=first[_BITS],
        is_white_zero=first[_PHOTOMETRIC] == 0,
        is_planar=first[_PLANAR] == 2 and first[_SAMPLES] > 1,
        alpha=first[_EXTRA],
        alpha_place=places.get(_EXTRA),
        pages=pages,
    )


def _read_directories(content: bytes) -> Iterator[tuple[dict[int, int], dict[int, int]]]:
    """Yield the first value of each known tag, and its place, for every readable directory of the file."""
    order = "<" if content[:2] == b"II" else ">"
    try:
        (position,) = struct.unpack_from(f"{order}I", content, 4)
        for _ in range(MAX_PAGES):
            if not position:
                return
            (entries,) = struct.unpack_from(f"{order}H", content, position)
            tags, places = dict(_DEFAULTS), dict[int, int]()
            for entry in range(position + 2, position + 2 + 12 * entries, 12):
                tag, kind, count = struct.unpack_from(f"{order}HHI", content, entry)
                if tag not in tags or tag in places or kind not in _FORMS:  # of a tag that is twice, the first counts
                    continue
                size = struct.calcsize(_FORMS[kind]) * count
                places[tag] = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", content, entry + 8)[0]
                (tags[tag],) = struct.unpack_from(f"{order}{_FORMS[kind]}", content, places[tag])
            yield tags, places
            (position,) = struct.unpack_from(f"{order}I", content, position + 2 + 12 * entries)
    except struct.error:
        return
