"""Columns on disk: read by numpy and by us, written piece by piece, damaged ones refused."""

from pathlib import Path

import numpy as np
import pytest

from usvs.utils import columns
from usvs.utils.columns import ColumnWriter, blocks, map_column, scratch_column


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.int32, np.int64, np.uint32, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (7, 2), (0, 2)])
def test_what_numpy_saved_is_mapped(tmp_path: Path, dtype: type, shape: tuple[int, ...]):
    values = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = map_column(tmp_path / "a.npy")
    assert found.dtype == dtype and type(found) is np.ndarray
    assert len(list(Path("/proc/self/fd").iterdir())) <= before, "a mapped column keeps no file handle"
    np.testing.assert_array_equal(found, values)
    assert not found.size or not found.flags.writeable


def test_pieces_are_one_column_that_numpy_reads(tmp_path: Path):
    with ColumnWriter(tmp_path / "a.npy", np.int32) as writer:
        for length in (3, 0, 5):
            writer.append(np.arange(length))
    expected = [0, 1, 2, 0, 1, 2, 3, 4]
    assert np.load(tmp_path / "a.npy", allow_pickle=False).tolist() == expected
    assert map_column(tmp_path / "a.npy").tolist() == expected


def test_a_column_that_was_not_finished_is_refused(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), ColumnWriter(tmp_path / "a.npy", np.int32) as writer:
        writer.append(np.arange(3))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match=r"expected a .npy file"):
        map_column(tmp_path / "a.npy")


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2)), np.array(["a"]), np.array(0.0), np.zeros((4, 4), order="F")])
def test_other_kinds_are_refused(tmp_path: Path, values: np.ndarray):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=r"expected a .npy file in C order|integer is required"):
        map_column(tmp_path / "a.npy").sum()


def test_a_short_file_is_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(100))
    content = (tmp_path / "a.npy").read_bytes()
    for length in (0, 5, 60, len(content) - 1):
        (tmp_path / "a.npy").write_bytes(content[:length])
        with pytest.raises(ValueError):
            map_column(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        map_column(tmp_path / "b.npy")


def test_long_scratch_columns_lie_in_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "SCRATCH_BYTES", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for length in (12, 1000):
        column = scratch_column(length, np.int64)
        column[:] = np.arange(length)
        assert column.sum() == length * (length - 1) // 2
        assert isinstance(column.base, np.memmap) == (length == 1000)
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_the_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "BLOCK", 7)
    for length in (0, 1, 7, 20):
        assert [i for block in blocks(length) for i in range(block.start, block.stop)] == list(range(length))
