"""The standard planes and the csv files that say when each was shown."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.csv_rows import CsvRow, open_csv
from usvs.errors import DataError

logger = logging.getLogger(__name__)

# the order of the paper's section 3.2; a plane's integer label is its place here
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
UNLABELLED = -1
WHAT = "plane labels"
COLUMNS = ("start_seconds", "end_seconds", "plane")
FRAME_COLUMNS = ("frame", "plane")
# fmt: off
# what else planes are called: SonoNet, the Fetal Anomaly Screening Programme, and everyday spellings
PLANE_ALIASES = {
    "3vv": "3VT", "three_vessel_trachea": "3VT", "four_chamber": "4CH", "4_chamber": "4CH", "abdominal": "abdomen",
    "brain_transventricular": "brain_tv", "brain_trans_ventricular": "brain_tv", "brain_cb": "brain_tc",
    "brain_transcerebellar": "brain_tc", "brain_trans_cerebellum": "brain_tc", "kidney": "kidneys",
    "lip": "lips", "spine_coronal": "spine_cor", "spine_sagittal": "spine_sag", "spine_sagital": "spine_sag",
}
# fmt: on


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

    def note(self, duration_seconds: float) -> str | None:
        """Return how many intervals lie beside a scan of some length, None where none does."""
        beside = int(((self.start_seconds >= duration_seconds) | (self.end_seconds <= 0)).sum())
        if beside == 0:
            return None
        reach = f"from {self.start_seconds.min():g} to {self.end_seconds.max():g} s"
        return f"{WHAT}: {beside} of {len(self.plane)} lie outside of the scan's {duration_seconds:.1f} s ({reach})"


def find_plane_index(name: str) -> int | None:
    """Return a plane's integer label from its name or one of its other names, None for one that is not known."""
    word = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    known = {plane.lower(): number for number, plane in enumerate(STANDARD_PLANES)}
    return known.get(PLANE_ALIASES.get(word, word).lower())


def read_plane_labels(path: Path, frame_seconds: NDArray[np.float64] | None = None) -> PlaneLabels:
    """Read a `<stem>.planes.csv`: ``start_seconds,end_seconds,plane`` for intervals, or ``frame,plane`` for frames.

    Args:
        path: of the csv.
        frame_seconds: the video's frame times [n], for labels by frame; the first frame is number 0.

    Raises:
        DataError: for a missing column, an unknown plane, an empty or an overlapping interval, with the line's number.
    """
    with open_csv(path, WHAT) as file:
        missing = [name for name in COLUMNS if name not in file.columns]
        if not missing:
            rows = [_row(row) for row in file.rows]
        elif "frame" in file.columns and frame_seconds is not None:
            rows = _frame_rows(file.columns, file.rows, frame_seconds)
        else:
            expected = f"expected {', '.join(COLUMNS)} or {', '.join(FRAME_COLUMNS)}"
            got = ", ".join(file.columns) or "nothing"
            raise DataError(f"{WHAT}: column '{missing[0]}' is missing, {expected}, got {got}")
    rows.sort()
    for before, after in pairwise(rows):
        if after[0] < before[1]:
            raise DataError(f"{WHAT}: the interval from {after[0]:g} s begins before the end of another")
    start, end, plane = zip(*rows, strict=True) if rows else ((), (), ())
    return PlaneLabels(np.array(start, np.float64), np.array(end, np.float64), np.array(plane, np.int16))


def _row(row: CsvRow) -> tuple[float, float, int]:
    try:
        start, end = row.number("start_seconds"), row.number("end_seconds")
    except ValueError:
        raise DataError(f"{WHAT}, line {row.line}: start_seconds and end_seconds must be numbers") from None
    if not start < end:
        raise DataError(f"{WHAT}, line {row.line}: expected start before end, got {start:g} and {end:g}")
    return start, end, _plane(row)


def _frame_rows(
    columns: tuple[str, ...], rows: Iterator[CsvRow], frame_seconds: NDArray[np.float64]
) -> list[tuple[float, float, int]]:
    if "plane" not in columns:
        raise DataError(f"{WHAT}: column 'plane' is missing, expected {', '.join(FRAME_COLUMNS)}")
    between = (frame_seconds[1:] + frame_seconds[:-1]) / 2  # an interval from half-way to half-way holds one frame
    edges = np.concatenate([[-np.inf], between, [np.inf]])
    labels: dict[int, int] = {}
    for row in rows:
        text = row.texts["frame"]
        if not text.isdecimal() or int(text) >= len(frame_seconds):
            raise DataError(f"{WHAT}, line {row.line}: expected a frame of 0 to {len(frame_seconds) - 1}, got '{text}'")
        plane = _plane(row)
        if labels.setdefault(int(text), plane) != plane:
            raise DataError(f"{WHAT}, line {row.line}: frame {text} has two planes")
    return [(float(edges[frame]), float(edges[frame + 1]), plane) for frame, plane in labels.items()]


def _plane(row: CsvRow) -> int:
    name = row.texts["plane"]
    number = find_plane_index(name)
    if number is None:
        raise DataError(f"{WHAT}, line {row.line}: unknown plane '{name}', known are {', '.join(STANDARD_PLANES)}")
    return number
