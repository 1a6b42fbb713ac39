"""What an index has found out so far, a line a scan: one that was stopped goes on from there."""

import json
from binascii import Error, a2b_base64, b2a_base64
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

JOURNAL = ".looked_into"

Looked = tuple[dict[str, object], NDArray[np.float32] | None]  # a row of the catalogue, its clips' speech fractions


class Journal:
    """Rows of the catalogue as they are made, each under its `state`; a kill costs at most the last.

    Lies beside the catalogue and goes when that is published.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, int] = {}
        (folder / JOURNAL).touch()
        self._file = (folder / JOURNAL).open("r+b")
        self._end = 0
        for line in self._file:
            try:
                row, _ = _read(line)
            except (ValueError, TypeError, Error):
                break  # written when the kill came; what follows is not there
            self._places[str(row.get("state"))] = self._end
            self._end += len(line)
        self._file.truncate(self._end)

    def __contains__(self, state: str) -> bool:
        return state in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, state: str) -> Looked:
        """Return what was found out of a scan in this state."""
        self._file.seek(self._places[state])
        return _read(self._file.readline())

    def add(self, row: dict[str, object], fractions: NDArray[np.float32] | None) -> None:
        """Write a row down, so that it outlives this process."""
        packed = None if fractions is None else b2a_base64(fractions.astype("<f4").tobytes(), newline=False).decode()
        line = json.dumps([row, packed]).encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._file.flush()
        self._places[str(row["state"])] = self._end
        self._end += len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def _read(line: bytes) -> Looked:
    if not line.endswith(b"\n"):
        raise ValueError("the line is not whole")
    row, packed = json.loads(line)
    return dict(row), None if packed is None else np.frombuffer(a2b_base64(packed), "<f4")
