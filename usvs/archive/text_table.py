"""Large csv and tsv files read as columns of text, from which numbers and flags are parsed."""

import csv as plain_csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from usvs.archive.csv_rows import MAX_HEADER_BYTES, describe_columns, detect_delimiter
from usvs.archive.mixed_tables import find_identity_columns, find_rows_of_scan
from usvs.errors import DataError
from usvs.utils.regular_files import MAX_TABLE_BYTES, open_regular

TRUE_WORDS, FALSE_WORDS = ("1", "1.0", "true", "valid"), ("0", "0.0", "false", "invalid", "nan", "")
MISSING_WORDS = ("", "nan", "na", "null", "none")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

MAX_COLUMNS = 4096  # eye trackers write up to 200; each takes memory whatever it holds
MAX_SHOWN_CHARACTERS = 20  # of a value, in error messages

Column = NDArray[np.float64]


@dataclass(frozen=True)
class TextTable:
    """A csv or tsv whose values are text; m rows.

    Attributes:
        name: what the table is, with which error messages begin.
        data: columns of strings; surrounding blanks are removed from the names.
        has_decimal_comma: whether numbers may be written with a decimal comma.
        path: the file, in which the line of an invalid value is found.
        encoding: of the file.
        delimiter: between its columns.
        rows: number of each row in the file, from 0, without empty lines [m]; None: all rows.
    """

    name: str
    data: pa.Table
    has_decimal_comma: bool
    path: Path
    encoding: str
    delimiter: str
    rows: NDArray[np.int64] | None = None

    @classmethod
    def read(cls, path: Path, name: str) -> "TextTable":
        """Read a file in UTF-8 or UTF-16.

        Raises:
            DataError: if it is not such a file.
        """
        try:
            with open_regular(path, MAX_TABLE_BYTES) as file:
                head = file.read(MAX_HEADER_BYTES)
            if b"\0" in head and not head.startswith(UTF_16_MARKS):
                raise UnicodeError("UTF-16 without a byte order mark")
            encoding = "utf-16" if head[:2] in UTF_16_MARKS else "utf-8"
            header = head.decode(encoding, "replace").removeprefix("\ufeff").splitlines()[0] if head else ""
            delimiter = detect_delimiter(header)
            if (columns := header.count(delimiter) + 1) > MAX_COLUMNS:
                raise DataError(f"{name}, line 1: expected at most {MAX_COLUMNS} columns, got {columns}")
            with open_regular(path, MAX_TABLE_BYTES) as file:
                data = _read(file, header, encoding, delimiter)
            data = data.rename_columns([column.strip() for column in data.column_names])
        except (pa.ArrowInvalid, OSError, UnicodeError, IndexError) as error:
            raise DataError(f"{name}: not readable as csv: {_describe(error)}") from None
        return cls(name, data, delimiter != ",", path, encoding, delimiter)

    def choose_rows(self, names: Sequence[str]) -> "TextTable":
        """Return the rows of one scan, see `usvs.archive.mixed_tables.find_rows_of_scan`.

        Raises:
            DataError: if the table holds several recordings and none can be chosen.
        """
        identifying = set(find_identity_columns(self.columns))
        columns = [number for number, name in enumerate(self.columns) if name in identifying]
        shown = [name if self.columns.count(name) == 1 else f"{name}, {n + 1}" for n, name in enumerate(self.columns)]
        identities = pa.table({shown[number]: self.data.column(number).cast(pa.string()) for number in columns})
        if not columns:
            return self
        is_chosen = find_rows_of_scan(identities, names, self.name)
        if is_chosen.all():
            return self
        return replace(self, data=self.data.filter(pa.array(is_chosen)), rows=np.flatnonzero(is_chosen))

    def line_of(self, row: int) -> int | None:
        """Return the line of the file in which a row of the table ends; None if it cannot be found."""
        number = row if self.rows is None else int(self.rows[row])
        try:
            with TextIOWrapper(open_regular(self.path), encoding=self.encoding, newline="") as file:
                reader = plain_csv.reader(file, delimiter=self.delimiter)
                filled = (values for values in reader if values)
                next(filled)
                for index, _ in enumerate(filled):
                    if index == number:
                        return reader.line_num
        except (OSError, UnicodeError, plain_csv.Error, StopIteration):
            return None
        return None

    def where(self, row: int | None) -> str:
        """Return the table's name for an error message, with the line of a row if it is known."""
        line = None if row is None else self.line_of(row)
        return self.name if line is None else f"{self.name}, line {line}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.data.column_names)

    def get_words(self, column: str) -> pa.ChunkedArray:
        """Return a column's text in lower case without surrounding blanks [m].

        Raises:
            DataError: if there is no such column.
        """
        self.require(column)
        return pc.utf8_lower(pc.utf8_trim_whitespace(self.data[column].cast(pa.string())))

    def parse_numbers(self, column: str) -> Column:
        """Return a column's numbers, NaN where a value is missing [m].

        Raises:
            DataError: if there is no such column, or a value is not a number.
        """
        words = self.get_words(column)
        if self.has_decimal_comma:
            words = pc.replace_substring(words, ",", ".")
        is_missing = pc.is_in(words, value_set=pa.array(MISSING_WORDS))
        try:
            return np.asarray(pc.if_else(is_missing, "nan", words).cast(pa.float64()).to_numpy(), np.float64)
        except pa.ArrowInvalid:
            row = _find_failure(words, is_missing)
            got = "" if row is None else f", got '{str(words[row])[:MAX_SHOWN_CHARACTERS]}'"
            raise DataError(f"{self.where(row)}: column '{column}' is not readable: expected a number{got}") from None

    def parse_component(self, stem: str, axis: int) -> Column | None:
        """Return one component of a point that is stored as columns stem_x, stem_y, stem_z or as a tuple in one column.

        Args:
            stem: common part of the column names.
            axis: 0, 1 or 2.

        Returns:
            The numbers [m]; None if there is no such column.

        Raises:
            DataError: if a value is not a number, or not a tuple of numbers.
        """
        column = f"{stem}_{'xyz'[axis]}"
        if column in self.columns:
            return self.parse_numbers(column)
        if stem not in self.columns:
            return None
        parts = pc.split_pattern(pc.replace_substring_regex(self.get_words(stem), r"[()\[\]\s]", ""), ",")
        is_long_enough = pc.greater(pc.list_value_length(parts), axis)
        texts = pc.if_else(is_long_enough, parts, pa.scalar(["nan"] * 3, parts.type))
        try:
            return np.asarray(pc.list_element(texts, axis).cast(pa.float64()).to_numpy(), np.float64)
        except pa.ArrowInvalid:
            raise DataError(f"{self.name}: column '{stem}' is not readable: expected tuples of numbers only") from None

    def parse_flags(
        self, column: str, true: tuple[str, ...] = TRUE_WORDS, false: tuple[str, ...] = FALSE_WORDS
    ) -> NDArray[np.bool_]:
        """Return where a column holds one of the words for true [m].

        Raises:
            DataError: for any other word than those for true and false, such as one in another language.
        """
        words = self.get_words(column)
        unknown = np.flatnonzero(~pc.is_in(words, value_set=pa.array([*true, *false])).to_numpy())
        if len(unknown):
            row = int(unknown[0])
            expected = "/".join(true) + " or " + "/".join(word for word in false if word)
            got = str(words[row])[:MAX_SHOWN_CHARACTERS]
            raise DataError(f"{self.where(row)}: column '{column}': expected {expected}, got '{got}'")
        flags: NDArray[np.bool_] = pc.is_in(words, value_set=pa.array(true)).to_numpy()
        return flags

    def require(self, column: str) -> None:
        """Raise an error that lists the columns if a column is missing, or there are several of its name."""
        if (count := self.columns.count(column)) > 1:
            raise DataError(f"{self.name}, line 1: expected one column '{column}', got {count}")
        if column not in self.columns:
            raise DataError(f"{self.name}, line 1: column '{column}' is missing: got {self.describe_columns([column])}")

    def describe_columns(self, known: Iterable[str]) -> str:
        """Return the columns for an error message: those that are known or similar to a known one, and a number."""
        return describe_columns(self.columns, known)


def _read(file: BinaryIO, header: str, encoding: str, delimiter: str) -> pa.Table:
    return csv.read_csv(
        file,
        # on one thread pyarrow counts the rows, so that an error can state the line
        read_options=csv.ReadOptions(encoding=encoding, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(
            column_types={column.strip('"'): pa.string() for column in header.split(delimiter)},
            strings_can_be_null=False,
        ),
    )


def _find_failure(words: pa.ChunkedArray, is_missing: pa.ChunkedArray) -> int | None:
    """Return the first row that is not a number: by halving, as a table has millions of rows."""
    first, last = 0, len(words)
    while last - first > 1:
        middle = (first + last) // 2
        half = pc.if_else(is_missing.slice(first, middle - first), "nan", words.slice(first, middle - first))
        try:
            half.cast(pa.float64())
            first = middle
        except pa.ArrowInvalid:
            last = middle
    return first if first < last else None


def _describe(error: Exception) -> str:
    text = str(error)  # pyarrow's message; its end quotes the row, which may contain a name
    row, counts = re.search(r"Row #(\d+)", text), re.search(r"Expected (\d+) columns, got (\d+)", text)
    if counts:
        line = f"line {row[1]}: " if row else ""
        return f"{line}expected {counts[1]} values as in the header, got {counts[2]}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "Empty CSV" in text:
        return "the file is empty"
    if isinstance(error, UnicodeError) or "UTF8" in text:
        return "expected UTF-8 or UTF-16, got another encoding"
    return f"expected columns separated by commas, semicolons or tabs ({type(error).__name__})"
