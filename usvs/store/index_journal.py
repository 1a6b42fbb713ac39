"""The results of an index so far, one line per scan, so that an interrupted index can resume."""

import json
from binascii import Error, a2b_base64, b2a_base64
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

JOURNAL_FILE = ".index_journal"

IndexedScan = tuple[dict[str, object], NDArray[np.float32] | None]  # row of the catalogue, speech fraction of each clip


class IndexJournal:
    """Rows of the catalogue by their `state`, written as they are made; a kill loses at most the last one.

    The file is in the folder of the catalogue and is removed when the catalogue is published.
    """

    def __init__(self, folder: Path) -> None:
        self._offsets: dict[str, int] = {}
        (folder / JOURNAL_FILE).touch()
        self._file = (folder / JOURNAL_FILE).open("r+b")
        self._end = 0
        for line in self._file:
            try:
                row, _ = _parse(line)
            except (ValueError, TypeError, Error):
                break  # the kill interrupted this write
            self._offsets[str(row.get("state"))] = self._end
            self._end += len(line)
        self._file.truncate(self._end)

    def __contains__(self, state: str) -> bool:
        return state in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, state: str) -> IndexedScan:
        """Return the scan that was indexed in this state."""
        self._file.seek(self._offsets[state])
        return _parse(self._file.readline())

    def add(self, row: dict[str, object], speech_fractions: NDArray[np.float32] | None) -> None:
        """Append a scan; it survives a kill of this process."""
        packed = None
        if speech_fractions is not None:
            packed = b2a_base64(speech_fractions.astype("<f4").tobytes(), newline=False).decode()
        line = json.dumps([row, packed]).encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._file.flush()
        self._offsets[str(row["state"])] = self._end
        self._end += len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._file.close()


def _parse(line: bytes) -> IndexedScan:
    if not line.endswith(b"\n"):
        raise ValueError("the line is incomplete")
    row, packed = json.loads(line)
    return dict(row), None if packed is None else np.frombuffer(a2b_base64(packed), "<f4")
