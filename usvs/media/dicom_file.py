"""A DICOM file's header and where its pixels lie, without reading them."""

import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from struct import Struct, error
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from usvs.errors import DataError

logger = logging.getLogger(__name__)

MAGIC_AT, MAGIC = 128, b"DICM"
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
VIDEO_STREAMS = "1.2.840.10008.1.2.4.10"  # PS3.5 A.4.5 to A.4.11: 100 to 108 are MPEG-2, H.264 and HEVC
_ITEM = Struct("<HHL")


@dataclass(frozen=True)
class DicomFile:
    """Header and layout of one file.

    Attributes:
        header: every element before the pixel data.
        syntax: its transfer syntax.
        value_at: where the value of the pixel data begins.
        value_vr: its value representation, OB or OW; None where the syntax leaves it out.
        value_length: its bytes; None where it is encapsulated.
        fragments: begin and length of each piece of encapsulated pixel data, the offset table left out.
    """

    path: Path
    header: FileDataset
    syntax: UID
    value_at: int
    value_vr: str | None
    value_length: int | None
    fragments: list[tuple[int, int]] = field(repr=False)

    @property
    def is_video_stream(self) -> bool:
        """Whether the pixel data is one MPEG or H.26x stream, not a picture for each frame."""
        return str(self.syntax).startswith(VIDEO_STREAMS)


def is_dicom(path: Path) -> bool:
    """Say whether a file begins as a DICOM file does, whatever its name."""
    try:
        if not path.is_file():  # a pipe would keep who reads it waiting
            return False
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return False


def open_dicom(path: Path) -> DicomFile:
    """Read a DICOM file's header.

    Raises:
        DataError: where it cannot be read, or holds no pictures.
    """
    with path.open("rb") as file:
        header = _header(file)
        syntax = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
        if not syntax.is_transfer_syntax:
            raise DataError("the DICOM file does not say how its pixels are coded (no transfer syntax)")
        if syntax == DeflatedExplicitVRLittleEndian:
            raise DataError("a deflated DICOM file is not read; store it uncompressed")
        try:
            vr, length = _pixel_data(file, syntax)
            at = file.tell()
            encapsulated = length == UNDEFINED_LENGTH
            fragments = list(_fragments(file)) if encapsulated else []
            if not encapsulated:
                _correct_halved(header, length)
        except error:
            raise DataError("truncated or damaged: the DICOM's pixel data breaks off") from None
    return DicomFile(path, header, syntax, at, vr, None if encapsulated else length, fragments[1:])


class FragmentStream(io.RawIOBase):
    """The stream inside a DICOM file's pixel data, read piece by piece as if it were a file of its own."""

    def __init__(self, dicom: DicomFile) -> None:
        self._file = dicom.path.open("rb")
        self._fragments = dicom.fragments
        self._size = sum(length for _, length in dicom.fragments)
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place in the stream."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place in the stream."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the fragment that holds the place."""
        before = 0
        for begin, length in self._fragments:
            inside = self._at - before
            if inside < length:
                self._file.seek(begin + inside)
                count = self._file.readinto(memoryview(buffer)[: length - inside])
                self._at += count
                return count
            before += length
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _header(file: BinaryIO) -> FileDataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote the file's values
            return dcmread(file, stop_before_pixels=True)
    except Exception as failure:  # pydicom raises a dozen kinds over a damaged header
        raise DataError(f"the DICOM header is not readable ({type(failure).__name__})") from None


def _pixel_data(file: BinaryIO, syntax: UID) -> tuple[str | None, int]:
    order = "<" if syntax.is_little_endian else ">"
    head = file.read(8)
    if len(head) < 8:
        raise DataError("the DICOM file holds no pictures")
    vr = None if syntax.is_implicit_VR else head[4:6].decode("ascii", "replace")
    if vr is None:
        group, element, length = Struct(f"{order}HHL").unpack(head)
    else:
        group, element = Struct(f"{order}HH").unpack(head[:4])
        (length,) = Struct(f"{order}L").unpack(file.read(4))
    if (group, element) != (0x7FE0, 0x0010):
        raise DataError("the DICOM file holds no pictures of whole numbers")
    return vr, int(length)


def _fragments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    size = _size(file)
    while True:
        group, element, length = _ITEM.unpack(file.read(_ITEM.size))
        if (group, element) == SEQUENCE_END:
            return
        begin = file.tell()
        if (group, element) != ITEM or begin + length > size:
            raise DataError("truncated or damaged: the DICOM's pixel data breaks off")
        yield begin, length
        file.seek(length, io.SEEK_CUR)


def _correct_halved(header: FileDataset, length: int) -> None:
    if header.get("PhotometricInterpretation") != "YBR_FULL_422":
        return
    sides = [str(header.get(name) or 1) for name in ("NumberOfFrames", "Rows", "Columns")]
    whole = 3 * prod(int(side) for side in sides) if all(side.isdecimal() for side in sides) else -1
    if whole <= length <= whole + 1:  # some writers call it so and halve no colour
        header.PhotometricInterpretation = "YBR_FULL"


def _size(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(at)
    return size
