"""The optional table of labels of an archive, ``labels.csv``: rows that name a file, and their labels.

A row is of a whole file, or with ``start_seconds`` and ``end_seconds`` (or ``frame``) of a part of it. Every column
that names neither a file, a patient nor a time is a label column.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from usvs.archive.csv_rows import describe_columns, open_csv
from usvs.archive.label_tracks import LabelRow, label_columns, make_tracks, parse_label_row
from usvs.archive.scan_names import ScanNames
from usvs.archive.settings import LabelSettings
from usvs.errors import DataError

logger: logging.Logger = logging.getLogger(__name__)

LABELS_FILE = "labels.csv"
FILE_COLUMNS = ("file", "scan", "video", "filename", "file_name", "path", "clip")  # the first that a table has


@dataclass(frozen=True)
class LabelTable:
    """A table of labels, by scan.

    Attributes:
        file: where it is; None without one.
        name: of the file, for messages.
        rows: rows of labels by path of the scan.
        patients: name or id of the patient by path of the scan, where the table has them.
        unmatched: number of rows whose file is not in the archive.
        first_unmatched: the first of them: line and name.
        problem: why the table is not used; None if it is, or there is none.
    """

    file: Path | None = None
    name: str = LABELS_FILE
    rows: dict[str, tuple[LabelRow, ...]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    unmatched: int = 0
    first_unmatched: str = ""
    problem: str | None = None


def find_label_table(archive: Path, scans: Iterable[str], settings: LabelSettings, given: Path | None) -> LabelTable:
    """Find and read the table of labels of an archive.

    It is the given file, else a table beside the archive that names files of it: ``ARCHIVE.csv`` or ``labels.csv``. A
    table that cannot be used is returned with its `problem`.

    Args:
        archive: the folder.
        scans: paths of the scans in it.
        settings: names of its columns.
        given: the table in the archive, or that the owner names; None: it is searched beside the archive.

    Raises:
        DataError: for a given file that does not exist.
    """
    if given is not None and not given.exists():
        raise DataError(f"labels '{given}': expected a csv, got no such file")
    folder, names = archive.resolve(), tuple(scans)
    if given is not None:
        return _read(given, names, folder.name, settings)
    for file in (folder.parent / f"{folder.name}.csv", folder.parent / LABELS_FILE):
        if file.is_file():
            table = _read(file, names, folder.name, settings)
            if table.rows or (table.problem and _names_a_scan(file, names, folder.name, settings)):
                return table  # others are not of this archive
            if table.unmatched:
                logger.warning(
                    f"labels '{file}' are not used: expected rows that name files of the archive, got"
                    f" {table.first_unmatched} as the first of {table.unmatched}; if they are of this archive, correct"
                    " the names or give the file's name alone"
                )
    return LabelTable()


def _read(file: Path, scans: tuple[str, ...], archive: str, settings: LabelSettings) -> LabelTable:
    try:
        return read_label_table(file, scans, archive, settings)
    except DataError as error:
        return LabelTable(file, file.name, problem=str(error))


def _names_a_scan(file: Path, scans: tuple[str, ...], archive: str, settings: LabelSettings) -> bool:
    """Return whether any row of a table, which may be invalid otherwise, names a scan."""
    names = ScanNames(scans, archive)
    try:
        with open_csv(file, file.name) as table:
            column = _file_column(table.columns, settings)
            return column is not None and any(names.find(row.values[column], "") for row in table.rows)
    except DataError:
        return False


def _file_column(columns: Iterable[str], settings: LabelSettings) -> str | None:
    """Return the column with the names of files; capitals are not regarded."""
    by_name = {column.lower(): column for column in columns}
    chosen = (settings.file_column,) if settings.file_column else FILE_COLUMNS
    return next((by_name[name.lower()] for name in chosen if name.lower() in by_name), None)


def read_label_table(file: Path, scans: Iterable[str], archive: str, settings: LabelSettings) -> LabelTable:
    """Read a table of labels.

    Args:
        file: the csv.
        scans: paths of the scans in the archive.
        archive: name of the archive's folder.
        settings: names of its columns.

    Raises:
        DataError: for a missing column, an invalid row, a name that fits several files, or two patients of one file;
            with its line.
    """
    what, names = file.name, ScanNames(scans, archive)
    rows: dict[str, list[LabelRow]] = defaultdict(list)
    patients: dict[str, str] = {}
    unmatched: list[str] = []
    with open_csv(file, what) as table:
        by_name = {column.lower(): column for column in table.columns}
        file_column = _file_column(table.columns, settings)
        if file_column is None:
            chosen = (settings.file_column,) if settings.file_column else FILE_COLUMNS
            got = describe_columns(table.columns, (*chosen, "patient", "label"))
            raise DataError(f"{what}, line 1: expected a column {' or '.join(chosen)}, got {got}")
        patient_column = by_name.get((settings.patient_column or "patient").lower())
        if settings.patient_column and patient_column is None:
            raise DataError(f"{what}, line 1: expected a column '{settings.patient_column}' with patients, got none")
        other = [column for column in (file_column, patient_column) if column]
        columns = label_columns(table.columns, settings.columns, what, other)
        for row in table.rows:
            where = f"{what}, line {row.line}"
            if not row.values[file_column]:
                raise DataError(f"{where}, column '{file_column}': expected the path of a file, got none")
            path = names.find(row.values[file_column], where)
            if path is None:
                unmatched.append(f"line {row.line}: {row.values[file_column]}")
                continue
            patient = row.values[patient_column] if patient_column else ""
            if patient and patients.setdefault(path, patient) != patient:
                raise DataError(f"{where}: expected one patient for a file, got another one than in an earlier line")
            rows[path].append(parse_label_row(row, table, columns, what))
    for found in rows.values():
        make_tracks(found, what)  # raises for labels that overlap
    return LabelTable(
        file,
        what,
        {path: tuple(found) for path, found in rows.items()},
        patients,
        len(unmatched),
        unmatched[0] if unmatched else "",
    )
