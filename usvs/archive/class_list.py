"""Class lists: the classes of one label column in their order, with other spellings and colours.

A class list is made from the labels of an archive and its optional ``classes.csv``. It goes from there to the store,
the task, the saved model and its predictions. Labels are compared as they are written: two spellings are one class only
where ``classes.csv`` says so.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import Self

from usvs.archive.csv_rows import CsvRow, check_spelling, describe_columns, open_csv
from usvs.errors import DataError
from usvs.utils.regular_files import read_regular_text

CLASSES_FILE = "classes.csv"
COLUMNS = ("column", "label", "class", "colour")
UNLABELLED = -1
LEFT_OUT = ""  # the class of labels that are not used
MAX_LABEL_LETTERS = 200
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# Distinct for neighbours, also on a dark background; the 21st class has the colour of the first.
PALETTE = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    *("#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#c7c7c7", "#dbdb8d", "#9edae5"),
)


@dataclass(frozen=True)
class ClassList:
    """The classes of one label column.

    Attributes:
        names: of the classes; the number of a class is its index here.
        aliases: other labels and the class that each is used as; ``""`` for labels that are left out.
        colours: of the classes, ``#rrggbb``; by default those of `PALETTE`.
        column: the label column that the classes are of; empty for labels without one.

    Raises:
        ValueError: for two classes of one name, an alias of no class, or an invalid number of colours.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    colours: tuple[str, ...] = ()
    column: str = ""

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"classes: expected different names, got {list(self.names)}")
        if unknown := sorted(set(self.aliases.values()) - {*self.names, LEFT_OUT}):
            raise ValueError(f"aliases: expected names of classes, got '{unknown[0]}'")
        if not self.colours:
            object.__setattr__(self, "colours", tuple(PALETTE[n % len(PALETTE)] for n in range(len(self.names))))
        if len(self.colours) != len(self.names) or not all(COLOUR.fullmatch(colour) for colour in self.colours):
            raise ValueError(f"colours: expected #rrggbb for each of {len(self.names)} classes, got {self.colours}")

    def __len__(self) -> int:
        return len(self.names)

    def find(self, label: str) -> int | None:
        """Return the class number of a label; `UNLABELLED` (-1) for one that is left out, None for an unknown one."""
        name = self.aliases.get(label, label)
        if name in self.names:
            return self.names.index(name)
        return UNLABELLED if name == LEFT_OUT else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which `from_json` makes the list again."""
        return {
            "classes": list(self.names),
            "aliases": dict(self.aliases),
            "colours": list(self.colours),
            "column": self.column,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make a list of plain values; all but the classes may be missing.

        Raises:
            KeyError, TypeError, ValueError: for values that cannot be used.
        """
        return cls(
            tuple(str(name) for name in values["classes"]),
            {str(label): str(name) for label, name in dict(values.get("aliases", {})).items()},
            tuple(str(colour) for colour in values.get("colours", ())),
            str(values.get("column", "")),
        )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a list from a file: a ``classes.csv``, or a text with one class a line.

        Raises:
            DataError: for a file that cannot be read, has no class or names one twice.
        """
        file = Path(path)
        if file.suffix.lower() == ".csv":
            found = read_class_rules(file).class_list("", ())
            names, aliases, colours = found.names, found.aliases, found.colours
        else:
            try:
                lines = read_regular_text(file).splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"class list '{file}': expected a text file in UTF-8, got {error}") from None
            names, aliases, colours = tuple(filter(None, map(clean_label, lines))), {}, ()
        try:
            made = cls(names, aliases, colours)
        except ValueError as error:
            raise DataError(f"class list '{file}': {error}") from None
        if not made.names:
            raise DataError(f"class list '{file}': expected at least one class, got none")
        return made


class ClassRule(NamedTuple):
    """A row of ``classes.csv``: which class a label is.

    Attributes:
        column: the label column that it is about; empty for every one that has the label.
        label: as it is written in the labels.
        name: of the class; empty for a label that is left out.
        colour: of the class; empty for one of the palette.
    """

    column: str
    label: str
    name: str
    colour: str


@dataclass(frozen=True)
class ClassRules:
    """What ``classes.csv`` says: the order of classes, their colours, and labels that are one class or left out."""

    rules: tuple[ClassRule, ...] = ()

    def class_list(self, column: str, labels: Iterable[str]) -> ClassList:
        """Return the classes of a column: those of the rules in their order, then the other labels, sorted.

        Args:
            column: its name; empty: rules of any column count.
            labels: that occur in it.
        """
        found = set(labels)
        of_all = {rule.name for rule in self.rules if found & {rule.label, rule.name}}  # where a rule has no column
        rules = [
            rule
            for rule in self.rules
            if not column or rule.column == column or (not rule.column and (rule.name in of_all or rule.label in found))
        ]
        aliases = {rule.label: rule.name for rule in rules if rule.label != rule.name}
        listed = list(dict.fromkeys(rule.name for rule in rules if rule.name != LEFT_OUT))
        others = sorted(found - set(listed) - set(aliases), key=natural_key)
        colours = {rule.name: rule.colour for rule in rules if rule.colour}
        names = (*listed, *others)
        shown = (colours.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(names))
        return ClassList(names, aliases, tuple(shown), column)

    def are_settled(self, column: str, labels: Sequence[str]) -> bool:
        """Return whether each of some labels has a rule of its own, so that nobody needs to be asked about them."""
        ruled = {rule.label for rule in self.rules if rule.column in ("", column)}
        return set(labels) <= ruled

    def dump(self) -> str:
        """Return the rules as text, for `load`."""
        return json.dumps(self.rules)

    @classmethod
    def load(cls, text: str) -> Self:
        """Return the rules of a text of `dump`."""
        return cls(tuple(ClassRule(*map(str, values)) for values in json.loads(text)))


def clean_label(text: str) -> str:
    """Return a label as labels are compared: composed letters, single blanks, none around it."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def natural_key(label: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts labels without regard to capitals, and numbers in them by value: 2 before 10."""
    parts = re.findall(r"\d+|\D+", label.lower())
    numbered = ((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
    return (*numbered, (2, 0, label))


def read_class_rules(path: Path) -> ClassRules:
    """Read a ``classes.csv``: columns ``label`` and ``class``; optional ``column`` and ``colour``.

    Raises:
        DataError: for a missing column, an invalid colour, or a label that is two classes; with its line.
    """
    rules: list[ClassRule] = []
    with open_csv(path, path.name) as file:
        if missing := [name for name in ("label", "class") if name not in file.columns]:
            got = describe_columns(file.columns, COLUMNS)
            raise DataError(
                f"{path.name}, line 1: column '{missing[0]}' is missing: expected label and class, got {got}"
            )
        check_spelling(file.columns, COLUMNS, path.name)
        for row in file.rows:
            rules.append(_parse_rule(row, f"{path.name}, line {row.line}", rules))
    return ClassRules(tuple(rules))


def _parse_rule(row: CsvRow, where: str, earlier: Sequence[ClassRule]) -> ClassRule:
    column, label, name, colour = (clean_label(row.values.get(one, "")) for one in COLUMNS)
    rule = ClassRule(column, label or name, name, colour.lower())
    if not rule.label:
        raise DataError(f"{where}: expected a label, got none")
    if colour and not COLOUR.fullmatch(colour):
        raise DataError(f"{where}: expected a colour such as #1f77b4, got '{colour}'")
    for other in (one for one in earlier if one.column == column or not one.column or not column):
        if other.label == rule.label and other.name != name:
            raise DataError(f"{where}: label '{rule.label}' has two classes: '{other.name}' and '{name}'")
        if other.name == name and other.colour and colour and other.colour != rule.colour:
            raise DataError(f"{where}: class '{name}' has two colours: '{other.colour}' and '{rule.colour}'")
        for label_of, class_of in ((other, rule), (rule, other)):
            if label_of.name != label_of.label == class_of.name:
                raise DataError(
                    f"{where}: '{class_of.name}' is a class and also a label of class '{label_of.name}': expected one"
                )
    return rule
