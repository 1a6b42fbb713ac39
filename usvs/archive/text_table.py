"""Large csv and tsv files read as columns of text, from which numbers and flags are parsed."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from usvs.archive.csv_rows import detect_delimiter
from usvs.errors import DataError

TRUE_WORDS, FALSE_WORDS = ("1", "1.0", "true", "valid"), ("0", "0.0", "false", "invalid", "nan", "")
MISSING_WORDS = ("", "nan", "na", "null", "none")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MAX_LISTED_COLUMNS = 8  # in error messages

Column = NDArray[np.float64]


@dataclass(frozen=True)
class TextTable:
    """A csv or tsv whose values are text; m rows.

    Attributes:
        name: what the table is, with which error messages begin.
        data: columns of strings; surrounding blanks are removed from the names.
        has_decimal_comma: whether numbers may be written with a decimal comma.
    """

    name: str
    data: pa.Table
    has_decimal_comma: bool

    @classmethod
    def read(cls, path: Path, name: str) -> "TextTable":
        """Read a file in UTF-8 or UTF-16.

        Raises:
            DataError: if it is not such a file.
        """
        try:
            with path.open("rb") as file:
                head = file.read(1 << 16)
            if b"\0" in head and not head.startswith(UTF_16_MARKS):
                raise UnicodeError("UTF-16 without a byte order mark")
            encoding = "utf-16" if head[:2] in UTF_16_MARKS else "utf-8"
            header = head.decode(encoding, "replace").removeprefix("\ufeff").splitlines()[0] if head else ""
            delimiter = detect_delimiter(header)
            data = csv.read_csv(
                path,
                # on one thread pyarrow counts the rows, so that an error can state the line
                read_options=csv.ReadOptions(encoding=encoding, use_threads=False),
                parse_options=csv.ParseOptions(delimiter=delimiter),
                convert_options=csv.ConvertOptions(
                    column_types={column.strip('"'): pa.string() for column in header.split(delimiter)},
                    strings_can_be_null=False,
                ),
            )
            data = data.rename_columns([column.strip() for column in data.column_names])
        except (pa.ArrowInvalid, OSError, UnicodeError, IndexError) as error:
            raise DataError(f"{name}: not readable as csv: {_describe(error)}") from None
        return cls(name, data, has_decimal_comma=delimiter != ",")

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
            raise DataError(f"{self.name}: column '{column}' is not readable: expected numbers only") from None

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
        unknown = words.filter(pc.invert(pc.is_in(words, value_set=pa.array([*true, *false]))))
        if len(unknown):
            expected = "/".join(true) + " or " + "/".join(word for word in false if word)
            raise DataError(f"{self.name}: column '{column}': expected {expected}, got '{str(unknown[0])[:20]}'")
        flags: NDArray[np.bool_] = pc.is_in(words, value_set=pa.array(true)).to_numpy()
        return flags

    def require(self, column: str) -> None:
        """Raise an error that lists the columns if a column is missing."""
        if column not in self.columns:
            raise DataError(f"{self.name}: column '{column}' is missing: got {self.list_columns()}")

    def list_columns(self) -> str:
        """Return the first column names for an error message."""
        return ", ".join(self.columns[:MAX_LISTED_COLUMNS])


def _describe(error: Exception) -> str:
    text = str(error)  # pyarrow's message; its end quotes the row, which may contain a name
    row, counts = re.search(r"Row #(\d+)", text), re.search(r"Expected (\d+) columns, got (\d+)", text)
    if counts:
        line = f"line {row[1]}: " if row else ""
        return f"{line}expected {counts[1]} values as in the header, got {counts[2]}"
    if "Empty CSV" in text:
        return "the file is empty"
    if isinstance(error, UnicodeError) or "UTF8" in text:
        return "expected UTF-8 or UTF-16, got another encoding"
    return f"expected columns separated by commas, semicolons or tabs ({type(error).__name__})"
