"""A confusion matrix as a table of a report."""

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from usvs.report.elements import element, scrolling

SHOWN_PERCENT = 0.5
DARK_FRACTION = 0.55  # of a cell, whose number is then light


def confusion_table(matrix: NDArray[np.int64], classes: Sequence[str], title: str) -> Element:
    """Return a confusion matrix [C, C] (rows are true classes) as a table, in percent of each true class."""
    totals = matrix.sum(axis=1, keepdims=True)
    fractions = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    heads = [element("th", {"scope": "col"}, element("span", {}, name)) for name in classes]
    rows = []
    for name, values, counts in zip(classes, fractions.tolist(), matrix.tolist(), strict=True):
        cells = [_confusion_cell(value, count) for value, count in zip(values, counts, strict=True)]
        rows.append(element("tr", {}, element("th", {"scope": "row", "title": name}, name), *cells))
    made = element(
        "table",
        {"class": "confusion"},
        element("caption", {}, title),
        element("thead", {}, element("tr", {}, element("td", {}), *heads)),
        element("tbody", {}, *rows),
    )
    return scrolling(title, made)


def _confusion_cell(fraction: float, count: int) -> Element:
    if fraction != fraction:
        return element("td", {"class": "none"})
    attributes: dict[str, Any] = {"data-value": str(count)}
    if count:
        attributes["style"] = f"background: rgba(var(--cell), {max(fraction, 0.04):.2f})"
    if fraction > DARK_FRACTION:
        attributes["class"] = "full"
    return element("td", attributes, f"{100 * fraction:.0f}" if 100 * fraction >= SHOWN_PERCENT else "")
