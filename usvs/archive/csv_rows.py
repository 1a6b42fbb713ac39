"""Strict reading of csv files that people write by hand or save from a spreadsheet."""

import csv
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.utils.regular_files import MAX_TEXT_BYTES, open_regular

DELIMITERS = ",;\t"  # in order of preference
MAX_HEADER_BYTES = 1 << 16  # a file without ends of line is not a table
MAX_LISTED_COLUMNS = 8  # in error messages
SIMILARITY = 0.8  # of a column name to a known one, by difflib


@dataclass(frozen=True)
class CsvRow:
    """One row of a csv.

    Attributes:
        line: its line number in the file.
        values: text by column, without surrounding blanks; a missing value is empty.
        has_decimal_comma: whether numbers may be written with a decimal comma.
    """

    line: int
    values: dict[str, str]
    has_decimal_comma: bool

    def parse_number(self, column: str) -> float:
        """Return the number in a column.

        Raises:
            ValueError: if it is not a number.
        """
        text = self.values[column]
        return float(text.replace(",", ".") if self.has_decimal_comma else text)


@dataclass(frozen=True)
class CsvFile:
    """An opened csv.

    Attributes:
        columns: names in the header.
        rows: rows in order, without empty ones.
    """

    columns: tuple[str, ...]
    rows: Iterator[CsvRow]


def detect_delimiter(header: str) -> str:
    """Return the delimiter that occurs most often in a header line outside of quotes: comma, semicolon or tab."""
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=unquoted.count)


def describe_columns(columns: Sequence[str], known: Iterable[str]) -> str:
    """Return the columns of a table for an error message: the known names, names similar to them, and a number.

    Other names are not shown: where the file is not the expected table, perhaps a link to another file, its first line
    is that file's content.

    Args:
        columns: names in the header.
        known: names that a table of this kind may have.
    """
    names = {_normalize(name): name for name in known}
    shown: list[str] = []
    for column in columns:
        similar = difflib.get_close_matches(_normalize(column), names, n=1, cutoff=SIMILARITY)
        if similar and len(column) <= 2 * len(similar[0]):
            shown.append(f"'{column}'" if column == names[similar[0]] else f"'{column}' (not '{names[similar[0]]}')")
    others = len(columns) - len(shown)
    listed = [*shown[:MAX_LISTED_COLUMNS], *(["more"] if len(shown) > MAX_LISTED_COLUMNS else [])]
    if others:
        listed.append(f"{others} {'other ' if shown else ''}column{'' if others == 1 else 's'} of unknown name")
    return ", ".join(listed) or "an empty file"


def check_spelling(columns: Iterable[str], known: Sequence[str], what: str) -> None:
    """Check that no column of unknown name looks like a known one.

    Args:
        columns: names in the header.
        known: names that have a meaning in a table of this kind.
        what: name of the file, with which the error begins.

    Raises:
        DataError: for the first one that does.
    """
    for name in sorted(set(columns) - set(known)):
        similar = difflib.get_close_matches(name.lower().replace(" ", "_"), known, n=1, cutoff=SIMILARITY)
        if similar:  # other unknown columns are notes of the owner, or labels
            raise DataError(f"{what}, line 1: unknown column '{name}': did you mean '{similar[0]}'?")


def _normalize(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.lower()).strip()


@contextmanager
def open_csv(path: Path, what: str) -> Iterator[CsvFile]:
    """Open a csv in UTF-8 whose columns are separated by commas, or by semicolons or tabs as spreadsheets save them.

    Args:
        path: the csv.
        what: name of the file or of its contents, with which error messages begin.

    Raises:
        DataError: if it is not a csv, names a column twice, or a row has more values than there are columns.
    """
    try:
        with TextIOWrapper(open_regular(path, MAX_TEXT_BYTES), encoding="utf-8-sig", newline="") as file:
            delimiter = detect_delimiter(file.readline(MAX_HEADER_BYTES))
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                columns = tuple(name.strip() for name in next(reader, []))
                repeated = [number for number, name in enumerate(columns, 1) if name and name in columns[: number - 1]]
                if repeated:
                    raise DataError(
                        f"{what}, line 1: column {repeated[0]} repeats the name of an earlier one: expected each once"
                    )
                yield CsvFile(columns, _iter_rows(reader, columns, what, delimiter))
            except csv.Error as error:
                raise DataError(f"{what}, line {reader.line_num}: not readable as csv ({error})") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{what}: not readable as csv: expected UTF-8 (in Excel: save as 'CSV UTF-8'), got another encoding"
        ) from None
    except OSError as error:
        raise DataError(f"{what}: not readable: {error.strerror}") from None


def _iter_rows(reader: Any, columns: tuple[str, ...], what: str, delimiter: str) -> Iterator[CsvRow]:
    for raw in reader:
        values = [value.strip() for value in raw]
        if any(values[len(columns) :]):  # an unquoted comma in a name would shift all values after it
            raise DataError(
                f"{what}, line {reader.line_num}: expected {len(columns)} values, got {len(values)}: "
                "put a value that contains a comma in quotes"
            )
        if any(values):
            filled = values + [""] * (len(columns) - len(values))
            yield CsvRow(reader.line_num, dict(zip(columns, filled, strict=False)), delimiter != ",")
