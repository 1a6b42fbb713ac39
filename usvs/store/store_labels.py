"""The labels of a store: class lists of its label columns, and the class of each frame.

Labels are kept in the catalogue as they are written; which class a label is, is looked up when it is read. So a merged
class or a corrected label needs `usvs index` again, not `usvs prepare`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED, ClassList, ClassRules
from usvs.archive.label_tracks import LabelTrack, dump_labels, load_labels
from usvs.archive.labels import PLANE_COLUMN, find_plane_index
from usvs.errors import ConfigError, DataError
from usvs.utils.text import printable

PREFERRED_COLUMNS = ("label", "class")  # used where there are several and none is chosen
MAX_LISTED = 30  # names in a message
MAX_NAME_LETTERS = 40  # of a class in a message; a column of links is a label column, too
CACHED_SCANS = 64


class StoreLabels:
    """Labels of the scans of a store, by label column.

    Args:
        texts: of `usvs.archive.label_tracks.dump_labels` for each usable scan of the catalogue.
        prepared: number of each prepared scan among them.
        rules: of the archive's ``classes.csv``.
    """

    def __init__(self, texts: Sequence[str | None], prepared: Sequence[int], rules: ClassRules) -> None:
        self._texts, self._prepared, self._rules = texts, prepared, rules
        self._load = lru_cache(CACHED_SCANS)(load_labels)

    @cached_property
    def classes(self) -> Mapping[str, ClassList]:
        """Class list of each label column; of all usable scans, so that it is the same whichever are prepared."""
        return class_lists(self._texts, self._rules)

    def class_list(self, column: str) -> ClassList:
        """Return the classes of a label column.

        Raises:
            ConfigError: for a column that the store does not have.
        """
        if column not in self.classes:
            have = ", ".join(f"'{name}'" for name in self.classes) or "none"
            raise ConfigError(f"label column: expected one of the store's ({have}), got '{column}'")
        return self.classes[column]

    def choose_column(self, column: str | None = None) -> str:
        """Return a label column: the one asked for, the only one, or one of `PREFERRED_COLUMNS`.

        Raises:
            ConfigError: for a column that the store does not have, or none where there are several.
            DataError: for a store without labels.
        """
        if not self.classes:
            raise DataError(
                "this store has no labels: put a labels.csv with the columns file and label into the archive, or "
                "<scan>.labels.csv beside the videos, and run 'usvs index' again"
            )
        if column is not None:
            return self.class_list(column).column
        names = [*(name for name in PREFERRED_COLUMNS if name in self.classes), *self.classes]
        if len(self.classes) > 1 and names[0] not in PREFERRED_COLUMNS:
            listed = ", ".join(f"{name} ({len(found)} classes)" for name, found in self.classes.items())
            raise ConfigError(f"label column: expected --labels with one of {listed}; got none")
        return names[0]

    def of_scan(self, scan: int, classes: ClassList, frame_seconds: NDArray[np.float64]) -> NDArray[np.int64] | None:
        """Return the class number of each frame of a prepared scan [n], -1 without a label; None for no labels at all.

        Args:
            scan: number of the prepared scan.
            classes: to number the labels by, with the label column.
            frame_seconds: frame times [n].

        Raises:
            DataError: for a label that is no class of the list.
        """
        track = self._track(scan, classes.column)
        if track is None:
            return None
        own = self.classes[classes.column]
        numbers = [_number(classes, own.aliases.get(span.label, span.label)) for span in track.spans]
        known = np.array([*(UNLABELLED if number is None else number for number in numbers), UNLABELLED], np.int64)
        if None in numbers:
            raise other_classes(classes, own)
        return known[track.at(frame_seconds)]

    def fingerprint(self, scan: int) -> str:
        """Return a text that changes with what a scan is labelled, empty where its prepared planes say all of it."""
        labels = load_labels(self._texts[self._prepared[scan]])
        planes = labels.get(PLANE_COLUMN)
        if planes is not None and all(find_plane_index(span.label) is not None for span in planes.spans):
            del labels[PLANE_COLUMN]
        rules = self._rules.dump() if self._rules.rules else ""
        return f"{dump_labels(labels) or ''}{rules}"

    def renamed(self, scan: int, column: str, frame_seconds: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
        """Return, by class, where [n] a scan has a label that ``classes.csv`` gives that class instead of its own."""
        track = self._track(scan, column) if self._rules.rules else None
        if track is None:
            return {}
        shown, aliases = track.at(frame_seconds), self.classes[column].aliases
        found: dict[str, NDArray[np.bool_]] = {}
        for number, span in enumerate(track.spans):
            if span.label in aliases:
                name = aliases[span.label]
                found[name] = found.get(name, np.zeros(len(shown), np.bool_)) | (shown == number)
        return found

    def _track(self, scan: int, column: str) -> LabelTrack | None:
        return self._load(self._texts[self._prepared[scan]]).get(column)


def class_lists(texts: Sequence[str | None], rules: ClassRules) -> dict[str, ClassList]:
    """Return the class list of each label column of some scans, in the order in which the columns occur."""
    found: dict[str, dict[str, None]] = {}
    for text in texts:
        for column, track in load_labels(text).items():
            found.setdefault(column, {}).update(dict.fromkeys(span.label for span in track.spans))
    return {column: rules.class_list(column, labels) for column, labels in found.items()}


def _number(classes: ClassList, name: str) -> int | None:
    return UNLABELLED if name == "" else classes.find(name)


def check_classes(model: ClassList, store: StoreLabels) -> None:
    """Check that a store has no labels of other classes than a model's.

    Compared is the label column of the model; where the store does not have it, one of its columns must fit. A store
    without labels fits every model.

    Raises:
        DataError: otherwise, with the lists of both.
    """
    compared = [store.classes[model.column]] if model.column in store.classes else list(store.classes.values())
    if compared and not any(all(_number(model, name) is not None for name in one.names) for one in compared):
        raise other_classes(model, *compared)


def other_classes(model: ClassList, *store: ClassList) -> DataError:
    """Return the error for a store whose classes are not those of a model."""
    lists = [f"  store{_column(one)}: {list_names(one.names)}" for one in store]
    lines = [
        "the labels of this store are of other classes than the model's: expected every class among the model's, got",
        f"  model{_column(model)}: {list_names(model.names)}",
        *lists,
        "  where a class has another name in the store, write it into classes.csv and run 'usvs index' again",
    ]
    return DataError(*lines)


def _column(classes: ClassList) -> str:
    return f", column '{classes.column}'" if classes.column else ""


def list_names(names: Sequence[str]) -> str:
    """Return names for a message: of at most `MAX_NAME_LETTERS` letters, without those after the first `MAX_LISTED`."""
    names = [name if len(name) <= MAX_NAME_LETTERS else f"{name[: MAX_NAME_LETTERS - 3]}..." for name in names]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return printable(", ".join(names[:MAX_LISTED]) + more) or "none"
