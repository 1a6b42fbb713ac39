"""Number of pictures in one PNG or JPEG: decoders of still pictures return the first without a word."""

import struct
from collections.abc import Iterator

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_END_AND_START = b"\xff\xd9\xff\xd8\xff"  # of two JPEG files in a row
_SCAN, _APP2 = 0xDA, 0xE2
_MULTI_PICTURE = b"MPF\0"  # CIPA DC-007: a camera's main picture, and previews or a gain map of it


def count_pictures(content: bytes) -> int:
    """Return the number of pictures of an animated PNG, or of PNG or JPEG files in a row; 1 for any other file.

    Source: APNG specification 1.0 (a chunk fcTL before each frame).
    """
    if content.startswith(PNG_MAGIC):
        return _count_png(content)
    return _count_jpeg(content) if content.startswith(JPEG_MAGIC) else 1


def _count_png(content: bytes) -> int:
    chunks = [kind for kind in _iter_chunks(content) if kind in (b"acTL", b"fcTL", b"IDAT", b"IEND")]
    files, frames = content.count(b"IEND\xaeB`\x82" + PNG_MAGIC) + 1, chunks.count(b"fcTL")
    if b"acTL" not in chunks or not frames:
        return files
    is_apart = b"IDAT" in chunks and chunks.index(b"IDAT") < chunks.index(b"fcTL")  # for viewers without animation
    return max(files, frames + is_apart)


def _iter_chunks(content: bytes) -> Iterator[bytes]:
    position = len(PNG_MAGIC)
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind
        position += 12 + length


def _count_jpeg(content: bytes) -> int:
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:  # segments before the coded picture
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _SCAN:
            return 1 + content.count(_END_AND_START, position)
        if marker == _APP2 and content.startswith(_MULTI_PICTURE, position + 4):
            return 1
        position += 1 if marker == 0xFF else 2 + max(length, 2)
    return 1
