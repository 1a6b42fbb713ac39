"""Labelled frames as one table over the scans of a store; pixels are read on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED, ClassList
from usvs.archive.labels import PLANE_COLUMN, find_plane_index
from usvs.data.patients import scan_groups
from usvs.data.settings import check_stride
from usvs.errors import DataError
from usvs.evaluation.folds import GroupBy
from usvs.store.prepared import PreparedStore


@dataclass(frozen=True)
class FrameTable:
    """Frames of a store, n of them, ordered by scan and time.

    Attributes:
        scan: [n] int32 number of the scan in the store.
        frame: [n] int64 number of the frame in the scan.
        label: [n] int64 class number, -1 where there is no label.
        group: [n] keyed hash of the patient (or scan) that each frame belongs to.
    """

    scan: NDArray[np.int32]
    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    group: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.scan)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "FrameTable":
        """Return the rows named by numbers or by a mask."""
        return FrameTable(self.scan[rows], self.frame[rows], self.label[rows], self.group[rows])

    def of_groups(self, groups: Sequence[str]) -> "FrameTable":
        """Return the frames of these patients.

        Raises:
            DataError: where none of them has a frame in the table.
        """
        chosen = self.take(np.isin(self.group, list(groups)))
        if not len(chosen):
            raise DataError(f"no labelled frames for patients {', '.join(sorted(groups)[:5])}")
        return chosen

    def labelled(self) -> "FrameTable":
        """Return the frames that have a label."""
        return self.take(self.label >= 0)


def frame_classes(store: PreparedStore, scan: int, classes: ClassList | None = None) -> NDArray[np.int64] | None:
    """Return the class number of each frame of a scan [n], -1 without a label; None for a scan without labels.

    Args:
        store: the prepared scans.
        scan: number of the scan in the store.
        classes: of a label column; None: the standard planes. Labels that ``classes.csv`` names as a plane are it.

    Raises:
        DataError: for a label that is no class of the list.
    """
    opened = store.scan(scan)
    if classes is not None:
        return store.labels.of_scan(scan, classes, opened.frame_seconds)
    if opened.planes is None:
        return None
    planes = np.asarray(opened.planes, np.int64)
    renamed = store.labels.renamed(scan, PLANE_COLUMN, opened.frame_seconds)
    for name, is_shown in renamed.items():
        plane = find_plane_index(name)
        planes = np.where(is_shown, UNLABELLED if plane is None else plane, planes)
    return planes


def every_nth_frame(
    store: PreparedStore, scans: Sequence[int], stride: int, classes: ClassList | None = None
) -> FrameTable:
    """List every `stride`-th frame of the given scans, labelled or not, each scan as a group of its own.

    Args:
        store: the prepared scans.
        scans: numbers of scans in the store.
        stride: temporal down-sampling, in frames; 8 is the paper's (section 3.2).
        classes: as of `frame_classes`.
    """
    check_stride(stride)
    columns = []
    for number in scans:
        scan = store.scan(number)
        frames = np.arange(0, len(scan.frame_seconds), stride, dtype=np.int64)
        known = frame_classes(store, number, classes)
        label = np.full(len(frames), UNLABELLED) if known is None else known[frames]
        columns.append((np.full(len(frames), number), frames, label, np.full(len(frames), scan.scan_key)))
    scan_column, frame, label, group = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return FrameTable(scan_column.astype(np.int32), frame.astype(np.int64), label.astype(np.int64), group)


def labelled_frames(
    store: PreparedStore, stride: int, group_by: GroupBy = "patient", classes: ClassList | None = None
) -> FrameTable:
    """List every `stride`-th frame that has a label, over all scans with labels, grouped by patient.

    Args:
        store: the prepared scans.
        stride: temporal down-sampling, in frames.
        group_by: ``scan`` counts each scan as a patient of its own.
        classes: as of `frame_classes`.

    Raises:
        DataError: where no scan has labels, a label is of none of the classes, or a labelled scan has no patient id and
            `group_by` is not ``scan``.
    """
    everyone = range(len(store.scans))
    labels = ((number, frame_classes(store, number, classes)) for number in everyone)
    scans = [number for number, known in labels if known is not None and (classes is None or (known >= 0).any())]
    what = "plane label" if classes is None else f"label in column '{classes.column}'"
    if not scans:
        file = "<scan>.planes.csv beside the videos" if classes is None else "a labels.csv into the archive"
        raise DataError(f"no scan of this store has a {what}: put {file} and index again{_other_columns(store)}")
    groups = dict(zip(scans, scan_groups(store, scans, group_by), strict=True))
    table = every_nth_frame(store, scans, stride, classes).labelled()
    if not len(table):
        raise DataError(f"no frame has a {what} at a temporal stride of {stride}{_other_columns(store)}")
    return replace(table, group=np.array([groups[number] for number in table.scan.tolist()]))


def _other_columns(store: PreparedStore) -> str:
    """Return a hint at the label columns of a store."""
    names = ", ".join(f"'{name}'" for name in store.labels.classes)
    return f"; its labels are in {names}: see --labels and 'usvs finetune classify'" if names else ""


def read_frames(store: PreparedStore, table: FrameTable) -> NDArray[np.uint8]:
    """Read the table's frames, in its order: uint8 [n, P, P]; a table of no frames cannot be read."""
    pixels: NDArray[np.uint8] | None = None
    for number in np.unique(table.scan):
        rows = np.flatnonzero(table.scan == number)
        read = store.scan(int(number)).frames(table.frame[rows])
        if pixels is None:
            pixels = np.empty((len(table), *read.shape[1:]), dtype=np.uint8)
        pixels[rows] = read
    assert pixels is not None, "an empty table has no frames to read"
    return pixels
