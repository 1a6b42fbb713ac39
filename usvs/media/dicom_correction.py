"""Where the header of a DICOM file and its compressed images disagree, the code stream decides.

Its number of frames, size, samples per pixel, bits and colour replace those of the header in memory, with a note.
"""

import struct
from math import ceil
from typing import Any, BinaryIO, TypeAlias

from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless

from usvs.media.code_streams import CodeStream, read_code_stream, starts_image

Fragment: TypeAlias = tuple[int, int]  # byte position and length
ITEM_BYTES = 8  # tag and length before the content of a fragment
START_BYTES = 12  # enough to see whether an image begins
HEADER_BYTES = 1 << 16  # of a frame; the properties of its image are in there
MAX_RLE_SEGMENTS = 15  # PS3.5 G.5


def get_optional(header: Dataset, keyword: str | tuple[int, int]) -> Any:
    """Return an element's value; None where it is missing or cannot be read: pydicom converts values on access."""
    try:
        return header.get(keyword)
    except Exception:  # of many types; optional metadata must not cost the scan
        return None


def read_frame_count(header: Dataset) -> int | None:
    """Return NumberOfFrames; None where it is missing or not a positive integer."""
    try:
        return int(get_optional(header, "NumberOfFrames")) or None
    except (TypeError, ValueError):
        return None


def group_fragments(
    file: BinaryIO, fragments: list[Fragment], header: Dataset, stated: int | None
) -> list[list[Fragment]]:
    """Return the fragments of each frame.

    A frame begins where an offset table says so, where an image begins, and at every fragment if there are as many as
    the header states or no start is known.

    Args:
        file: the opened file.
        fragments: all fragments; the first is the basic offset table.
        header: for the extended offset table.
        stated: number of frames in the header.
    """
    if len(fragments) < 2:
        return []
    table, parts = fragments[0], fragments[1:]
    if len(parts) == stated:
        return [[part] for part in parts]
    origin = parts[0][0] - ITEM_BYTES
    starts = {origin + offset for offset in _read_offsets(file, table, header)}
    begins: list[bool] = []
    for position, length in parts:
        file.seek(position)
        is_start = starts_image(file.read(min(length, START_BYTES)))
        begins.append(is_start or position - ITEM_BYTES in starts)
    if not any(begins):  # run-length encoding, or no offsets and damaged images
        begins = [True] * len(parts)
    frames: list[list[Fragment]] = []
    for part, is_begin in zip(parts, begins, strict=True):
        if is_begin or not frames:
            frames.append([part])
        else:
            frames[-1].append(part)
    return frames


def correct_header(file: BinaryIO, header: Dataset, syntax: UID, frames: list[list[Fragment]]) -> tuple[str, ...]:
    """Give a header the properties of the first frame that states them; return notes on what was changed."""
    for frame in frames[:3]:
        file.seek(frame[0][0])
        content = file.read(min(frame[0][1], HEADER_BYTES))
        stream = _read_rle(content, header) if syntax == RLELossless else read_code_stream(content)
        if stream is not None and min(stream.width, stream.height, stream.samples, stream.bits) > 0:
            return tuple(_apply(stream, header, is_rle=syntax == RLELossless))
    return ()


def _read_offsets(file: BinaryIO, table: Fragment, header: Dataset) -> list[int]:
    extended = get_optional(header, "ExtendedOffsetTable")
    if isinstance(extended, bytes) and extended:
        return [offset for (offset,) in struct.iter_unpack("<Q", extended[: len(extended) // 8 * 8])]
    file.seek(table[0])
    content = file.read(table[1] // 4 * 4)
    return [offset for (offset,) in struct.iter_unpack("<L", content)]


def _read_rle(content: bytes, header: Dataset) -> CodeStream | None:
    """Return the samples and bits that the number of byte planes implies; the size is in the header alone."""
    if len(content) < 4 or not 1 <= (segments := int.from_bytes(content[:4], "little")) <= MAX_RLE_SEGMENTS:
        return None
    samples = 3 if segments % 3 == 0 else 1
    allocated, stored = (_number(header, keyword) for keyword in ("BitsAllocated", "BitsStored"))
    bits = stored if stored and allocated == 8 * segments // samples else 8 * segments // samples
    return CodeStream(_number(header, "Columns"), _number(header, "Rows"), samples, bits)


def _number(header: Dataset, keyword: str) -> int:
    try:
        return int(get_optional(header, keyword) or 0)
    except (TypeError, ValueError):
        return 0


def _apply(stream: CodeStream, header: Dataset, is_rle: bool) -> list[str]:
    notes = []
    stated_size = _number(header, "Columns"), _number(header, "Rows")
    if not is_rle and stated_size != (stream.width, stream.height):
        notes.append(_note(f"{stated_size[0]} x {stated_size[1]} pixels", f"{stream.width} x {stream.height}"))
        header.Columns, header.Rows = stream.width, stream.height
    samples = _number(header, "SamplesPerPixel")
    if samples != stream.samples and stream.samples in (1, 3):
        notes.append(_note(f"{samples} samples per pixel", str(stream.samples)))
        header.SamplesPerPixel, header.PlanarConfiguration = stream.samples, 0
        gray = "MONOCHROME2"
        header.PhotometricInterpretation = gray if stream.samples == 1 else _colour_name(stream, is_rle)
    allocated, stored = _number(header, "BitsAllocated"), _number(header, "BitsStored")
    # Encoders may store 12 bits in images of 16: the header then knows more. Impossible values are replaced.
    if stored != stream.bits and not (0 < stored < stream.bits == allocated):
        notes.append(_note(f"{stored} bits", str(stream.bits)))
        header.BitsStored, header.HighBit = stream.bits, stream.bits - 1
        header.BitsAllocated = 8 * ceil(stream.bits / 8)
    elif allocated < stream.bits or allocated % 8:
        header.BitsAllocated = 8 * ceil(stream.bits / 8)
    photometric = str(get_optional(header, "PhotometricInterpretation") or "")
    if stream.colour and stream.samples == 3 and not photometric.startswith(stream.colour):
        notes.append(_note(f"colours as {photometric or 'nothing'}", _colour_name(stream, is_rle)))
        header.PhotometricInterpretation = _colour_name(stream, is_rle)
    return notes


def _colour_name(stream: CodeStream, is_rle: bool) -> str:
    return "RGB" if is_rle or stream.colour == "RGB" else "YBR_FULL_422"


def _note(stated: str, found: str) -> str:
    return f"the header announces {stated}, the images have {found}: the images' are used"
