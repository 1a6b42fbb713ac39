"""The standard planes and the csv files that say when each was shown."""

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError

# the order of the paper's section 3.2; a plane's integer label is its place here
PLANES: tuple[str, ...] = (
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
BACKGROUND = PLANES.index("background")
UNLABELLED = -1
COLUMNS = ("start_seconds", "end_seconds", "plane")


@dataclass(frozen=True)
class PlaneLabels:
    """Half-open intervals on the scan clock, sorted and free of overlap: columns of length n."""

    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    plane: NDArray[np.int16]

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.int16]:
        """Return each moment's plane; -1 where no interval holds it."""
        row = np.searchsorted(self.start_seconds, seconds, side="right") - 1
        if len(self.plane) == 0:
            return np.full(len(seconds), UNLABELLED, np.int16)
        inside = (row >= 0) & (seconds < self.end_seconds[row])
        return np.where(inside, self.plane[row], UNLABELLED).astype(np.int16)


def read_plane_labels(path: Path) -> PlaneLabels:
    """Read a `<stem>.planes.csv` with the columns ``start_seconds,end_seconds,plane``.

    Raises:
        DataError: for a missing column, an unknown plane, an empty or an overlapping interval, with the line's number.
    """
    rows: list[tuple[float, float, int]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"plane labels: column '{missing[0]}' is missing, wanted {', '.join(COLUMNS)}")
            rows = [_row(fields, reader.line_num) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"plane labels: not readable as csv ({type(error).__name__})") from None
    rows.sort()
    for before, after in pairwise(rows):
        if after[0] < before[1]:
            raise DataError(f"plane labels: the interval from {after[0]:g} s begins before the end of another")
    start, end, plane = zip(*rows, strict=True) if rows else ((), (), ())
    return PlaneLabels(np.array(start, np.float64), np.array(end, np.float64), np.array(plane, np.int16))


def _row(fields: dict[str, str], line: int) -> tuple[float, float, int]:
    try:
        start, end = float(fields["start_seconds"]), float(fields["end_seconds"])
    except (TypeError, ValueError):
        raise DataError(f"plane labels, line {line}: start_seconds and end_seconds must be numbers") from None
    if not start < end:
        raise DataError(f"plane labels, line {line}: wanted start before end, got {start:g} and {end:g}")
    name = (fields["plane"] or "").strip()
    if name not in PLANES:
        raise DataError(f"plane labels, line {line}: unknown plane '{name}', known are {', '.join(PLANES)}")
    return start, end, PLANES.index(name)
