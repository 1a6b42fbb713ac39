import numpy as np
import pytest

from usvs.data.frame_table import every_nth_frame, labelled_frames, read_frames
from usvs.errors import DataError
from usvs.store.prepared import PreparedStore


def test_every_nth_frame_counts_in_each_scan(grating_store):
    table = every_nth_frame(PreparedStore(grating_store), [0, 3], stride=8)
    assert table.scan.tolist() == [0, 0, 0, 3, 3, 3]
    assert table.frame.tolist() == [0, 8, 16, 0, 8, 16]
    assert table.label.tolist() == [1, 3, 9] * 2


def test_frames_of_a_patient_come_from_both_scans(grating_store):
    store = PreparedStore(grating_store)
    table = labelled_frames(store, stride=4)
    patient = store.scan(2).patient_key
    chosen = table.of_groups([patient])
    assert set(chosen.scan.tolist()) == {2, 3}
    assert set(chosen.group.tolist()) == {patient}
    assert len(labelled_frames(store, 4, "scan").of_groups([store.scans[2]])) == len(chosen) / 2
    with pytest.raises(DataError, match="no labelled frames for patients nobody"):
        table.of_groups(["nobody"])


def test_pixels_come_in_the_tables_order(grating_store):
    store = PreparedStore(grating_store)
    table = labelled_frames(store, stride=1)
    rows = np.random.default_rng(0).permutation(len(table))[:40]
    read = read_frames(store, table.take(rows))
    for picture, row in zip(read, rows, strict=True):
        expected = store.scan(int(table.scan[row])).frames(table.frame[row : row + 1])[0]
        np.testing.assert_array_equal(picture, expected)


def test_unlabelled_frames_are_left_out_and_a_store_without_labels_is_refused(grating_store, monkeypatch):
    store = PreparedStore(grating_store)
    planes = store.scan(0).planes.copy()
    planes[:20] = -1
    monkeypatch.setitem(vars(store.scan(0)), "planes", planes)
    table = labelled_frames(store, stride=1)
    assert (table.scan == 0).sum() == 4
    assert (table.label >= 0).all()
    for number in range(len(store.scans)):
        monkeypatch.setitem(vars(store.scan(number)), "planes", None)
    with pytest.raises(DataError, match="no scan of this store has a plane label"):
        labelled_frames(store, stride=1)
