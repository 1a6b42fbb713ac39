"""HTML and SVG as element trees, so that every text and attribute is escaped where the page is written."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, tostring

from usvs.utils.text import printable

Content: TypeAlias = "Element | str | None"
MAX_TABLE_ROWS = 200
NO_VALUE = "-"  # in a table


def element(tag: str, attributes: Mapping[str, Any] | None = None, *contents: Content) -> Element:
    """Return an element with texts and elements in it; an attribute of value None is left out, as is such a content.

    Args:
        tag: of the element.
        attributes: numbers are written with two decimals.
        contents: in their order; texts lose their control characters.
    """
    made = Element(tag, {name: _attribute(value) for name, value in (attributes or {}).items() if value is not None})
    for content in contents:
        if isinstance(content, str):
            _append_text(made, content if tag in ("style", "script") else printable(content))
        elif content is not None:
            made.append(content)
    return made


def write_html(root: Element) -> str:
    """Return a page."""
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n"


def paragraph(text: str, kind: str | None = None) -> Element:
    """Return a paragraph; `kind` is its class in the stylesheet."""
    return element("p", {"class": kind}, text)


def note(text: str) -> Element:
    """Return a paragraph in small print."""
    return paragraph(text, "note")


def group(kind: str, contents: Iterable[Content]) -> Element:
    """Return a block of some class with contents."""
    return element("div", {"class": kind}, *contents)


def figure(title: str, picture: Element, caption: str | None = None, kind: str | None = None) -> Element:
    """Return a picture or chart with its title above and a caption below."""
    classes = "figure" if kind is None else f"figure {kind}"
    small = None if caption is None else element("p", {"class": "caption"}, caption)
    return element("figure", {"class": classes}, element("figcaption", {}, title), picture, small)


def disclosure(summary: str, *contents: Content) -> Element:
    """Return contents that are shown on demand, by mouse or keyboard."""
    return element("details", {}, element("summary", {}, summary), *contents)


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str | Element]], numbers: bool = True
) -> Element:
    """Return a table whose first column names the rows; beyond `MAX_TABLE_ROWS` rows a last line counts the others.

    Args:
        caption: what the table shows.
        columns: headings.
        rows: texts, or cells of `number_cell`.
        numbers: whether all columns but the first are numbers, which are aligned to the right.
    """
    head = element("tr", {}, *(element("th", {"scope": "col"}, column) for column in columns))
    body = []
    for first, *others in rows[:MAX_TABLE_ROWS]:
        cells = [cell if isinstance(cell, Element) else element("td", {}, cell) for cell in others]
        name = first if isinstance(first, Element) else element("th", {"scope": "row"}, first)
        body.append(element("tr", {}, name, *cells))
    if (more := len(rows) - MAX_TABLE_ROWS) > 0:
        body.append(element("tr", {}, element("td", {"colspan": len(columns)}, f"and {more:,} more")))
    made = element(
        "table",
        {"class": "numbers" if numbers else None},
        element("caption", {}, caption),
        element("thead", {}, head),
        element("tbody", {}, *body),
    )
    return scrolling(caption, made)


def scrolling(caption: str, made: Element) -> Element:
    """Return a table in a region of its own, which scrolls where it is wide and which the keyboard reaches.

    The table's caption is for screen readers; it is shown above, as wide as the page whatever the table's width.
    """
    region = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": caption}
    shown = element("p", {"class": "caption", "aria-hidden": "true"}, caption)
    return group("titled", [shown, element("div", region, made)])


def number_cell(value: float | None, text: str | None = None) -> Element:
    """Return a cell with a number, and its exact value in the attribute ``data-value``."""
    if value is None:
        return element("td", {}, NO_VALUE)
    return element("td", {"data-value": repr(value)}, short(value) if text is None else text)


def short(value: float) -> str:
    """Return a number for reading, with at least three digits."""
    if value != value:
        return "not a number"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value):,}"
    digits = max(0, 3 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}" if 0.01 <= abs(value) < 1e6 else f"{value:.3g}"


def _attribute(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return printable(str(value))


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
