"""What `usvs index` prints of labels: files, seconds and patients of each class, and labels that may be one class."""

import csv
import io
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usvs.archive.class_list import LEFT_OUT, UNLABELLED, ClassList, ClassRules
from usvs.archive.label_tables import LabelTable
from usvs.archive.label_tracks import LabelTrack, load_labels
from usvs.archive.similar_labels import similar_groups
from usvs.store.store_labels import class_lists
from usvs.utils.text import printable, quantity

MAX_LISTED_CLASSES = 24  # of a column; one with more is counted only
MAX_SINGLE_CLASSES = 8  # of a column most of whose classes are of one file
MAX_NAME_LETTERS = 48
MAX_QUESTIONS = 6  # of a column


@dataclass
class ClassCount:
    """Where a class occurs.

    Attributes:
        files: number of scans.
        seconds: how long it is shown.
        patients: number of known patients.
    """

    files: int = 0
    seconds: float = 0.0
    patients: int = 0
    _patients: set[str] = field(default_factory=set, repr=False, compare=False)

    def add(self, seconds: float, patient: str | None) -> None:
        """Count a scan."""
        self.files += 1
        self.seconds += seconds
        self._patients |= {patient} if patient else set()
        self.patients = len(self._patients)


@dataclass(frozen=True)
class LabelSummary:
    """The labels of an archive in numbers.

    Attributes:
        counts: by label column and class, in the order of the class list; classes without a label are among them.
        left_out: number of files with labels that ``classes.csv`` leaves out, by label column.
        questions: by label column, groups of labels that may be one class, each with its number of files.
        unmatched: number of rows of the table of labels whose file is not in the archive.
        lines: as text, for the owner's terminal.
    """

    counts: Mapping[str, Mapping[str, ClassCount]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    questions: Mapping[str, Sequence[Mapping[str, int]]] = field(default_factory=dict)
    unmatched: int = 0
    lines: tuple[str, ...] = ()


def summarise_labels(
    rows: Sequence[Mapping[str, Any]], rules: ClassRules, table: LabelTable, class_file: Path
) -> LabelSummary:
    """Count the labels of the usable scans.

    Args:
        rows: of the catalogue: labels, patient_key, duration_seconds and frames.
        rules: of the archive's ``classes.csv``.
        table: of labels, whose name and unmatched rows are printed.
        class_file: the ``classes.csv`` in use, or the one that the owner may write.
    """
    lists = class_lists([row["labels"] for row in rows], rules)
    counts = count_labels(rows, rules)
    raw: dict[str, dict[str, int]] = {column: {} for column in lists}
    left_out, files = dict.fromkeys(lists, 0), dict.fromkeys(lists, 0)
    for row in rows:
        for column, track in load_labels(row["labels"]).items():
            files[column] += 1
            labels = {span.label for span in track.spans}
            left_out[column] += any(lists[column].find(label) == UNLABELLED for label in labels)
            for label in labels:
                raw[column][label] = raw[column].get(label, 0) + 1
    remarks = {column for column in lists if _are_remarks(counts[column], files[column])}
    questions = {column: _questions(lists[column], raw[column], rules) for column in lists if column not in remarks}
    lines = _lines(counts, left_out, remarks, questions, rules, table, class_file)
    return LabelSummary(counts, left_out, questions, table.unmatched, tuple(lines))


def count_labels(rows: Sequence[Mapping[str, Any]], rules: ClassRules) -> dict[str, dict[str, ClassCount]]:
    """Return where each class occurs, by label column, in the order of the class lists.

    Args:
        rows: of the catalogue: labels, patient_key, duration_seconds and frames.
        rules: of the archive's ``classes.csv``.
    """
    lists = class_lists([row["labels"] for row in rows], rules)
    counts = {column: {name: ClassCount() for name in found.names} for column, found in lists.items()}
    for row in rows:
        for column, track in load_labels(row["labels"]).items():
            _count_scan(row, track, lists[column], counts[column])
    return counts


def _count_scan(
    row: Mapping[str, Any], track: LabelTrack, classes: ClassList, counts: Mapping[str, ClassCount]
) -> None:
    seconds: dict[str, float] = {}
    for span, shown in zip(track.spans, track.seconds(row["duration_seconds"], row["frames"]).tolist(), strict=True):
        name = classes.aliases.get(span.label, span.label)
        if shown > 0 and name != LEFT_OUT:
            seconds[name] = seconds.get(name, 0.0) + shown
    for name, total in seconds.items():
        counts[name].add(total, row["patient_key"])


def _questions(classes: ClassList, files: Mapping[str, int], rules: ClassRules) -> list[dict[str, int]]:
    """Return groups of similar labels, the most frequent first, of which the owner has not decided."""
    labels = sorted({*classes.names, *files}, key=lambda label: (-files.get(label, 0), label))
    open_labels = [label for label in labels if label not in classes.aliases]
    groups = similar_groups(open_labels)
    return [
        {label: files.get(label, 0) for label in group}
        for group in groups
        if not rules.are_settled(classes.column, group)
    ]


def _lines(
    counts: Mapping[str, Mapping[str, ClassCount]],
    left_out: Mapping[str, int],
    remarks: Collection[str],
    questions: Mapping[str, Sequence[Mapping[str, int]]],
    rules: ClassRules,
    table: LabelTable,
    class_file: Path,
) -> list[str]:
    lines = [f"labels: read from '{table.file}'"] if table.file and not table.problem else []
    if table.unmatched:
        more = "the first is " if table.unmatched > 1 else ""
        rows = quantity(table.unmatched, "row")
        lines.append(
            f"labels: {rows} of {table.name} of files that are not in the archive, {more}{table.first_unmatched}"
        )
    if unused := sorted({rule.column for rule in rules.rules} - {"", *counts}):
        lines.append(f"{class_file.name}: rows of column '{unused[0]}', which no label is in, are not used")
    for column, classes in counts.items():
        number = f"{len(classes)} {'class' if len(classes) == 1 else 'classes'}"
        out = f"; labels of {quantity(left_out[column], 'file')} are left out" if left_out[column] else ""
        if column in remarks:
            number += ", too many or in too few files to be listed"
        lines.append(f"labels '{column}': {number}{out}")
        lines += [] if column in remarks else _class_lines(classes)
        groups = questions.get(column, [])
        for group in groups[:MAX_QUESTIONS]:
            lines += _question(column, group, class_file)
        if (more_questions := len(groups) - MAX_QUESTIONS) > 0:
            lines.append(f"question: and {more_questions} more groups of similar labels in column '{column}'")
    return lines


def _are_remarks(classes: Mapping[str, ClassCount], files: int) -> bool:
    """Return whether a column looks like remarks, dates or addresses: many values, most of them of one whole file.

    Args:
        classes: of the column.
        files: number of scans with a label; where labels are of intervals, a scan has several classes.
    """
    once = sum(count.files <= 1 for count in classes.values())
    are_of_files = sum(count.files for count in classes.values()) <= files
    single = are_of_files and len(classes) > MAX_SINGLE_CLASSES and 2 * once > len(classes)
    return single or len(classes) > MAX_LISTED_CLASSES


def _class_lines(classes: Mapping[str, ClassCount]) -> list[str]:
    names = [textwrap.shorten(printable(name), MAX_NAME_LETTERS, placeholder="...") for name in classes]
    width = max(map(len, names), default=0)
    return [
        f"  {name:<{width}} {quantity(count.files, 'file'):>11}{count.seconds:>10.1f} s"
        f"{quantity(count.patients, 'patient'):>14}"
        for name, count in zip(names, classes.values(), strict=True)
    ]


def _question(column: str, group: Mapping[str, int], class_file: Path) -> list[str]:
    """Return a question to the owner, with the lines that answer it."""
    main, *others = group
    listed = ", ".join(f"'{label}' ({quantity(count, 'file')})" for label, count in group.items())
    return [
        f"question: are these labels of column '{column}' one class? {listed}",
        f"  if they are, write into '{class_file}' and run 'usvs index' again:",
        "    column,label,class",
        *(f"    {_csv_line(column, label, main)}" for label in others),
        "  if not, write instead, so that you are not asked again:",
        *(f"    {_csv_line(column, label, label)}" for label in group),
    ]


def _csv_line(*values: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
