"""Labelled frames as one table over the scans of a store; pixels are read on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usvs.data.patients import scan_groups
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


def every_nth_frame(store: PreparedStore, scans: Sequence[int], stride: int) -> FrameTable:
    """List every `stride`-th frame of the given scans, labelled or not, each scan as a group of its own.

    Args:
        store: the prepared scans.
        scans: numbers of scans in the store.
        stride: temporal down-sampling, in frames; 8 is the paper's (section 3.2).
    """
    columns = []
    for number in scans:
        scan = store.scan(number)
        frames = np.arange(0, len(scan.frame_seconds), stride, dtype=np.int64)
        planes = np.full(len(frames), -1) if scan.planes is None else np.asarray(scan.planes)[frames]
        columns.append((np.full(len(frames), number), frames, planes, np.full(len(frames), scan.scan_key)))
    scan_column, frame, label, group = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return FrameTable(scan_column.astype(np.int32), frame.astype(np.int64), label.astype(np.int64), group)


def labelled_frames(store: PreparedStore, stride: int, group_by: GroupBy = "patient") -> FrameTable:
    """List every `stride`-th frame that has a plane label, over all scans with labels, grouped by patient.

    Args:
        store: the prepared scans.
        stride: temporal down-sampling, in frames.
        group_by: ``scan`` counts each scan as a patient of its own.

    Raises:
        DataError: where no scan has labels, or a labelled one has no patient id and `group_by` is not ``scan``.
    """
    scans = [number for number in range(len(store.scans)) if store.scan(number).planes is not None]
    if not scans:
        raise DataError(
            "no scan of this store has plane labels: put <scan>.planes.csv beside the videos and index again"
        )
    groups = dict(zip(scans, scan_groups(store, scans, group_by), strict=True))
    table = every_nth_frame(store, scans, stride).labelled()
    if not len(table):
        raise DataError(f"no frame has a plane label at a temporal stride of {stride}")
    return replace(table, group=np.array([groups[number] for number in table.scan.tolist()]))


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
