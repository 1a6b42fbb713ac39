"""Formats of gaze recordings, recognised by their column names.

To add a format, write a function that turns a `TextTable` into a `GazeRecording` and add a `GazeFormat` to
`GAZE_FORMATS` at the end of this file. Nothing else needs to change: `usvs index` and `usvs prepare` use the list.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.text_table import Column, TextTable
from usvs.errors import DataError

EYES = ("left", "right")
MAX_STEP_BACK_SECONDS = 1.0  # samples may be written a little out of order; a larger step back is another recording
FIRST_SAMPLE = "gaze clock: the first sample is assumed to be at the first frame (state gaze_zero in manifest.csv)"
RECORDING_START = (
    "gaze clock: the start of the recording is assumed to be at the first frame (state gaze_zero in manifest.csv)"
)


@dataclass(frozen=True)
class GazeRecording:
    """A gaze recording in its own clock and coordinates, m samples.

    Attributes:
        ticks: times on the recording's clock, in its unit [m].
        ticks_per_second: unit of the clock.
        x: horizontal position from 0 (left) to 1 (right), NaN where the sample is not valid [m].
        y: vertical position from 0 (top) to 1 (bottom), likewise [m].
        on_screen: whether positions are fractions of the screen; otherwise of the video image.
        viewing_distance_mm: median distance of the eyes from the screen, if it was recorded.
        zero: value of the clock at the first video frame, if the recording's format defines it or by assumption.
        note: what was assumed about the clock.
    """

    ticks: Column
    ticks_per_second: float
    x: Column
    y: Column
    on_screen: bool
    viewing_distance_mm: float | None = None
    zero: float = 0.0
    note: str | None = None


@dataclass(frozen=True)
class GazeFormat:
    """One format of gaze recordings.

    Attributes:
        name: for error messages.
        matches: returns whether a table with these column names is of this format.
        read: turns the table into a recording; raises `DataError` for an invalid one.
    """

    name: str
    matches: Callable[[Sequence[str]], bool]
    read: Callable[[TextTable], GazeRecording]


def read_gaze_recording(path: Path, names: Sequence[str] = ()) -> GazeRecording:
    """Read a csv or tsv in one of `GAZE_FORMATS`.

    Args:
        path: the file.
        names: paths in the archive of the scan and of this file: of several recordings in the file, the one is read
            that is named so.

    Raises:
        DataError: for columns of none of the formats, a missing column, an invalid value, and for several recordings
            of which none can be chosen.
    """
    table = TextTable.read(path, "gaze")
    for gaze_format in GAZE_FORMATS:
        if gaze_format.matches(table.columns):
            table = table.choose_rows(names)
            recording = gaze_format.read(table)
            _check_order(table, recording)
            return recording
    known = ", ".join(gaze_format.name for gaze_format in GAZE_FORMATS)
    raise DataError(
        f"gaze, line 1: unknown format: expected the columns {', '.join(USVS_COLUMNS)}, or those of another known "
        f"format ({known}), got {table.describe_columns(KNOWN_COLUMNS)}"
    )


def _check_order(table: TextTable, recording: GazeRecording) -> None:
    """Refuse a table in which the clock starts again: it holds several recordings, one after the other."""
    known = np.flatnonzero(np.isfinite(recording.ticks))
    seconds = recording.ticks[known] / recording.ticks_per_second
    back = np.maximum.accumulate(seconds) - seconds if len(seconds) else seconds
    limit = min(MAX_STEP_BACK_SECONDS, float(np.ptp(seconds)) / 2) if len(seconds) else 0.0
    if len(later := np.flatnonzero(back > limit)):
        row = int(later[0])
        raise DataError(
            f"{table.where(int(known[row]))}: the time goes back by {back[row]:.3g} s: expected the samples of one "
            "recording in order of time, got another recording from here on"
        )


# --- usvs: the package's own format ---

USVS_COLUMNS = ("timestamp_us", "x", "y", "valid")
# names that an error message may show if they, or similar ones, are in a header
KNOWN_COLUMNS = (
    *USVS_COLUMNS,
    *("Reception OS time", "X", "Y", "Recording timestamp", "Gaze point X", "Gaze point Y", "Gaze point left X"),
    *("Recording resolution width", "Recording resolution height", "Validity left", "Validity right"),
    *("system_time_stamp", "device_time_stamp", "left_gaze_point_on_display_area", "left_gaze_point_validity"),
)


def _read_usvs(table: TextTable) -> GazeRecording:
    """Times on the scan clock in microseconds, positions as fractions of the video image."""
    for column in USVS_COLUMNS:
        if column not in table.columns:
            expected = ", ".join(USVS_COLUMNS)
            got = table.describe_columns(USVS_COLUMNS)
            raise DataError(f"gaze, line 1: column '{column}' is missing: expected {expected}, got {got}")
    is_valid = table.parse_flags("valid")
    x, y = (np.where(is_valid, table.parse_numbers(column), np.nan) for column in ("x", "y"))
    return GazeRecording(table.parse_numbers("timestamp_us"), 1e6, x, y, on_screen=False)


# --- SonoAssist ---


def _read_sonoassist(table: TextTable) -> GazeRecording:
    """Microseconds, fractions of the display, valid samples only.

    Source: GazeTracker.cpp of https://github.com/LATIS-LABS-ETS/SonoAssist.
    """
    ticks = table.parse_numbers("Reception OS time")
    x, y = table.parse_numbers("X"), table.parse_numbers("Y")
    return GazeRecording(ticks, 1e6, x, y, on_screen=True, zero=_first_finite(ticks), note=FIRST_SAMPLE)


# --- Tobii Pro Lab ---

# words in Pro Lab's exports; in older ones Tobii's codes: 0 and 1 for certainly or probably this eye, 2 to 4 for not
PRO_LAB_TRUE, PRO_LAB_FALSE = ("valid", "0", "1"), ("invalid", "2", "3", "4", "")
PRO_LAB_CLOCK = "Recording timestamp"
UNITS_PER_SECOND = {"ms": 1e3, "us": 1e6, "μs": 1e6, "µs": 1e6}  # the Greek letter and the micro sign


def _read_pro_lab(table: TextTable) -> GazeRecording:
    """Screen pixels; the unit of time is in the column name, milliseconds without one.

    Source: data export of Tobii Pro Lab.
    """
    clock = next(column for column in table.columns if column.startswith(PRO_LAB_CLOCK))
    unit = re.search(r"\[(.+?)\]", clock)
    if unit is not None and unit[1] not in UNITS_PER_SECOND:
        raise DataError(f"gaze: unit of column '{clock}': expected ms or μs, got {unit[1]}")
    width_px, height_px = (_read_resolution(table, side) for side in ("width", "height"))
    eyes = [_read_pro_lab_eye(table, f" {eye}") for eye in EYES if _find_pro_lab_axis(table, f" {eye}", "X")]
    x, y = _average_eyes(eyes) if eyes else _read_pro_lab_eye(table, "")
    distance_columns = [column for column in table.columns if re.match(r"Eye position (left|right) Z", column)]
    return GazeRecording(
        table.parse_numbers(clock),
        UNITS_PER_SECOND[unit[1]] if unit else 1e3,
        x / width_px,
        y / height_px,
        on_screen=True,
        viewing_distance_mm=_median_distance([table.parse_numbers(column) for column in distance_columns]),
        note=RECORDING_START,
    )


def _read_pro_lab_eye(table: TextTable, eye: str) -> tuple[Column, Column]:
    """Return the position of one eye, `eye` being " left" or " right", or of both with `eye` being empty."""
    columns = [_find_pro_lab_axis(table, eye, axis) for axis in "XY"]
    if columns[0] is None or columns[1] is None:
        got = table.describe_columns(KNOWN_COLUMNS)
        raise DataError(f"gaze, line 1: column 'Gaze point X [DACS px]' is missing: got {got}")
    x, y = (table.parse_numbers(column) for column in columns if column)
    if eye:
        flags = [f"Validity{eye}"]
    else:
        flags = [column for column in ("Validity left", "Validity right") if column in table.columns]
    # A position that is not given for each eye is the mean of the valid eyes: one of them is enough.
    valid = [table.parse_flags(column, PRO_LAB_TRUE, PRO_LAB_FALSE) for column in flags]
    is_valid = np.logical_or.reduce(valid) if valid else np.isfinite(x)
    return np.where(is_valid, x, np.nan), np.where(is_valid, y, np.nan)


def _find_pro_lab_axis(table: TextTable, eye: str, axis: str) -> str | None:
    names = (f"Gaze point{eye} {axis} [DACS px]", f"Gaze point{eye} {axis} [ADCS px]", f"Gaze point{eye} {axis}")
    return next((name for name in names if name in table.columns), None)


def _read_resolution(table: TextTable, side: str) -> float:
    column = f"Recording resolution {side}"
    pixels = table.parse_numbers(column)
    known = pixels[np.isfinite(pixels)]
    if not len(known) or known[0] <= 0:
        raise DataError(f"gaze: column '{column}': expected a number of pixels, got none")
    return float(known[0])


# --- Tobii SDK ---

SDK_CLOCKS = ("system_time_stamp", "device_time_stamp")  # in order of preference
SDK_ORIGINS = ("gaze_origin_in_user_coordinate_system", "gaze_origin_in_user_coordinates")


def _read_tobii_sdk(table: TextTable) -> GazeRecording:
    """Microseconds, fractions of the display area, validity 1 or 0.

    Source: gaze data of the Python package tobii_research.
    """
    ticks = table.parse_numbers(next(clock for clock in SDK_CLOCKS if clock in table.columns))
    x, y = _average_eyes([_read_sdk_eye(table, eye) for eye in EYES])
    depths = [table.parse_component(f"{eye}_{origin}", axis=2) for eye in EYES for origin in SDK_ORIGINS]
    return GazeRecording(
        ticks,
        1e6,
        x,
        y,
        on_screen=True,
        viewing_distance_mm=_median_distance([depth for depth in depths if depth is not None]),
        zero=_first_finite(ticks),
        note=FIRST_SAMPLE,
    )


def _read_sdk_eye(table: TextTable, eye: str) -> tuple[Column, Column]:
    stem = f"{eye}_gaze_point_on_display_area"
    x, y = (table.parse_component(stem, axis) for axis in (0, 1))
    if x is None or y is None:
        raise DataError(f"gaze, line 1: column '{stem}_x' is missing: got {table.describe_columns(KNOWN_COLUMNS)}")
    flags = (f"{eye}_gaze_point_validity", f"{eye}_gaze_point_valid", f"{eye}_validity")
    is_valid = table.parse_flags(next((column for column in flags if column in table.columns), flags[0]))
    return np.where(is_valid, x, np.nan), np.where(is_valid, y, np.nan)


# --- helpers of several formats ---


def _average_eyes(eyes: list[tuple[Column, Column]]) -> tuple[Column, Column]:
    """Return the mean of both eyes where both are valid, otherwise the valid one."""
    positions = np.array([[x, y] for x, y in eyes])  # [eyes, 2, m]
    is_valid = np.isfinite(positions).all(axis=1, keepdims=True)
    count: NDArray[np.int64] = is_valid.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(is_valid, positions, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return mean[0], mean[1]


def _median_distance(columns: list[Column]) -> float | None:
    known = np.concatenate([column[np.isfinite(column)] for column in columns]) if columns else np.empty(0)
    distance_mm = float(np.median(np.abs(known))) if len(known) else 0.0
    return distance_mm if distance_mm > 0 else None


def _first_finite(ticks: Column) -> float:
    known = ticks[np.isfinite(ticks)]
    return float(known[0]) if len(known) else 0.0


# The formats in the order in which they are tried. A new format is one more entry here.
GAZE_FORMATS: list[GazeFormat] = [
    GazeFormat("SonoAssist", lambda columns: "Reception OS time" in columns, _read_sonoassist),
    GazeFormat(
        "Tobii Pro Lab", lambda columns: any(column.startswith(PRO_LAB_CLOCK) for column in columns), _read_pro_lab
    ),
    GazeFormat("Tobii SDK", lambda columns: any(clock in columns for clock in SDK_CLOCKS), _read_tobii_sdk),
    GazeFormat("usvs", lambda columns: "timestamp_us" in columns, _read_usvs),
]
