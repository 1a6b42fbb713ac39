"""Columns of numbers on disk: .npy files that are memory-mapped, so that only what is used is read.

Headers are parsed here, not by `numpy.load`: it uses `ast`, which on CPython 3.11 fails in one thread while
`torch.jit.script` runs in another (gh-106905).
"""

import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from usvs.utils.regular_files import open_regular

Column = npt.NDArray[Any]

_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)\{'descr': '([<|][a-z]\d+)', 'fortran_order': False, "
    rb"'shape': \((\d+),(?: ?(\d+))?\), \} *\n",
    re.DOTALL,
)
_HEADER_BYTES = 128  # enough for any length, so that the header can be written last
BLOCK = 1 << 20  # elements processed at once, to bound the memory
SCRATCH_BYTES = 64 << 20  # a longer column is stored in a file


def map_column(path: Path) -> Column:
    """Map a .npy file of one or two dimensions, read-only.

    Raises:
        ValueError: if it is not such a file, or shorter than its header says.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        header = _HEADER.match(file.read(256))
        size = os.fstat(file.fileno()).st_size
    if header is None:
        raise ValueError("expected a .npy file in C order with one or two dimensions")
    kind, rows, columns = header.groups()
    shape = (int(rows), int(columns)) if columns else (int(rows),)
    dtype = np.dtype(kind.decode())
    end = header.end() + dtype.itemsize * math.prod(shape)
    if end > size:
        raise ValueError(f"expected {end} bytes, got {size}")
    if 0 in shape:
        return np.empty(shape, dtype)
    import torch  # takes seconds, and processes that only write columns do not need it

    # not numpy.memmap: Python's mmap keeps a file handle open for each file
    mapped = torch.from_file(os.fspath(path), shared=False, size=end, dtype=torch.uint8).numpy()
    column = mapped[header.end() :].view(dtype).reshape(shape)
    column.flags.writeable = False
    return column


def blocks(length: int) -> Iterator[slice]:
    """Yield slices of at most `BLOCK` elements that together cover range(length)."""
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))


class ColumnWriter:
    """Writes a column of unknown length in pieces; the file is a complete .npy file after `close`."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.length: int = 0
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER_BYTES))

    def append(self, values: Column) -> None:
        """Append values [n]."""
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.length += len(values)

    def close(self) -> None:
        """Write the header and make the file durable."""
        text = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({self.length},), }}"
        magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        self._file.seek(0)
        self._file.write(magic + text.ljust(_HEADER_BYTES - 11).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def scratch_column(length: int, dtype: npt.DTypeLike) -> Column:
    """Return an uninitialised column: in memory or, if it is long, in an unnamed file in TMPDIR."""
    dtype = np.dtype(dtype)
    if length * dtype.itemsize <= SCRATCH_BYTES:
        return np.empty(length, dtype)
    with tempfile.TemporaryFile(prefix="usvs-") as file:
        file.truncate(length * dtype.itemsize)
        return np.memmap(file, dtype, "r+", shape=(length,)).view(np.ndarray)
