"""The clip table validates its columns and selects clips from memory and from files."""

from dataclasses import replace

import numpy as np
import pytest

from usvs.errors import DataError
from usvs.store.clips import ClipTable


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
        ({"scan": np.array([0, 0, 2, 3], np.int32)}, "expected scans"),
        ({"scan": np.array([0, 2, 1, 2], np.int32)}, "sorted"),
        ({"start_seconds": np.array([0.0, 2.0, 4.0, 0.0])}, "sorted"),
        ({"start_seconds": np.array([0.0, 0.0, 0.0, 4.0])}, "each once"),
    ],
)
def test_bad_columns_are_refused(table: ClipTable, changes: dict[str, np.ndarray], message: str):
    with pytest.raises(DataError, match=message):
        replace(table, **changes)


def test_a_selection_is_the_same_in_blocks_and_in_files(monkeypatch: pytest.MonkeyPatch):
    from usvs.utils import columns

    def chosen() -> list[ClipTable]:
        rng = np.random.default_rng(0)
        table = ClipTable(
            scan=np.repeat(np.arange(20, dtype=np.int32), 30),
            start_seconds=np.tile(2.0 * np.arange(30), 20),
            speech_fraction=rng.random(600).astype(np.float32),
            scan_patient=np.arange(20, dtype=np.int32),
        )
        return [table.select(rng.random(600) < 0.3), table.of_scans(np.arange(20) % 3 == 1)]

    in_memory = chosen()
    assert sorted(set(in_memory[1].scan.tolist())) == [1, 4, 7, 10, 13, 16, 19]
    monkeypatch.setattr(columns, "BLOCK", 7)
    monkeypatch.setattr(columns, "SCRATCH_BYTES", 64)
    for one, other in zip(in_memory, chosen(), strict=True):
        for name in ("scan", "start_seconds", "speech_fraction", "scan_patient"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    unsorted = np.arange(600)[::-1].astype(np.float64)
    with pytest.raises(DataError, match="sorted by scan and start"):
        ClipTable(np.zeros(600, np.int32), unsorted, np.zeros(600, np.float32), np.zeros(1, np.int32))
