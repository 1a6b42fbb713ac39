"""Labels of one scan as they are written: which label is shown when, for each label column.

A label is of the whole scan, of an interval in seconds, or of a frame. Which class it is, is decided later by a
`usvs.archive.class_list.ClassList`, so that a merged or renamed class needs no new preparation.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from usvs.archive.class_list import MAX_LABEL_LETTERS, clean_label
from usvs.archive.csv_rows import CsvFile, CsvRow, check_spelling, describe_columns, open_csv
from usvs.archive.mixed_tables import find_identity_columns, find_rows_of_scan
from usvs.errors import DataError

TIMES = ("start_seconds", "end_seconds")
FRAME = "frame"
MAX_DIGITS = 18  # of a frame number
Unit = Literal["seconds", "frames"]


class Span(NamedTuple):
    """A label and where it is shown: from `start` to before `end`, None for the start and the end of the scan."""

    start: float | None
    end: float | None
    label: str


class LabelRow(NamedTuple):
    """A row of a table of labels.

    Attributes:
        line: its line number in the file.
        start: in seconds, or the number of a frame; None for the start of the scan.
        end: likewise, exclusive.
        unit: of both.
        labels: by column, those that are not empty.
    """

    line: int
    start: float | None
    end: float | None
    unit: Unit
    labels: Mapping[str, str]


@dataclass(frozen=True)
class LabelTrack:
    """The labels of one column over a scan: sorted and without overlap.

    Attributes:
        spans: with their labels.
        unit: of the spans, seconds on the scan's clock or numbers of frames.
    """

    spans: tuple[Span, ...]
    unit: Unit = "seconds"
    _edges: tuple[NDArray[np.float64], NDArray[np.float64]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        start = np.array([-np.inf if span.start is None else span.start for span in self.spans], np.float64)
        end = np.array([np.inf if span.end is None else span.end for span in self.spans], np.float64)
        object.__setattr__(self, "_edges", (start, end))

    def at(self, frame_seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the span that each frame [n] is in; -1 outside of all."""
        times = np.arange(len(frame_seconds), dtype=np.float64) if self.unit == "frames" else frame_seconds
        start, end = self._edges
        if not len(start):
            return np.full(len(times), -1, np.int64)
        row = np.searchsorted(start, times, side="right") - 1
        return np.where((row >= 0) & (times < end[row]), row, -1).astype(np.int64)

    def seconds(self, duration_seconds: float, frames: int) -> NDArray[np.float64]:
        """Return how long each span is shown during a scan [spans]."""
        limit = float(frames) if self.unit == "frames" else duration_seconds
        start, end = (np.clip(edge, 0.0, limit) for edge in self._edges)
        scale = duration_seconds / max(frames, 1) if self.unit == "frames" else 1.0
        return np.asarray((end - start) * scale)

    def outside(self, duration_seconds: float, frames: int) -> int:
        """Return the number of spans that no moment of a scan is in."""
        return int((self.seconds(duration_seconds, frames) <= 0).sum())


ScanLabels = Mapping[str, LabelTrack]  # by column


def dump_labels(labels: ScanLabels) -> str | None:
    """Return labels as text, for `load_labels`; None for none."""
    plain = {column: [track.unit, track.spans] for column, track in labels.items()}
    return json.dumps(plain) if plain else None


def load_labels(text: str | None) -> dict[str, LabelTrack]:
    """Return the labels of a text of `dump_labels`."""
    plain = {} if text is None else json.loads(text)
    return {column: LabelTrack(tuple(Span(*span) for span in spans), unit) for column, (unit, spans) in plain.items()}


def read_label_rows(
    path: Path, what: str, columns: Sequence[str] = (), names: Sequence[str] = ()
) -> tuple[LabelRow, ...]:
    """Read the labels of one scan: ``start_seconds,end_seconds`` or ``frame``, and label columns.

    Args:
        path: the csv.
        what: name of its content, with which error messages begin.
        columns: the label columns; empty: all that state neither a time nor a recording.
        names: paths in the archive of the scan and of this file, by which the rows of one of several scans are chosen.

    Raises:
        DataError: for a missing column or an invalid row, with its line.
    """
    with open_csv(path, what) as file:
        used = label_columns(file.columns, columns, what)
        rows = list(file.rows)
        identities = find_identity_columns(file.columns)
        if identities:
            values = {name: pa.array([row.values[name] for row in rows], pa.string()) for name in identities}
            chosen = find_rows_of_scan(pa.table(values), names, what).tolist()
            rows = [row for row, is_chosen in zip(rows, chosen, strict=True) if is_chosen]
        return tuple(parse_label_row(row, file, used, what) for row in rows)


def label_columns(columns: Sequence[str], chosen: Sequence[str], what: str, other: Sequence[str] = ()) -> list[str]:
    """Return the label columns of a table.

    Args:
        columns: all of its columns.
        chosen: the label columns; empty: all that state neither a time nor a recording.
        what: name of the table.
        other: further columns that are no labels.

    Raises:
        DataError: where there is none, only one of the columns of an interval, or one whose name looks misspelt.
    """
    if len(present := [name for name in TIMES if name in columns]) == 1:
        raise DataError(f"{what}, line 1: expected {' and '.join(TIMES)}, got '{present[0]}' alone")
    if not chosen:
        check_spelling(columns, TIMES, what)
        if not present and {"start", "end"} <= {name.lower() for name in columns}:
            raise DataError(f"{what}, line 1: expected the names {' and '.join(TIMES)}, got 'start' and 'end'")
    if present and FRAME in columns:
        raise DataError(f"{what}, line 1: expected {' and '.join(TIMES)}, or {FRAME}, got all of them")
    free = {*TIMES, FRAME, *other, *find_identity_columns(columns)}
    found = [name for name in columns if (name in chosen if chosen else name and name not in free)]
    if not found:
        got = describe_columns(columns, (*TIMES, FRAME, *chosen))
        expected = f"one of {', '.join(chosen)}" if chosen else "a column with labels"
        raise DataError(f"{what}, line 1: expected {expected}, got {got}")
    return found


def parse_label_row(row: CsvRow, file: CsvFile, columns: Sequence[str], what: str) -> LabelRow:
    """Parse one row of a table of labels.

    Raises:
        DataError: for a time or a frame that is no number, or an empty interval; with its line.
    """
    where = f"{what}, line {row.line}"
    labels = {name: clean_label(row.values[name]) for name in columns if row.values[name]}
    if long := [name for name, label in labels.items() if len(label) > MAX_LABEL_LETTERS]:
        got = f"{len(labels[long[0]])} in column '{long[0]}'"
        raise DataError(f"{where}: expected a label of at most {MAX_LABEL_LETTERS} letters, got {got}")
    if FRAME in file.columns:
        text = row.values[FRAME]
        if text and not (text.isdecimal() and len(text) <= MAX_DIGITS):
            raise DataError(f"{where}: expected the number of a frame, got '{text[:MAX_DIGITS]}'")
        first = float(text) if text else None
        return LabelRow(row.line, first, None if first is None else first + 1, "frames", labels)
    start, end = (_parse_time(row, name, where) if name in file.columns else None for name in TIMES)
    if start is not None and end is not None and not start < end:
        raise DataError(f"{where}: expected start before end, got {start:g} and {end:g}")
    return LabelRow(row.line, start, end, "seconds", labels)


def _parse_time(row: CsvRow, column: str, where: str) -> float | None:
    if not row.values[column]:
        return None
    try:
        seconds = row.parse_number(column)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{where}: expected a number as {column}, got '{row.values[column][:MAX_LABEL_LETTERS]}'")
    return seconds


def make_tracks(rows: Iterable[LabelRow], what: str) -> dict[str, LabelTrack]:
    """Return the labels of one scan by column.

    Args:
        rows: its rows.
        what: name of the table, with which error messages begin.

    Raises:
        DataError: where two labels of one column are shown at once.
    """
    of_column: dict[str, list[tuple[Span, LabelRow]]] = {}
    for row in rows:
        for column, label in row.labels.items():
            of_column.setdefault(column, []).append((Span(row.start, row.end, label), row))
    return {column: _make_track(found, column, what) for column, found in of_column.items()}


def _make_track(found: list[tuple[Span, LabelRow]], column: str, what: str) -> LabelTrack:
    found.sort(key=lambda pair: (_start(pair[0]), _end(pair[0]), pair[0].label))
    spans: list[Span] = []
    for (span, row), (_, before) in zip(found, [found[0], *found], strict=False):
        if not spans or _start(span) >= _end(spans[-1]):
            if spans and row.unit == "frames" and spans[-1].end == span.start and spans[-1].label == span.label:
                spans[-1] = spans[-1]._replace(end=span.end)
            else:
                spans.append(span)
        elif spans[-1].label != span.label or _span_of(before) != span[:2]:  # the same row twice does no harm
            lines = f"lines {min(row.line, before.line)} and {max(row.line, before.line)}"
            raise DataError(
                f"{what}, {lines}, column '{column}': labels overlap: expected one at a time, got '{spans[-1].label}' "
                f"and '{span.label}'"
            )
    return LabelTrack(tuple(spans), found[0][1].unit)


def _span_of(row: LabelRow) -> tuple[float | None, float | None]:
    return row.start, row.end


def _start(span: Span) -> float:
    return -math.inf if span.start is None else span.start


def _end(span: Span) -> float:
    return math.inf if span.end is None else span.end


def check_frames(tracks: ScanLabels, frames: int, what: str) -> None:
    """Check that the labels are of frames that a scan has.

    Raises:
        DataError: for the number of a frame that it does not have.
    """
    for column, track in tracks.items():
        last = max((_end(span) for span in track.spans if track.unit == "frames"), default=0)
        if math.isfinite(last) and last > frames:
            raise DataError(f"{what}: column '{column}': expected frames from 0 to {frames - 1}, got {int(last) - 1}")


def in_seconds(tracks: ScanLabels, frame_seconds: NDArray[np.float64]) -> dict[str, LabelTrack]:
    """Return labels of frames as labels of intervals: an edge is midway between two frames, of times [n]."""
    edges = np.concatenate([[-np.inf], (frame_seconds[1:] + frame_seconds[:-1]) / 2, [np.inf]])

    def moment(edge: float | None) -> float | None:
        return None if edge is None or not math.isfinite(edges[int(edge)]) else float(edges[int(edge)])

    return {
        column: track
        if track.unit == "seconds"
        else LabelTrack(tuple(Span(moment(span.start), moment(span.end), span.label) for span in track.spans))
        for column, track in tracks.items()
    }
