"""`FrameDataset` over a store and over arrays gives the same things."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.labelled_stores import write_store
from usvs.archive.labels import STANDARD_PLANES
from usvs.data import FrameDataset
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.errors import ConfigError, DataError
from usvs.store.prepared import PreparedStore


@pytest.fixture
def frames(grating_store) -> FrameDataset:
    return FrameDataset(grating_store, stride=4)


def test_a_store_s_planes(grating_store, frames):
    store = PreparedStore(grating_store)
    table = labelled_frames(store, stride=4)
    assert len(frames) == len(table) == 6 * 12
    assert frames.labels.tolist() == table.label.tolist() and frames.classes == STANDARD_PLANES
    assert frames.patients.tolist() == table.group.tolist()
    assert frames.scan.tolist() == [store.scans[number] for number in table.scan]
    np.testing.assert_allclose(frames.seconds, 0.04 * table.frame)
    frame, label = frames[7]
    assert frame.dtype == torch.uint8 and frame.shape == (1, 36, 36) and label == table.label[7]
    np.testing.assert_array_equal(frame[0].numpy(), read_frames(store, table)[7])
    assert frames[-1][1] == table.label[-1]
    with pytest.raises(IndexError):
        frames[len(frames)]


def test_transform_is_applied_to_samples_only(grating_store):
    frames = FrameDataset(str(grating_store), stride=8, transform=lambda frame: frame.float() / 255)
    assert frames[0][0].dtype == torch.float32 and frames.read([0]).dtype == np.uint8


def test_subsets_keep_classes_and_order(frames):
    rows = np.array([5, 3, 60])
    chosen = frames.subset(rows)
    for name in ("labels", "patients", "scan", "seconds"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(frames, name)[rows])
    assert chosen.classes == frames.classes
    np.testing.assert_array_equal(chosen.read(), frames.read(rows))
    mask = frames.patients == frames.patients[0]
    one = frames.subset(mask)
    assert set(one.patients) == {frames.patients[0]} and len(one) == mask.sum()
    assert one.table is not None and len(one.table) == len(one)
    with pytest.raises(ConfigError, match=r"rows: expected numbers in 0 .. 71, got 0 .. 72"):
        frames.subset([0, 72])
    with pytest.raises(ConfigError, match="rows: expected at least one, got none"):
        frames.read([])
    with pytest.raises(ConfigError, match="mask: expected 72 values"):
        frames.subset(mask[:5])


def test_patients_limit_the_dataset(grating_store, frames):
    patient = str(frames.patients[-1])
    assert set(FrameDataset(grating_store, patients=[patient]).patients) == {patient}
    with pytest.raises(DataError, match="nobody"):
        FrameDataset(grating_store, patients=["nobody"])


def test_all_frames_without_labels(grating_store, frames):
    unlabelled = FrameDataset(grating_store, labels=None, stride=4)
    assert len(unlabelled) == len(frames) and set(unlabelled.labels) == {-1} and unlabelled.classes == ()
    assert unlabelled.patients.tolist() == frames.patients.tolist()


def test_own_labels_by_scan_key_by_path_and_per_frame(grating_store):
    store = PreparedStore(grating_store)
    per_frame = ["covid"] * 8 + [None] * 8 + ["healthy"] * 8
    labels = {store.scans[0]: "healthy", "2.mp4": "pneumonia", store.scans[5]: per_frame}
    frames = FrameDataset(store, labels, stride=4)
    assert frames.classes == ("covid", "healthy", "pneumonia")
    assert frames.labels.tolist() == [1] * 6 + [2] * 6 + [0, 0, 1, 1]
    assert frames.patients.tolist() == [store.scan(n).patient_key for n in [0] * 6 + [2] * 6 + [5] * 4]
    with pytest.raises(ConfigError, match=r"got 'unknown\.mp4'"):
        FrameDataset(store, {"unknown.mp4": "covid"})
    with pytest.raises(ConfigError, match="expected one class or 24, got"):
        FrameDataset(store, {store.scans[0]: ["covid"] * 3})
    with pytest.raises(ConfigError, match="expected one of healthy, sick, got 'covid'"):
        FrameDataset(store, {store.scans[0]: "covid"}, classes=["healthy", "sick"])
    with pytest.raises(DataError, match="no frame has a label"):
        FrameDataset(store, {store.scans[0]: None})


def test_own_labels_as_an_array(grating_store):
    everything = FrameDataset(grating_store, labels=None, stride=8)
    values = np.arange(len(everything)) % 3 - 1
    frames = FrameDataset(grating_store, values, stride=8, classes=["a", "b"])
    assert frames.labels.tolist() == values[values >= 0].tolist() and frames.classes == ("a", "b")
    np.testing.assert_array_equal(frames.read(), everything.read(values >= 0))
    with pytest.raises(ConfigError, match=f"expected one per frame, {len(everything)}, got"):
        FrameDataset(grating_store, values[:-1], stride=8)
    with pytest.raises(ConfigError, match="expected numbers below 1"):
        FrameDataset(grating_store, values, stride=8, classes=["a"])
    with pytest.raises(ConfigError, match="labels: expected 'planes'"):
        FrameDataset(grating_store, "gaze")


def test_a_store_without_patients_is_refused_unless_grouped_by_scan(tmp_path):
    store = write_store(tmp_path / "store", [None, None])
    with pytest.raises(DataError, match="no patient id"):
        FrameDataset(store)
    assert len(set(FrameDataset(store, group_by="scan").patients)) == 4
    assert len(set(FrameDataset(store, labels=None).patients)) == 4


def test_arrays(frames):
    names = np.array(frames.classes)[frames.labels]
    made = FrameDataset.from_arrays(frames.read(), names, frames.patients, frames.classes, frames.seconds, frames.scan)
    for name in ("labels", "patients", "scan", "seconds"):
        np.testing.assert_array_equal(getattr(made, name), getattr(frames, name))
    assert made.classes == frames.classes and made.table is None
    assert torch.equal(made[9][0], frames[9][0]) and made[9][1] == frames[9][1]
    half = made.subset(np.arange(0, len(made), 2))
    np.testing.assert_array_equal(half.read([1]), frames.read([2]))
    tensors = FrameDataset.from_arrays(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 2, 1]), [7, 7, 8])
    assert tensors.classes == ("0", "1", "2") and tensors.patients.tolist() == ["7", "7", "8"]
    assert np.isnan(tensors.seconds).all() and tensors.scan.tolist() == ["7", "7", "8"]
    assert set(FrameDataset.from_arrays(np.zeros((2, 8, 8), np.uint8), None, ["a", "b"]).labels) == {-1}


@pytest.mark.parametrize(
    ("frames", "labels", "patients", "message"),
    [
        (np.zeros((2, 8, 8)), [0, 1], ["a", "b"], r"frames: expected uint8 .* got float64 \[2, 8, 8\]"),
        (np.zeros((2, 8, 9), np.uint8), [0, 1], ["a", "b"], r"frames: expected .* got uint8 \[2, 8, 9\]"),
        (np.zeros((0, 8, 8), np.uint8), [], [], "frames: expected"),
        (np.zeros((2, 8, 8), np.uint8), [0], ["a", "b"], "labels: expected one value per frame, 2"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], ["a"], "patients: expected one value per frame, 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(frames, labels, patients, message):
    with pytest.raises(ConfigError, match=message):
        FrameDataset.from_arrays(frames, labels, patients)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_the_same(frames, context):
    assert len(pickle.loads(pickle.dumps(frames))) == len(frames)
    loader = DataLoader(frames, batch_size=24, num_workers=1, multiprocessing_context=context)
    pixels, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    np.testing.assert_array_equal(pixels[:, 0].numpy(), frames.read())
    assert labels.tolist() == frames.labels.tolist()
