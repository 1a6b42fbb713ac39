"""The clip table keeps its columns honest."""

from dataclasses import replace

import numpy as np
import pytest

from usvs.errors import DataError
from usvs.sampling.clips import ClipTable


@pytest.fixture
def table() -> ClipTable:
    return ClipTable(
        scan=np.array([0, 0, 2, 2], np.int32),
        start_seconds=np.array([0.0, 2.0, 0.0, 4.0]),
        speech_fraction=np.array([0.9, 0.1, np.nan, 0.0], np.float32),
        scan_patient=np.array([5, 6, -1], np.int32),
    )


def test_columns(table: ClipTable):
    assert len(table) == 4
    assert table.has_sound.tolist() == [True, True, False, True]
    assert table.patient.tolist() == [5, 5, -1, -1]


def test_select_keeps_scan_numbers(table: ClipTable):
    chosen = table.select(np.array([False, True, False, True]))
    assert chosen.scan.tolist() == [0, 2]
    assert chosen.start_seconds.tolist() == [2.0, 4.0]
    assert chosen.patient.tolist() == [5, -1]
    assert len(table.select(np.zeros(4, bool))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_seconds": np.zeros(3)}, "one length"),
        ({"scan": np.array([0, 0, 2, 3], np.int32)}, "wanted scans"),
        ({"scan": np.array([0, 2, 1, 2], np.int32)}, "sorted"),
        ({"start_seconds": np.array([0.0, 2.0, 4.0, 0.0])}, "sorted"),
        ({"start_seconds": np.array([0.0, 0.0, 0.0, 4.0])}, "each once"),
    ],
)
def test_bad_columns_are_refused(table: ClipTable, changes: dict[str, np.ndarray], message: str):
    with pytest.raises(DataError, match=message):
        replace(table, **changes)
