"""The tables that eye trackers write, told apart by their headers, as one form: times, places, validity."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from usvs.errors import DataError

logger = logging.getLogger(__name__)

OWN_COLUMNS = ("timestamp_us", "x", "y", "valid")
TRUE_WORDS, FALSE_WORDS = ("1", "1.0", "true", "valid"), ("0", "0.0", "false", "invalid", "nan", "")
# Pro Lab's words, and Tobii's codes in older exports: 0 and 1 surely or probably this eye, 2 to 4 not
PRO_LAB_TRUE, PRO_LAB_FALSE = ("valid", "0", "1"), ("invalid", "2", "3", "4", "")
EYES = ("left", "right")
UNITS_PER_SECOND = {"ms": 1e3, "us": 1e6, "μs": 1e6, "µs": 1e6}  # the Greek letter and the micro sign
FIRST_SAMPLE = "gaze clock: its first sample is taken as the first frame (say gaze_zero in manifest.csv)"
RECORDING_START = "gaze clock: the recording's start is taken as the first frame (say gaze_zero in manifest.csv)"

Column = NDArray[np.float64]


@dataclass(frozen=True)
class GazeTable:
    """A recording as it was written, m samples.

    Attributes:
        ticks: of its own clock [m].
        ticks_per_second: the clock's unit.
        x: place from left to right, NaN where it is not valid [m].
        y: place from top to bottom, likewise [m].
        on_screen: whether places are shares of the screen; else of the video picture.
        viewing_distance_mm: median distance of the eyes from the screen, where it was recorded.
        zero: what the clock shows at the first frame, as far as the form says.
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


def read_gaze_table(path: Path) -> GazeTable:
    """Read a csv or tsv of gaze: our own, Tobii SDK, Tobii Pro Lab or SonoAssist.

    Raises:
        DataError: for a header of none of them, a missing column or a value that is no number.
    """
    table = _Table.read(path)
    names = table.names
    if "Reception OS time" in names:
        return _sonoassist(table)
    if any(name.startswith("Recording timestamp") for name in names):
        return _pro_lab(table)
    if {"device_time_stamp", "system_time_stamp"} & set(names):
        return _tobii_sdk(table)
    return _own(table)


@dataclass(frozen=True)
class _Table:
    columns: pa.Table
    decimal_comma: bool

    @classmethod
    def read(cls, path: Path) -> "_Table":
        try:
            with path.open("rb") as file:
                head = file.read(1 << 16)
            if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UnicodeError("UTF-16 without its mark")
            encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
            names = head.decode(encoding, "replace").removeprefix("\ufeff").splitlines()[0] if head else ""
            delimiter = next((letter for letter in "\t;" if letter in names), ",")
            columns = csv.read_csv(
                path,
                # on one thread it counts the rows, so that a wrong one can be named
                read_options=csv.ReadOptions(encoding=encoding, use_threads=False),
                parse_options=csv.ParseOptions(delimiter=delimiter),
                convert_options=csv.ConvertOptions(
                    column_types={name.strip('"'): pa.string() for name in names.split(delimiter)},
                    strings_can_be_null=False,
                ),
            )
            columns = columns.rename_columns([name.strip() for name in columns.column_names])
        except (pa.ArrowInvalid, OSError, UnicodeError, IndexError) as error:
            raise DataError(f"gaze: not readable as csv: {_complaint(error)}") from None
        return cls(columns, decimal_comma=delimiter != ",")

    @property
    def names(self) -> list[str]:
        return list(self.columns.column_names)

    def words(self, name: str) -> pa.ChunkedArray:
        return pc.utf8_lower(pc.utf8_trim_whitespace(self.columns[name].cast(pa.string())))

    def numbers(self, name: str) -> Column:
        if name not in self.names:
            raise DataError(f"gaze: column '{name}' is missing, got {', '.join(self.names[:8])}")
        words = self.words(name)
        if self.decimal_comma:
            words = pc.replace_substring(words, ",", ".")
        empty = pc.is_in(words, value_set=pa.array(["", "nan", "na", "null", "none"]))
        try:
            return np.asarray(pc.if_else(empty, "nan", words).cast(pa.float64()).to_numpy(), np.float64)
        except pa.ArrowInvalid:
            raise DataError(f"gaze: not readable: column '{name}' holds something that is no number") from None

    def is_true(
        self, name: str, true: tuple[str, ...] = TRUE_WORDS, false: tuple[str, ...] = FALSE_WORDS
    ) -> NDArray[np.bool_]:
        words = self.words(name)
        unknown = words.filter(pc.invert(pc.is_in(words, value_set=pa.array([*true, *false]))))
        if len(unknown):  # another language's word for valid must not make all of it invalid
            expected = "/".join(true) + " or " + "/".join(word for word in false if word)
            raise DataError(f"gaze: column '{name}' holds '{str(unknown[0])[:20]}', expected {expected}")
        flags: NDArray[np.bool_] = pc.is_in(words, value_set=pa.array(true)).to_numpy()
        return flags


def _complaint(error: Exception) -> str:
    text = str(error)  # of pyarrow; its end quotes the row, which may hold a name
    row, counts = re.search(r"Row #(\d+)", text), re.search(r"Expected (\d+) columns, got (\d+)", text)
    if counts:
        where = f"line {row[1]} has" if row else "a line has"
        return f"{where} {counts[2]} values, the header {counts[1]}"
    if "Empty CSV" in text:
        return "the file is empty"
    if isinstance(error, UnicodeError) or "UTF8" in text:
        return "expected UTF-8 or UTF-16, got another encoding"
    return f"expected {', '.join(OWN_COLUMNS)} or a tracker's export ({type(error).__name__})"


def _own(table: _Table) -> GazeTable:
    missing = [name for name in OWN_COLUMNS if name not in table.names]
    if missing:
        got = ", ".join(table.names[:8])
        raise DataError(f"gaze: column '{missing[0]}' is missing, expected {', '.join(OWN_COLUMNS)}, got {got}")
    valid = table.is_true("valid")
    x, y = (np.where(valid, table.numbers(name), np.nan) for name in ("x", "y"))
    return GazeTable(table.numbers("timestamp_us"), 1e6, x, y, on_screen=False)


def _sonoassist(table: _Table) -> GazeTable:
    """Source: GazeTracker.cpp of LATIS-LABS-ETS/SonoAssist; microseconds, shares of the display, valid samples only."""
    ticks = table.numbers("Reception OS time")
    return GazeTable(
        ticks, 1e6, table.numbers("X"), table.numbers("Y"), on_screen=True, zero=_first(ticks), note=FIRST_SAMPLE
    )


def _tobii_sdk(table: _Table) -> GazeTable:
    """Source: tobii_research's gaze data; microseconds, shares of the display area, validity 1 or 0."""
    clock = "system_time_stamp" if "system_time_stamp" in table.names else "device_time_stamp"
    ticks = table.numbers(clock)
    eyes = [_sdk_eye(table, eye) for eye in EYES]
    x, y = _both(eyes)
    depths = [
        column
        for eye in EYES
        for stem in ("gaze_origin_in_user_coordinate_system", "gaze_origin_in_user_coordinates")
        if (column := _triple(table, f"{eye}_{stem}", 2)) is not None
    ]
    distance = _median(depths)
    return GazeTable(ticks, 1e6, x, y, True, distance, zero=_first(ticks), note=FIRST_SAMPLE)


def _sdk_eye(table: _Table, eye: str) -> tuple[Column, Column]:
    stem = f"{eye}_gaze_point_on_display_area"
    places = [_triple(table, stem, axis) for axis in (0, 1)]
    if places[0] is None or places[1] is None:
        raise DataError(f"gaze: column '{stem}_x' is missing, got {', '.join(table.names[:8])}")
    named = [f"{eye}_gaze_point_{word}" for word in ("validity", "valid")] + [f"{eye}_validity"]
    validity = next((name for name in named if name in table.names), None)
    if validity is None:
        raise DataError(f"gaze: column '{named[0]}' is missing, got {', '.join(table.names[:8])}")
    valid = table.is_true(validity)
    return np.where(valid, places[0], np.nan), np.where(valid, places[1], np.nan)


def _triple(table: _Table, stem: str, axis: int) -> Column | None:
    """Return one axis of a place, written as columns stem_x, stem_y, stem_z or as a tuple in one."""
    name = f"{stem}_{'xyz'[axis]}"
    if name in table.names:
        return table.numbers(name)
    if stem not in table.names:
        return None
    parts = pc.split_pattern(pc.replace_substring_regex(table.words(stem), r"[()\[\]\s]", ""), ",")
    texts = pc.if_else(pc.greater(pc.list_value_length(parts), axis), parts, pa.scalar(["nan"] * 3, parts.type))
    try:
        return np.asarray(pc.list_element(texts, axis).cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:
        raise DataError(f"gaze: not readable: column '{stem}' holds something that is no place") from None


def _pro_lab(table: _Table) -> GazeTable:
    """Source: Tobii Pro Lab's data export; screen pixels, the unit of time in the header (milliseconds without one)."""
    clock = next(name for name in table.names if name.startswith("Recording timestamp"))
    unit = re.search(r"\[(.+?)\]", clock)
    if unit is not None and unit[1] not in UNITS_PER_SECOND:
        raise DataError(f"gaze: '{clock}': expected ms or μs")
    width, height = (_size(table, side) for side in ("width", "height"))
    x, y = _both([_pro_lab_eye(table, f" {eye}") for eye in EYES if _axis(table, f" {eye}", "X")])
    if not len(x):
        x, y = _pro_lab_eye(table, "")
    distance = _median([table.numbers(name) for name in table.names if re.match(r"Eye position (left|right) Z", name)])
    per_second = UNITS_PER_SECOND[unit[1]] if unit else 1e3
    return GazeTable(table.numbers(clock), per_second, x / width, y / height, True, distance, note=RECORDING_START)


def _pro_lab_eye(table: _Table, eye: str) -> tuple[Column, Column]:
    names = [_axis(table, eye, axis) for axis in "XY"]
    if names[0] is None or names[1] is None:
        raise DataError(f"gaze: column 'Gaze point X [DACS px]' is missing, got {', '.join(table.names[:8])}")
    x, y = (table.numbers(name) for name in names if name)
    flags = [f"Validity{eye}"] if eye else [name for name in ("Validity left", "Validity right") if name in table.names]
    if not set(flags) <= set(table.names):
        raise DataError(f"gaze: column '{flags[0]}' is missing, got {', '.join(table.names[:8])}")
    # without the eyes apart the place is the mean of those that were seen: one of them is enough
    valid = np.logical_or.reduce([_pro_lab_valid(table, name) for name in flags]) if flags else np.isfinite(x)
    return np.where(valid, x, np.nan), np.where(valid, y, np.nan)


def _axis(table: _Table, eye: str, axis: str) -> str | None:
    names = (f"Gaze point{eye} {axis} [DACS px]", f"Gaze point{eye} {axis} [ADCS px]", f"Gaze point{eye} {axis}")
    return next((name for name in names if name in table.names), None)


def _pro_lab_valid(table: _Table, name: str) -> NDArray[np.bool_]:
    return table.is_true(name, PRO_LAB_TRUE, PRO_LAB_FALSE)


def _size(table: _Table, side: str) -> float:
    size = table.numbers(f"Recording resolution {side}")
    known = size[np.isfinite(size)]
    if not len(known) or known[0] <= 0:
        raise DataError(f"gaze: column 'Recording resolution {side}' holds no number of pixels")
    return float(known[0])


def _both(eyes: list[tuple[Column, Column]]) -> tuple[Column, Column]:
    """Return the mean of both eyes where both are valid, else the one that is."""
    if not eyes:
        return np.empty(0), np.empty(0)
    places = np.array([[x, y] for x, y in eyes])  # [eyes, 2, m]
    valid = np.isfinite(places).all(axis=1, keepdims=True)
    count = valid.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(valid, places, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return mean[0], mean[1]


def _median(columns: list[Column]) -> float | None:
    known = np.concatenate([column[np.isfinite(column)] for column in columns]) if columns else np.empty(0)
    distance = float(np.median(np.abs(known))) if len(known) else 0.0
    return distance if distance > 0 else None


def _first(ticks: Column) -> float:
    known = ticks[np.isfinite(ticks)]
    return float(known[0]) if len(known) else 0.0
