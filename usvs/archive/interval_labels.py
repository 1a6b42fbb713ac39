"""Labels of intervals of scans: a csv file of all scans, or a folder with a csv file for each."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from usvs.archive.scan_names import ScanNames
from usvs.archive.text_table import TextTable
from usvs.errors import DataError
from usvs.utils.text import printable, quantity

logger: logging.Logger = logging.getLogger(__name__)

START, END, LABEL, FILE = "start_seconds", "end_seconds", "label", "file"
SUFFIX = ".intervals.csv"  # of a scan's file in a folder, as `usvs narrate` writes them
UNLABELLED = -1
ROUNDING_SECONDS = 1e-3  # by which intervals may overlap: times are written with few decimals


@dataclass(frozen=True)
class ScanIntervals:
    """The labelled intervals of one scan, sorted; no two overlap.

    Attributes:
        start_seconds: [m] on the scan's clock.
        end_seconds: [m].
        label: [m] number of the label.
    """

    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    label: NDArray[np.int64]

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the label at each time [k]; -1 where there is none."""
        row = np.searchsorted(self.start_seconds, seconds, side="right") - 1
        inside = (row >= 0) & (seconds < self.end_seconds[np.maximum(row, 0)])
        return np.where(inside, self.label[np.maximum(row, 0)], UNLABELLED)


@dataclass(frozen=True)
class IntervalLabels:
    """The labels of some scans.

    Attributes:
        names: of the labels, sorted; a label's number is its position.
        scans: intervals by position of the scan in the given paths.
    """

    names: tuple[str, ...]
    scans: Mapping[int, ScanIntervals]


class _Row(NamedTuple):
    start_seconds: float
    end_seconds: float
    label: str
    file: str
    table: TextTable
    row: int

    @property
    def where(self) -> str:
        return self.table.where(self.row)


def read_interval_labels(source: Path, paths: Sequence[str], others: Iterable[str] = ()) -> IntervalLabels:
    """Read the labels of the scans at some paths of an archive.

    Args:
        source: a csv file with the columns ``file`` (path of the scan in the archive, as `ScanNames.find` takes it),
            ``start_seconds``, ``end_seconds`` and ``label``; or a folder of files ``PATH.intervals.csv`` with the last
            three, where PATH is the scan's path with or without suffix.
        paths: of the scans, relative to the archive.
        others: paths of other scans of the archive, whose labels are not read.

    Raises:
        DataError: where a table cannot be read, fits several scans, an interval is impossible or overlaps another one
            of its scan, or no scan has a label.
    """
    scans = ScanNames((*paths, *others))
    number_of = {path: number for number, path in enumerate(paths)}
    found = _by_file(source, paths, scans, number_of) if source.is_dir() else _by_scan(source, paths, scans, number_of)
    names = tuple(sorted({row.label for rows in found.values() for row in rows}))
    code = {name: number for number, name in enumerate(names)}
    return IntervalLabels(names, {number: _scan_intervals(rows, code) for number, rows in found.items()})


def _by_file(
    folder: Path, paths: Sequence[str], names: ScanNames, number_of: Mapping[str, int]
) -> dict[int, list[_Row]]:
    file_of: dict[int, Path] = {}
    for file in sorted(folder.rglob(f"*{SUFFIX}")):
        where = f"labels '{file}'"
        asked = file.relative_to(folder).as_posix().removesuffix(SUFFIX)
        path = names.find(asked, where)
        number = -1 if path is None or path.count("/") != asked.count("/") else number_of.get(path, -1)
        if number >= 0 and (first := file_of.setdefault(number, file)) != file:
            raise DataError(f"{where}: expected one file for scan '{paths[number]}', got '{first}' as well")
    if not file_of:
        raise DataError(
            f"labels '{folder}': expected files such as '{PurePosixPath(paths[0]).with_suffix('')}{SUFFIX}', one"
            " for each labelled scan, got none"
        )
    return {number: _rows(file, has_file=False) for number, file in file_of.items()}


def _by_scan(
    source: Path, paths: Sequence[str], names: ScanNames, number_of: Mapping[str, int]
) -> dict[int, list[_Row]]:
    found: dict[int, list[_Row]] = {}
    unknown = []
    for row in _rows(source, has_file=True):
        try:
            path = names.find(row.file, "")
        except DataError as error:
            raise DataError(f"{row.where}{error}") from None
        number = -1 if path is None else number_of.get(path, -1)
        if number < 0:
            unknown.append(row.file)
        else:
            found.setdefault(number, []).append(row)
    if not found:
        got = f"'{printable(unknown[0])}'" if unknown else "no row"
        raise DataError(
            f"labels '{source}': expected paths of scans in column '{FILE}', such as '{printable(paths[0])}', got {got}"
        )
    if unknown:
        logger.warning(
            f"labels '{source}': {quantity(len(unknown), 'row')} skipped, of files that are no prepared scan of the"
            f" store, the first is '{printable(unknown[0])}'"
        )
    return found


def _rows(path: Path, has_file: bool) -> list[_Row]:
    """Return the rows of a table that have a label."""
    table = TextTable.read(path, f"labels '{path}'")
    for column in (FILE, START, END, LABEL) if has_file else (START, END, LABEL):
        table.require(column)
    start, end, label = table.parse_numbers(START), table.parse_numbers(END), _texts(table, LABEL)
    file = _texts(table, FILE) if has_file else [""] * len(start)
    values = zip(start.tolist(), end.tolist(), label, file, strict=True)
    rows = [_Row(*each, table, number) for number, each in enumerate(values) if each[2]]
    for row in rows:
        if not 0 <= row.start_seconds < row.end_seconds < float("inf"):
            raise DataError(
                f"{row.where}: expected 0 <= {START} < {END}, got {row.start_seconds:g} and {row.end_seconds:g}"
            )
    return rows


def _texts(table: TextTable, column: str) -> list[str]:
    return [str(value or "").strip() for value in table.data[column].cast(pa.string()).to_pylist()]


def _scan_intervals(rows: list[_Row], code: Mapping[str, int]) -> ScanIntervals:
    rows = sorted(rows, key=lambda row: row.start_seconds)
    for before, after in pairwise(rows):
        if after.start_seconds < before.end_seconds - ROUNDING_SECONDS:
            raise DataError(
                f"{after.where}: expected intervals of a scan that do not overlap, got a start at"
                f" {after.start_seconds:g} s, before the end of another one at {before.end_seconds:g} s"
            )
    start, end = np.array([row.start_seconds for row in rows]), np.array([row.end_seconds for row in rows])
    return ScanIntervals(start, end, np.array([code[row.label] for row in rows], np.int64))
