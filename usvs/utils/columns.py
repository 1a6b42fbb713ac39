"""Columns of numbers on disk, as .npy files that are mapped into memory: what is not touched costs none.

`numpy.load` parses a header with `ast`, which on CPython 3.11 fails in a thread while `torch.jit.script` runs in
another (gh-106905), so headers are read here.
"""

import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

Column = npt.NDArray[Any]

_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)\{'descr': '([<|][a-z]\d+)', 'fortran_order': False, "
    rb"'shape': \((\d+),(?: ?(\d+))?\), \} *\n",
    re.DOTALL,
)
_HEADER_BYTES = 128  # with room for any length, so that it can be filled in last
BLOCK = 1 << 20  # numbers gone through at once, where a whole column at once would be memory
SCRATCH_BYTES = 64 << 20  # a column that is longer is laid into a file


def map_column(path: Path) -> Column:
    """Map the numbers of a .npy file of one or two dimensions, for reading.

    Raises:
        ValueError: where it is no such file, or shorter than it says.
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        found = _HEADER.match(file.read(256))
        size = os.fstat(file.fileno()).st_size
    if found is None:
        raise ValueError("no .npy file of a kind that is written here")
    kind, rows, columns = found.groups()
    shape = (int(rows), int(columns)) if columns else (int(rows),)
    dtype = np.dtype(kind.decode())
    end = found.end() + dtype.itemsize * math.prod(shape)
    if end > size:
        raise ValueError(f"expected {end} bytes, got {size}")
    if 0 in shape:
        return np.empty(shape, dtype)
    import torch  # seconds, and whoever only writes columns needs none of it

    # not numpy's memmap: Python's mmap keeps a file handle for each
    mapped = torch.from_file(os.fspath(path), shared=False, size=end, dtype=torch.uint8).numpy()
    column = mapped[found.end() :].view(dtype).reshape(shape)
    column.flags.writeable = False
    return column


def blocks(length: int) -> Iterator[slice]:
    """Yield slices that together are range(length)."""
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))


class ColumnWriter:
    """Writes a column piece by piece, however long it gets; the file is a whole .npy file after `close`."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER_BYTES))

    def append(self, values: Column) -> None:
        """Add values to the end [n]."""
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def scratch_column(length: int, dtype: npt.DTypeLike) -> Column:
    """Return a column to be filled: in memory or, where it is long, in a nameless file of TMPDIR."""
    dtype = np.dtype(dtype)
    if length * dtype.itemsize <= SCRATCH_BYTES:
        return np.empty(length, dtype)
    with tempfile.TemporaryFile(prefix="usvs-") as file:
        file.truncate(length * dtype.itemsize)
        return np.memmap(file, dtype, "r+", shape=(length,)).view(np.ndarray)
