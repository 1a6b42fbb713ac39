"""Files that end before their own lengths say, which FFmpeg reads to the break without a word."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from usvs.media.dicom_file import is_dicom

logger = logging.getLogger(__name__)

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
TAIL_BYTES = 1 << 17  # a packet of an MPEG program stream is at most half as long
TRANSPORT_PACKETS = {188: 0, 192: 4, 204: 0}  # bytes of each, and before its sync byte: broadcast, AVCHD, with parity
SYNC, SYNCS = 0x47, 5  # so many in step are no accident
UNKNOWN_LENGTHS = (0, 0xFFFFFFFF)  # of a recording that was never closed, or went through a pipe
_FIRST_LENGTHED = 0xBB  # start codes from here on are followed by a length; the pack header is not


def breaks_off(path: Path, format_name: str) -> bool:
    """Say whether a file of one of FFmpeg's formats is shorter than the lengths in it; False where there are none."""
    check = next((check for name, check in _CHECKS.items() if format_name.startswith(name)), None)
    if check is None or not path.is_file() or is_dicom(path):
        return False
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def _riff(file: BinaryIO, size: int) -> bool:
    at = 0
    while len(head := file.read(8)) == 8 and head[:4] == b"RIFF":
        length = int.from_bytes(head[4:], "little")
        if length in UNKNOWN_LENGTHS:
            return False
        at += 8 + length + length % 2
        if at > size + 1:
            return True
        file.seek(at)
    return False


def _matroska(file: BinaryIO, size: int) -> bool:
    for expected in (EBML, SEGMENT):
        if file.read(4) != expected:
            return False
        length = _variable_length(file)
        if length is None:
            return False  # written as it grew
        if expected == SEGMENT:
            return file.tell() + length > size
        file.seek(length, os.SEEK_CUR)
    return False


def _variable_length(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    rest = file.read(extra)
    value = int.from_bytes(first + rest, "big") & ~(1 << (7 * (extra + 1)))
    return None if value == (1 << (7 * (extra + 1))) - 1 else value


def _program_stream(file: BinaryIO, size: int) -> bool:
    begin = max(0, size - TAIL_BYTES)
    file.seek(begin)
    tail = file.read()
    at = tail.find(b"\x00\x00\x01\xba")  # from a pack on, packet after packet to the end
    while 0 <= at <= len(tail) - 4 and tail[at : at + 3] == b"\x00\x00\x01":
        if tail[at + 3] < _FIRST_LENGTHED:
            at = tail.find(b"\x00\x00\x01", at + 4)
            continue
        if at + 6 > len(tail):
            return True
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
        if at > len(tail):
            return True
    return False


def _transport_stream(file: BinaryIO, size: int) -> bool:
    head = file.read(max(TRANSPORT_PACKETS) * (SYNCS + 1))
    for begin in range(max(TRANSPORT_PACKETS)):  # a cut-out may begin inside of a packet
        for length, before in TRANSPORT_PACKETS.items():
            syncs = head[begin + before :: length][:SYNCS]
            if len(syncs) == SYNCS and set(syncs) == {SYNC}:
                return (size - begin) % length != 0
    return False


def _boxes(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not kind.isalnum():  # the last one reaches to the end, or what follows is no box
            return False
        at += length
    return at > size


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "avi": _riff,
    "matroska": _matroska,
    "mpegts": _transport_stream,
    "mpeg": _program_stream,
    "mov": _boxes,
    "wav": _riff,
}
