"""Header of a DICOM file and position of its pixel data, which is not read."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from usvs.errors import DataError
from usvs.media.dicom_correction import Fragment, correct_header, get_optional, group_fragments, read_frame_count
from usvs.media.dicom_values import correct_bits
from usvs.media.quiet_pydicom import quiet_pydicom
from usvs.utils.regular_files import open_regular

MAGIC_POSITION, MAGIC = 128, b"DICM"
UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA_TAG = (0x7FE0, 0x0010)
ITEM_TAG, SEQUENCE_END_TAG = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
MAX_ELEMENT_BYTES = 1 << 20  # longer ones, as scanners' own raw data before the pixels, are skipped and not in memory
VIDEO_STREAM_PREFIX = "1.2.840.10008.1.2.4.10"  # PS3.5 A.4.5 to A.4.11: 100 to 108 are MPEG-2, H.264 and HEVC
_ITEM = struct.Struct("<HHL")


@dataclass(frozen=True)
class DicomFile:
    """Header and layout of one file.

    Attributes:
        path: the file.
        header: every element before the pixel data.
        syntax: transfer syntax.
        value_position: byte position of the pixel data's value.
        value_vr: its value representation, OB or OW; None where the syntax has none.
        value_length: its length in bytes; None if it is encapsulated.
        fragments: byte position and length of each fragment of encapsulated pixel data, without the offset table.
        frames: the fragments of each frame of encapsulated images; empty for other files.
        stated_frames: number of frames in the header as the file has it; None where it has no valid one.
        notes: where the header and the code stream disagree; `header` then has the values of the code stream.
    """

    path: Path
    header: FileDataset
    syntax: UID
    value_position: int
    value_vr: str | None
    value_length: int | None
    fragments: list[Fragment] = field(repr=False)
    frames: list[list[Fragment]] = field(default_factory=list, repr=False)
    stated_frames: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_video_stream(self) -> bool:
        """Whether the pixel data is one MPEG or H.26x stream rather than one image per frame."""
        return str(self.syntax).startswith(VIDEO_STREAM_PREFIX)


def is_dicom(path: Path) -> bool:
    """Return whether a file starts as a DICOM file does, whatever its name."""
    try:
        with open_regular(path) as file:
            return file.read(MAGIC_POSITION + len(MAGIC))[MAGIC_POSITION:] == MAGIC
    except OSError:
        return False


@quiet_pydicom()
def open_dicom(path: Path) -> DicomFile:
    """Read a DICOM file's header and locate its pixel data.

    Raises:
        DataError: if the file cannot be read or holds no images.
    """
    with open_regular(path) as file:
        header = _read_header(file)
        syntax = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
        if not syntax.is_transfer_syntax:
            raise DataError("the DICOM file states no transfer syntax: how its pixels are encoded is unknown")
        if syntax == DeflatedExplicitVRLittleEndian:
            raise DataError("deflated DICOM files are not supported: store the file uncompressed")
        try:
            vr, length = _read_pixel_data_header(file, syntax)
            position = file.tell()
            is_encapsulated = length == UNDEFINED_LENGTH
            fragments = list(_iter_fragments(file)) if is_encapsulated else []
            stated = read_frame_count(header)
            if not is_encapsulated:
                _correct_subsampling(header, length)
            is_images = is_encapsulated and not str(syntax).startswith(VIDEO_STREAM_PREFIX)
            frames = group_fragments(file, fragments, header, stated) if is_images else []
            notes = correct_header(file, header, syntax, frames) if frames else ()
            if not is_encapsulated:
                notes = correct_bits(file, header, syntax, position, length)
        except struct.error:
            raise DataError("truncated or damaged: the DICOM's pixel data is incomplete") from None
    return DicomFile(
        path, header, syntax, position, vr, None if is_encapsulated else length, fragments[1:], frames, stated, notes
    )


class FragmentStream(io.RawIOBase):
    """The video stream inside a DICOM file: its fragments read as one file."""

    def __init__(self, dicom: DicomFile) -> None:
        self._file = open_regular(dicom.path)
        self._fragments = dicom.fragments
        self._size = sum(length for _, length in dicom.fragments)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position in the stream."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the fragment at the position."""
        fragment_start = 0
        for begin, length in self._fragments:
            offset = self._position - fragment_start
            if offset < length:
                self._file.seek(begin + offset)
                count = self._file.readinto(memoryview(buffer)[: length - offset])
                self._position += count
                return count
            fragment_start += length
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _read_header(file: BinaryIO) -> FileDataset:
    try:
        header = dcmread(file, stop_before_pixels=True, defer_size=MAX_ELEMENT_BYTES)
        raw = [(tag, each) for tag, each in header._dict.items() if isinstance(each, RawDataElement)]
        for tag in [
            tag for tag, each in raw if each.value is None and MAX_ELEMENT_BYTES < each.length < UNDEFINED_LENGTH
        ]:
            del header[tag]  # pydicom would read it when it is asked for
        return header
    except Exception as error:  # pydicom raises many types for a damaged header
        raise DataError(f"the DICOM header is not readable ({type(error).__name__})") from None


def _read_pixel_data_header(file: BinaryIO, syntax: UID) -> tuple[str | None, int]:
    byte_order = "<" if syntax.is_little_endian else ">"
    head = file.read(8)
    if len(head) < 8:
        raise DataError("the DICOM file holds no images")
    vr = None if syntax.is_implicit_VR else head[4:6].decode("ascii", "replace")
    if vr is None:
        group, element, length = struct.unpack(f"{byte_order}HHL", head)
    else:
        group, element = struct.unpack(f"{byte_order}HH", head[:4])
        (length,) = struct.unpack(f"{byte_order}L", file.read(4))
    if (group, element) != PIXEL_DATA_TAG:
        raise DataError("the DICOM file holds no images with integer pixels")
    return vr, int(length)


def _iter_fragments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    size = _file_size(file)
    while True:
        group, element, length = _ITEM.unpack(file.read(_ITEM.size))
        if (group, element) == SEQUENCE_END_TAG:
            return
        begin = file.tell()
        if (group, element) != ITEM_TAG or begin + length > size:
            raise DataError("truncated or damaged: the DICOM's pixel data is incomplete")
        yield begin, length
        file.seek(length, io.SEEK_CUR)


def _correct_subsampling(header: FileDataset, length: int) -> None:
    """Set YBR_FULL where the header says YBR_FULL_422 but the pixel data is long enough for all colours."""
    if header.get("PhotometricInterpretation") != "YBR_FULL_422":
        return
    sides = [str(get_optional(header, keyword) or 1) for keyword in ("Rows", "Columns")]
    frame_length = 3 * prod(int(side) for side in sides) if all(side.isdecimal() for side in sides) else 0
    full_length = (read_frame_count(header) or 1) * frame_length if frame_length else -1
    if full_length <= length <= full_length + 1:
        header.PhotometricInterpretation = "YBR_FULL"


def _file_size(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(position)
    return size
