"""Labels of a store's scans as reports show them: names, colours, and which one is shown at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import PALETTE, UNLABELLED, ClassList
from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.store.prepared import PreparedStore
from usvs.store.store_labels import PREFERRED_COLUMNS
from usvs.tasks.diagnosis.labelled_samples import FROM_STORE, open_labels

MAX_CLASSES = 40  # of a column with more, which may be remarks, nothing is shown
BACKGROUND_COLOUR = "#a9b0b7"


@dataclass(frozen=True)
class ScanLabels:
    """Labels at any time of a store's scans.

    Attributes:
        names: of the classes.
        colours: of the classes, ``#rrggbb``.
        at: scan number and times [k] in, class numbers [k] out, -1 without a label.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    at: Callable[[int, NDArray[np.float64]], NDArray[np.int64]]


def open_scan_labels(store: PreparedStore, labels: str | Path | None = None) -> ScanLabels | None:
    """Return the labels to show; None where there are none, or too many different ones to be classes.

    Args:
        store: the prepared scans.
        labels: intervals, as of `usvs.diagnose`; None or ``store``: those of the store.

    Raises:
        DataError: for intervals that cannot be read.
    """
    if labels is not None and str(labels) != FROM_STORE:
        found = open_labels(store, labels)
        if len(found.names) > MAX_CLASSES:
            return None
        return ScanLabels(found.names, palette(len(found.names)), found.at)
    classes = shown_classes(store)
    return None if classes is None else labels_of_classes(store, classes)


def labels_of_classes(store: PreparedStore, classes: ClassList) -> ScanLabels:
    """Return the store's labels of one class list."""

    def at(scan: int, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        known = store.labels.of_scan(scan, classes, seconds)
        return np.full(len(seconds), UNLABELLED) if known is None else known

    return ScanLabels(classes.names, calm_colours(classes.names, classes.colours), at)


def calm_colours(names: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    """Return the colours of classes; the standard planes' background, between all others, is gray."""
    return tuple(
        BACKGROUND_COLOUR if name == STANDARD_PLANES[BACKGROUND] else colour
        for name, colour in zip(names, colours, strict=True)
    )


def shown_classes(store: PreparedStore) -> ClassList | None:
    """Return the class list of the label column that is shown: a preferred one, else the first with few classes."""
    lists = store.labels.classes
    columns = [*(name for name in PREFERRED_COLUMNS if name in lists), *lists]
    return next((lists[name] for name in columns if 0 < len(lists[name]) <= MAX_CLASSES), None)


def palette(count: int) -> tuple[str, ...]:
    """Return colours for some classes or patients."""
    return tuple(PALETTE[number % len(PALETTE)] for number in range(count))


def runs_of(numbers: NDArray[np.int64], times: NDArray[np.float64], seconds: float) -> list[tuple[float, float, int]]:
    """Return where the value of a series changes, as start, end and value of each run.

    Args:
        numbers: [n] values.
        times: [n] when each begins.
        seconds: where the last one ends.
    """
    if not len(numbers):
        return []
    firsts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
    ends: Sequence[float] = [*(float(times[first]) for first in firsts[1:]), seconds]
    return [
        (float(times[first]) if position else 0.0, end, int(numbers[first]))
        for position, (first, end) in enumerate(zip(firsts, ends, strict=True))
    ]
