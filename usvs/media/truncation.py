"""Detection of truncated files: files that are shorter than the lengths stored in them.

FFmpeg reads such a file to its end without an error, so the lengths are compared here.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from usvs.media.dicom_file import is_dicom
from usvs.utils.regular_files import open_regular

EBML_ID, SEGMENT_ID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # Matroska
UNKNOWN_RIFF_LENGTHS = (0, 0xFFFFFFFF)  # of a recording that was never closed, or was written to a pipe
PROGRAM_STREAM_TAIL_BYTES = 1 << 17  # a packet of an MPEG program stream is at most half as long
FIRST_CODE_WITH_LENGTH = 0xBB  # MPEG start codes from here on are followed by a length; the pack header (0xBA) is not
# MPEG transport stream: bytes per packet, and bytes before its sync byte: broadcast, AVCHD, with error correction
TRANSPORT_PACKETS = {188: 0, 192: 4, 204: 0}
SYNC_BYTE, MIN_SYNC_BYTES = 0x47, 5  # this many sync bytes at equal distances are not a coincidence
TRANSPORT_WINDOW_BYTES = max(TRANSPORT_PACKETS) * (MIN_SYNC_BYTES + 1)


def is_truncated(path: Path, format_name: str) -> bool:
    """Return whether a file is shorter than the lengths stored in it; False for formats that store none.

    Args:
        path: file to check.
        format_name: FFmpeg's name of its format.
    """
    check = next((check for name, check in _CHECKS.items() if format_name.startswith(name)), None)
    if check is None or not path.is_file() or is_dicom(path):
        return False
    with open_regular(path) as file:
        return check(file, path.stat().st_size)


def _check_riff(file: BinaryIO, size: int) -> bool:
    position = 0
    while len(head := file.read(8)) == 8 and head[:4] == b"RIFF":
        length = int.from_bytes(head[4:], "little")
        if length in UNKNOWN_RIFF_LENGTHS:
            return False
        position += 8 + length + length % 2
        if position > size + 1:
            return True
        file.seek(position)
    return False


def _check_matroska(file: BinaryIO, size: int) -> bool:
    for expected_id in (EBML_ID, SEGMENT_ID):
        if file.read(4) != expected_id:
            return False
        length = _read_ebml_length(file)
        if length is None:
            return False  # a live recording, whose length was not known
        if expected_id == SEGMENT_ID:
            return file.tell() + length > size
        file.seek(length, os.SEEK_CUR)
    return False


def _read_ebml_length(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra_bytes = 8 - first[0].bit_length()
    rest = file.read(extra_bytes)
    value = int.from_bytes(first + rest, "big") & ~(1 << (7 * (extra_bytes + 1)))
    return None if value == (1 << (7 * (extra_bytes + 1))) - 1 else value


def _check_program_stream(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - PROGRAM_STREAM_TAIL_BYTES))
    tail = file.read()
    position = tail.find(b"\x00\x00\x01\xba")  # a pack header; from there on, packet follows packet to the end
    while 0 <= position <= len(tail) - 4 and tail[position : position + 3] == b"\x00\x00\x01":
        if tail[position + 3] < FIRST_CODE_WITH_LENGTH:
            position = tail.find(b"\x00\x00\x01", position + 4)
            continue
        if position + 6 > len(tail):
            return True
        position += 6 + int.from_bytes(tail[position + 4 : position + 6], "big")
        if position > len(tail):
            return True
    return False


def is_transport_stream(path: Path) -> bool:
    """Return whether a file begins with packets of an MPEG transport stream, whatever is in them."""
    with open_regular(path) as file:
        return _find_packets(file.read(TRANSPORT_WINDOW_BYTES)) is not None


def _find_packets(content: bytes) -> tuple[int, int] | None:
    """Return where the first packet begins and how long packets are; None without `MIN_SYNC_BYTES` packets in a row."""
    for begin in range(max(TRANSPORT_PACKETS)):  # a part cut out of a broadcast may begin inside a packet
        for length, before_sync in TRANSPORT_PACKETS.items():
            sync_bytes = content[begin + before_sync :: length][:MIN_SYNC_BYTES]
            if len(sync_bytes) == MIN_SYNC_BYTES and set(sync_bytes) == {SYNC_BYTE}:
                return begin, length
    return None


def _check_transport_stream(file: BinaryIO, size: int) -> bool:
    head = _find_packets(file.read(TRANSPORT_WINDOW_BYTES))
    if head is None:
        return False
    # The end is compared with the packets just before it: foreign bytes in the middle move all that follow.
    position = max(0, size - TRANSPORT_WINDOW_BYTES)
    file.seek(position)
    tail = _find_packets(file.read())
    begin, length = head if tail is None else (position + tail[0], tail[1])
    return (size - begin) % length != 0


def _check_mp4(file: BinaryIO, size: int) -> bool:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not kind.isalnum():  # the last box extends to the end of the file, or this is not a box
            return False
        position += length
    return position > size


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "avi": _check_riff,
    "matroska": _check_matroska,
    "mpegts": _check_transport_stream,
    "mpeg": _check_program_stream,
    "mov": _check_mp4,
    "wav": _check_riff,
}
