"""Rows of the csv files that people write by hand or save from a spreadsheet, none of them misread in silence."""

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.errors import DataError


@dataclass(frozen=True)
class CsvRow:
    """One row: its line in the file and its texts by column, free of blanks around them; a missing one is empty."""

    line: int
    texts: dict[str, str]
    decimal_comma: bool

    def number(self, column: str) -> float:
        """Return a column's number; ValueError where it holds none."""
        text = self.texts[column]
        return float(text.replace(",", ".") if self.decimal_comma else text)


@dataclass(frozen=True)
class CsvFile:
    """An opened csv.

    Attributes:
        columns: names in the header.
        rows: in order, those that are all empty left out.
    """

    columns: tuple[str, ...]
    rows: Iterator[CsvRow]


@contextmanager
def open_csv(path: Path, what: str) -> Iterator[CsvFile]:
    """Open a csv in UTF-8; its columns are apart by commas, or by semicolons or tabs as spreadsheets save them.

    Args:
        path: of the csv.
        what: it is, as the beginning of a message.

    Raises:
        DataError: where it is no such csv, names a column twice, or a row has more values than there are columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            delimiter = next((letter for letter in "\t;" if letter in head and "," not in head), ",")
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                columns = tuple(name.strip() for name in next(reader, []))
                twice = [name for name, count in Counter(columns).items() if name and count > 1]
                if twice:
                    raise DataError(f"{what}: column '{twice[0]}' is there twice")
                yield CsvFile(columns, _rows(reader, columns, what, delimiter))
            except csv.Error as error:
                raise DataError(f"{what}, line {reader.line_num}: not readable as csv ({error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{what}: not readable as csv: expected UTF-8, got another encoding") from None
    except OSError as error:
        raise DataError(f"{what}: not readable: {error.strerror}") from None


def _rows(reader: Any, columns: tuple[str, ...], what: str, delimiter: str) -> Iterator[CsvRow]:
    for raw in reader:
        values = [value.strip() for value in raw]
        if any(values[len(columns) :]):  # a comma inside of a name, not quoted, moves all that follows it
            raise DataError(
                f"{what}, line {reader.line_num}: expected {len(columns)} values, got {len(values)}; "
                "a value with a comma in it stands in quotes"
            )
        if any(values):
            filled = values + [""] * (len(columns) - len(values))
            yield CsvRow(reader.line_num, dict(zip(columns, filled, strict=False)), delimiter != ",")
