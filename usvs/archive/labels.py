"""The standard planes, and csv files that state when each plane is shown.

Labels of any kind are read by `usvs.archive.label_tracks`, those of planes too; here is what the paper's fixed classes
need besides: their names, their order and their common other names.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED, ClassList
from usvs.archive.csv_rows import CsvFile, CsvRow, describe_columns, open_csv
from usvs.archive.mixed_tables import find_identity_columns, find_rows_of_scan
from usvs.errors import DataError

# Classes in the order of the paper's section 3.2; the integer label of a plane is its index here.
STANDARD_PLANES: tuple[str, ...] = (
    "3VT",
    "4CH",
    "abdomen",
    "femur",
    "brain_tv",
    "kidneys",
    "LVOT",
    "lips",
    "profile",
    "RVOT",
    "brain_tc",
    "spine_cor",
    "spine_sag",
    "background",
)
BACKGROUND = STANDARD_PLANES.index("background")
# fmt: off
# Other names of the planes: of SonoNet, of the Fetal Anomaly Screening Programme, and common spellings
PLANE_ALIASES = {
    "3vv": "3VT", "three_vessel_trachea": "3VT", "four_chamber": "4CH", "4_chamber": "4CH", "abdominal": "abdomen",
    "brain_transventricular": "brain_tv", "brain_trans_ventricular": "brain_tv", "brain_cb": "brain_tc",
    "brain_transcerebellar": "brain_tc", "brain_trans_cerebellum": "brain_tc", "kidney": "kidneys",
    "lip": "lips", "spine_coronal": "spine_cor", "spine_sagittal": "spine_sag", "spine_sagital": "spine_sag",
}
# fmt: on
INTERVAL_COLUMNS = ("start_seconds", "end_seconds", "plane")
FRAME_COLUMNS = ("frame", "plane")
MAX_DIGITS = 18  # of a frame number
PLANE_COLUMN = "plane"
FILE_KIND = "plane labels"  # error messages begin with it

Interval = tuple[float, float, int]  # start and end in seconds, label


@dataclass(frozen=True)
class PlaneLabels:
    """Half-open intervals on the scan clock, sorted and without overlap, n of them.

    Attributes:
        start_seconds: [n].
        end_seconds: exclusive [n].
        plane: index in `STANDARD_PLANES`, -1 for a label that is none of them [n].
    """

    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    plane: NDArray[np.int16]

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.int16]:
        """Return the label at each time [m]; `UNLABELLED` (-1) outside of all intervals.

        Args:
            seconds: times on the scan clock [m].
        """
        row = np.searchsorted(self.start_seconds, seconds, side="right") - 1
        if len(self.plane) == 0:
            return np.full(len(seconds), UNLABELLED, np.int16)
        inside = (row >= 0) & (seconds < self.end_seconds[row])
        return np.where(inside, self.plane[row], UNLABELLED).astype(np.int16)

    def note(self, duration_seconds: float) -> str | None:
        """Return a line on labels that are no standard planes, and on intervals outside of a scan of this duration."""
        notes = []
        if (self.plane == UNLABELLED).any():
            notes.append(
                f"{FILE_KIND}: some are no standard planes: 'usvs finetune classify' makes classes of them, "
                "'usvs finetune planes' leaves them out"
            )
        outside = int(((self.start_seconds >= duration_seconds) | (self.end_seconds <= 0)).sum())
        if outside > 0:
            notes.append(self._outside_note(outside, duration_seconds))
        return "; ".join(notes) or None

    def _outside_note(self, outside: int, duration_seconds: float) -> str:
        span = f"{self.start_seconds.min():g} to {self.end_seconds.max():g} s"
        return (
            f"{FILE_KIND}: {outside} of {len(self.plane)} intervals are outside of the scan: "
            f"expected 0 to {duration_seconds:.1f} s, got {span}"
        )


def find_plane_index(name: str) -> int | None:
    """Return the label of a plane from its name or one of its aliases; None for an unknown name."""
    word = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    index_of = {plane.lower(): index for index, plane in enumerate(STANDARD_PLANES)}
    return index_of.get(PLANE_ALIASES.get(word, word).lower())


def read_plane_labels(
    path: str | Path, frame_seconds: NDArray[np.float64] | None = None, names: Sequence[str] = ()
) -> PlaneLabels:
    """Read a `<stem>.planes.csv`: ``start_seconds,end_seconds,plane`` for intervals, or ``frame,plane`` for frames.

    Args:
        path: the csv.
        frame_seconds: frame times of the video, required for labels by frame; the first frame has index 0 [n].
        names: paths in the archive of the scan and of this file, by which the rows of one of several scans are chosen.

    Raises:
        DataError: for a missing column or plane, an empty or overlapping interval; with its line. A label that is no
            standard plane is -1.
    """
    with open_csv(Path(path), FILE_KIND) as file:
        missing = [column for column in INTERVAL_COLUMNS if column not in file.columns]
        if not missing:
            intervals = [_parse_interval(row) for row in _choose_rows(file, names)]
        elif "frame" in file.columns and frame_seconds is not None:
            intervals = _parse_frames(file.columns, _choose_rows(file, names), frame_seconds)
        else:
            expected = f"expected {', '.join(INTERVAL_COLUMNS)} or {', '.join(FRAME_COLUMNS)}"
            got = describe_columns(file.columns, (*INTERVAL_COLUMNS, *FRAME_COLUMNS))
            raise DataError(f"{FILE_KIND}, line 1: column '{missing[0]}' is missing: {expected}, got {got}")
    intervals.sort()
    for before, after in pairwise(intervals):
        if after[0] < before[1]:
            raise DataError(
                f"{FILE_KIND}: intervals overlap: expected a start at {before[1]:g} s or later, got {after[0]:g} s"
            )
    start, end, plane = zip(*intervals, strict=True) if intervals else ((), (), ())
    return PlaneLabels(np.array(start, np.float64), np.array(end, np.float64), np.array(plane, np.int16))


def _choose_rows(file: CsvFile, names: Sequence[str]) -> list[CsvRow]:
    rows, columns = list(file.rows), find_identity_columns(file.columns)
    if not columns:
        return rows
    identities = pa.table({column: pa.array([row.values[column] for row in rows], pa.string()) for column in columns})
    is_chosen = find_rows_of_scan(identities, names, FILE_KIND)
    return [row for row, chosen in zip(rows, is_chosen.tolist(), strict=True) if chosen]


def _parse_interval(row: CsvRow) -> Interval:
    try:
        start, end = row.parse_number("start_seconds"), row.parse_number("end_seconds")
    except ValueError:
        got = f"'{row.values['start_seconds']}' and '{row.values['end_seconds']}'"
        raise DataError(
            f"{FILE_KIND}, line {row.line}: expected numbers as start_seconds and end_seconds, got {got}"
        ) from None
    if not start < end:
        raise DataError(f"{FILE_KIND}, line {row.line}: expected start before end, got {start:g} and {end:g}")
    return start, end, _parse_plane(row)


def _parse_frames(
    columns: tuple[str, ...], rows: Iterable[CsvRow], frame_seconds: NDArray[np.float64]
) -> list[Interval]:
    if "plane" not in columns:
        got = describe_columns(columns, FRAME_COLUMNS)
        raise DataError(
            f"{FILE_KIND}, line 1: column 'plane' is missing: expected {', '.join(FRAME_COLUMNS)}, got {got}"
        )
    midpoints = (frame_seconds[1:] + frame_seconds[:-1]) / 2  # the interval between two midpoints holds one frame
    edges = np.concatenate([[-np.inf], midpoints, [np.inf]])
    label_of: dict[int, int] = {}
    for row in rows:
        text = row.values["frame"]
        if not text.isdecimal() or len(text) > MAX_DIGITS or int(text) >= len(frame_seconds):
            expected = f"a frame from 0 to {len(frame_seconds) - 1}"
            raise DataError(f"{FILE_KIND}, line {row.line}: expected {expected}, got '{text[:MAX_DIGITS]}'")
        plane = _parse_plane(row)
        if label_of.setdefault(int(text), plane) != plane:
            raise DataError(f"{FILE_KIND}, line {row.line}: frame {text} has two planes: expected one")
    return [(float(edges[frame]), float(edges[frame + 1]), plane) for frame, plane in label_of.items()]


def _parse_plane(row: CsvRow) -> int:
    name = row.values["plane"]
    if not name:
        raise DataError(f"{FILE_KIND}, line {row.line}: expected a plane, got none")
    index = find_plane_index(name)
    return UNLABELLED if index is None else index


def standard_planes() -> ClassList:
    """Return the fixed classes of standard-plane detection."""
    return ClassList(STANDARD_PLANES, column=PLANE_COLUMN)
