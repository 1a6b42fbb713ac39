"""What a compressed image states of itself: size, samples per pixel, bits and colour of JPEG, JPEG-LS and JPEG 2000."""

from dataclasses import dataclass

JPEG_START, JPEG_2000_START, JP2_START = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
# SOF0 to SOF15 without DHT, JPG and DAC; SOF55 is JPEG-LS
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_APP0, _APP14, _SCAN, _END = 0xE0, 0xEE, 0xDA, 0xD9
_ADOBE_COLOURS = {0: "RGB", 1: "YBR"}  # colour transform of the Adobe segment


@dataclass(frozen=True)
class CodeStream:
    """Properties of one compressed image.

    Attributes:
        width: in pixels.
        height: in pixels.
        samples: per pixel, 1 or 3 as a rule.
        bits: per sample.
        colour: ``RGB`` or ``YBR`` where a JPEG of three samples states it; None where it does not.
    """

    width: int
    height: int
    samples: int
    bits: int
    colour: str | None = None


def starts_image(head: bytes) -> bool:
    """Return whether bytes are the beginning of a JPEG, JPEG-LS or JPEG 2000 image."""
    return head.startswith((JPEG_START, JPEG_2000_START, JP2_START))


def read_code_stream(content: bytes) -> CodeStream | None:
    """Return what an image states of itself; None for another encoding, or a damaged beginning."""
    if content.startswith(JPEG_START):
        return _read_jpeg(content)
    at = content.find(JPEG_2000_START) if content.startswith((JPEG_2000_START, JP2_START)) else -1
    return _read_jpeg_2000(content[at + 4 :]) if at >= 0 else None


def _read_jpeg(content: bytes) -> CodeStream | None:
    position, colour, has_jfif = 2, None, False
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return None
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in (_SCAN, _END):
            return None
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position + 4 : position + 2 + length]
        if marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= 12:
            colour = _ADOBE_COLOURS.get(segment[11])
        has_jfif |= marker == _APP0 and segment.startswith(b"JFIF")
        if marker in _FRAME_MARKERS and len(segment) >= 6:
            height, width = (int.from_bytes(segment[at : at + 2], "big") for at in (1, 3))
            samples = segment[5]
            components = bytes(segment[6 + 3 * number] for number in range(samples) if 6 + 3 * number < len(segment))
            if colour is None and components == b"RGB":
                colour = "RGB"
            colour = colour or ("YBR" if has_jfif else None)
            return CodeStream(width, height, samples, segment[0], colour if samples == 3 else None)
        position += 2 + max(length, 2)
    return None


def _read_jpeg_2000(siz: bytes) -> CodeStream | None:
    # ISO/IEC 15444-1 A.5.1, after the marker: length, capabilities, size and origin of the image, of the tiles, samples
    if len(siz) < 39:
        return None
    right, bottom, left, top = (int.from_bytes(siz[at : at + 4], "big") for at in (4, 8, 12, 16))
    return CodeStream(right - left, bottom - top, int.from_bytes(siz[36:38], "big"), (siz[38] & 0x7F) + 1)
