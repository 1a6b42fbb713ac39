"""`FrameDataset`: frames with labels as a torch dataset, from a store or from plain arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Self

from usvs.archive.class_list import ClassList
from usvs.archive.labels import STANDARD_PLANES, standard_planes
from usvs.data.frame_labels import ClassLabels, encode_labels, labels_of_scans
from usvs.data.frame_table import FrameTable, every_nth_frame, labelled_frames, read_frames
from usvs.data.patients import pretraining_keys, scan_groups
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import GroupBy
from usvs.store.prepared import PreparedStore

Labels = str | Mapping[str, Any] | ArrayLike | None
Rows = NDArray[np.integer[Any]] | NDArray[np.bool_] | Sequence[int]
Transform = Callable[[Tensor], Any]


class FrameDataset(Dataset[tuple[Any, int]]):
    """Gray frames with an integer label each, for `torch.utils.data.DataLoader`, `FrameClassifier` or one's own loop.

    ``dataset[i]`` is ``(frame, label)``: the frame as uint8 tensor [1, P, P] with gray levels 0 .. 255, or what
    `transform` makes of that tensor, and the label as int. Frames of a store are read from disk on access.

    Args:
        store: a prepared store's folder, or an open `PreparedStore`.
        labels: ``"planes"``: the frames that have a standard-plane label in the store. The name of another label
            column of the store: the frames that have a label in it. ``None``: all frames, each with
            the label -1. A mapping from scans (keyed hash, or path in the archive) to one class name
            or to one class per frame of the scan: the frames of these scans. An array: one class per frame of the
            dataset that ``labels=None`` gives. Classes are names or numbers; ``None``, ``""`` and -1 mean no label,
            and such frames are left out.
        stride: every `stride`-th frame of a scan is taken; 8 is the paper's (section 3.2).
        transform: applied to the frame tensor of each sample, not to what `read` returns.
        patients: keyed hashes of the patients to use; None for all.
        classes: names of the classes in the order of their labels; None: the planes, or the names found, sorted.
        group_by: ``"scan"`` counts every scan as a patient of its own, for stores without patient ids.

    Attributes:
        labels: [n] int64, class of each frame, -1 without labels.
        patients: [n] keyed hash of each frame's patient: the groups for cross-validation.
        scan: [n] keyed hash of each frame's scan.
        seconds: [n] float64, time of each frame on its scan's clock; NaN where it is not known.
        classes: names of the classes, by label.
        class_list: the same, with colours and the label column of the store that they are of.
        table: the rows as a `FrameTable`; None for a dataset made by `from_arrays`.
        store: the open store; None likewise.

    Raises:
        DataError: for a store without such labels, or with labelled scans of unknown patients.
        ConfigError: for labels that do not fit the store's frames.
    """

    def __init__(
        self,
        store: str | Path | PreparedStore,
        labels: Labels = "planes",
        *,
        stride: int = TEMPORAL_STRIDE,
        transform: Transform | None = None,
        patients: Iterable[str] | None = None,
        classes: Sequence[str] | None = None,
        group_by: GroupBy = "patient",
    ) -> None:
        if stride < 1:
            raise ConfigError(f"stride: expected at least 1, got {stride}")
        opened = store if isinstance(store, PreparedStore) else PreparedStore(Path(store))
        table, names = _list_frames(opened, labels, stride, classes, group_by)
        if patients is not None:
            table = table.of_groups(list(patients))
        self.store: PreparedStore | None = opened
        self.table: FrameTable | None = table
        self._frames: NDArray[np.uint8] | None = None
        self.transform = transform
        self.classes = names
        self.class_list: ClassList = _class_list(opened, labels, names)
        self.labels: NDArray[np.int64] = table.label
        self.patients: NDArray[np.str_] = table.group
        self.scan: NDArray[np.str_] = np.array(opened.scans)[table.scan]
        self.seconds: NDArray[np.float64] = _seconds_of(opened, table)

    @classmethod
    def from_arrays(
        cls,
        frames: ArrayLike | Tensor,
        labels: ArrayLike | None,
        patients: ArrayLike,
        classes: Sequence[str] | None = None,
        seconds: ArrayLike | None = None,
        scan: ArrayLike | None = None,
        transform: Transform | None = None,
    ) -> Self:
        """Make a dataset of frames in memory.

        Args:
            frames: uint8 [n, P, P] or [n, 1, P, P], square gray pictures.
            labels: [n] class of each frame, names or numbers; None for frames without labels.
            patients: [n] id of each frame's patient, compared as text.
            classes: names of the classes in the order of their labels; None: the names found, sorted.
            seconds: [n] time of each frame; None where it is not known.
            scan: [n] id of each frame's scan; None: one scan per patient.
            transform: as of the class.

        Raises:
            ConfigError: for arrays of other shapes, types or lengths.
        """
        pixels = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
        if pixels.ndim == 4 and pixels.shape[1] == 1:
            pixels = pixels[:, 0]
        if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8 or not len(pixels):
            raise ConfigError(
                f"frames: expected uint8 gray levels [n, P, P] or [n, 1, P, P], got {pixels.dtype} {list(pixels.shape)}"
            )
        encoded = encode_labels(np.full(len(pixels), -1) if labels is None else labels, classes)
        groups = np.asarray(patients).astype(np.str_)
        scans = groups if scan is None else np.asarray(scan).astype(np.str_)
        times = np.full(len(pixels), np.nan) if seconds is None else np.asarray(seconds, np.float64)
        columns = {"labels": encoded.label, "patients": groups, "scan": scans, "seconds": times}
        for name, column in columns.items():
            if column.shape != (len(pixels),):
                raise ConfigError(f"{name}: expected one value per frame, {len(pixels)}, got {list(column.shape)}")
        made = cls.__new__(cls)
        made.store, made.table, made._frames = None, None, pixels
        made.transform, made.classes, made.class_list = transform, encoded.classes, ClassList(encoded.classes)
        made.labels, made.patients, made.scan, made.seconds = encoded.label, groups, scans, times
        return made

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        row = range(len(self))[index]  # as of a sequence: negative from the end, IndexError past it
        frame = torch.from_numpy(self.read([row]))
        return frame if self.transform is None else self.transform(frame), int(self.labels[row])

    def read(self, rows: Rows | None = None) -> NDArray[np.uint8]:
        """Return the frames of some rows (numbers or a mask; None for all), without `transform`: uint8 [k, P, P].

        Raises:
            ConfigError: for rows that the dataset does not have.
        """
        chosen = self._numbers(np.arange(len(self)) if rows is None else rows)
        if not len(chosen):
            raise ConfigError("rows: expected at least one, got none")
        if self._frames is not None:
            return self._frames[chosen]
        assert self.store is not None and self.table is not None
        return read_frames(self.store, self.table.take(chosen))

    def subset(self, rows: Rows) -> Self:
        """Return a dataset of some rows, named by numbers or by a mask [n], in that order; `classes` stay.

        Raises:
            ConfigError: for rows that the dataset does not have.
        """
        chosen = self._numbers(rows)
        made = type(self).__new__(type(self))
        made.store, made.transform = self.store, self.transform
        made.classes, made.class_list = self.classes, self.class_list
        made.table = None if self.table is None else self.table.take(chosen)
        made._frames = None if self._frames is None else self._frames[chosen]
        made.labels, made.patients = self.labels[chosen], self.patients[chosen]
        made.scan, made.seconds = self.scan[chosen], self.seconds[chosen]
        return made

    def _numbers(self, rows: Rows) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ConfigError(f"mask: expected {len(self)} values, one per frame, got {list(chosen.shape)}")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise ConfigError(
                f"rows: expected numbers in 0 .. {len(self) - 1}, got {int(chosen.min())} .. {int(chosen.max())}"
            )
        return chosen


def _list_frames(
    store: PreparedStore, labels: Labels, stride: int, classes: Sequence[str] | None, group_by: GroupBy
) -> tuple[FrameTable, tuple[str, ...]]:
    """Rows and class names of a dataset over a store."""
    if isinstance(labels, str):
        if labels != "planes":
            return _of_column(store, labels, stride, classes, group_by)
        return labelled_frames(store, stride, group_by), STANDARD_PLANES if classes is None else tuple(classes)
    if isinstance(labels, Mapping):
        by_scan = labels_of_scans(store, labels)
        table = every_nth_frame(store, sorted(by_scan), stride)
        values = np.concatenate([by_scan[number][::stride] for number in sorted(by_scan)])
        return _with_labels(store, table, encode_labels(values, classes), group_by)
    table = every_nth_frame(store, range(len(store.scans)), stride)
    if labels is not None:
        return _with_labels(store, table, encode_labels(labels, classes), group_by)
    keys = pretraining_keys(store, range(len(store.scans)))
    group = table.group if group_by == "scan" else np.array([keys[number] for number in table.scan.tolist()])
    return replace(table, label=np.full(len(table), -1), group=group), () if classes is None else tuple(classes)


def _of_column(
    store: PreparedStore, column: str, stride: int, classes: Sequence[str] | None, group_by: GroupBy
) -> tuple[FrameTable, tuple[str, ...]]:
    """The frames that have a label in a column of the store."""
    if column not in store.labels.classes:
        have = ", ".join(f"'{name}'" for name in store.labels.classes) or "none"
        expected = f"'planes', a label column of the store ({have}), None, a mapping or an array"
        raise ConfigError(f"labels: expected {expected}, got '{column}'")
    own = store.labels.class_list(column)
    chosen = own if classes is None else ClassList(tuple(classes), column=column)
    return labelled_frames(store, stride, group_by, chosen), chosen.names


def _class_list(store: PreparedStore, labels: Labels, names: tuple[str, ...]) -> ClassList:
    """The class list of a dataset with these class names."""
    known = (
        [standard_planes() if labels == "planes" else store.labels.class_list(labels)]
        if isinstance(labels, str)
        else []
    )
    return known[0] if known and known[0].names == names else ClassList(names)


def _with_labels(
    store: PreparedStore, table: FrameTable, encoded: ClassLabels, group_by: GroupBy
) -> tuple[FrameTable, tuple[str, ...]]:
    """The table's frames that have a label, grouped by patient."""
    if encoded.label.shape != (len(table),):
        raise ConfigError(f"labels: expected one per frame, {len(table)}, got {list(encoded.label.shape)}")
    labelled = replace(table, label=encoded.label).labelled()
    if not len(labelled):
        raise DataError("labels: no frame has a label")
    scans = np.unique(labelled.scan).tolist()
    groups = dict(zip(scans, scan_groups(store, scans, group_by), strict=True))
    return replace(labelled, group=np.array([groups[number] for number in labelled.scan.tolist()])), encoded.classes


def _seconds_of(store: PreparedStore, table: FrameTable) -> NDArray[np.float64]:
    seconds = np.empty(len(table))
    for number in np.unique(table.scan).tolist():
        rows = table.scan == number
        seconds[rows] = store.scan(number).frame_seconds[table.frame[rows]]
    return seconds
