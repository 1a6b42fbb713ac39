"""Strict reading of csv files that people write by hand or save from a spreadsheet."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.errors import DataError

DELIMITERS = ",;\t"  # in order of preference


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
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = detect_delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                columns = tuple(name.strip() for name in next(reader, []))
                repeated = [name for name, count in Counter(columns).items() if name and count > 1]
                if repeated:
                    raise DataError(f"{what}: column '{repeated[0]}' is repeated: expected each column once")
                yield CsvFile(columns, _iter_rows(reader, columns, what, delimiter))
            except csv.Error as error:
                raise DataError(f"{what}, line {reader.line_num}: not readable as csv ({error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{what}: not readable as csv: expected UTF-8, got another encoding") from None
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
