"""Reads a report: its elements, the exact values of tables, and the values that lines are drawn at."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Node:
    """An element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Node | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node] = []
        self.texts: list[str] = []

    def all(self, tag: str) -> "list[Node]":
        """All elements of a name below this one, in order."""
        found = []
        for child in self.children:
            found += ([child] if child.tag == tag else []) + child.all(tag)
        return found

    @property
    def text(self) -> str:
        """All text below."""
        return " ".join([*self.texts, *(child.text for child in self.children)]).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.current = Node("", {}, None)

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs}, self.current)
        self.current.children.append(node)
        if tag not in VOID:
            self.current = node

    def handle_endtag(self, tag):
        assert self.current.tag == tag, f"</{tag}> ends <{self.current.tag}>"
        self.current = self.current.parent

    def handle_data(self, data):
        if data.strip():
            self.current.texts.append(data.strip())


def read_report(file: Path | str) -> Node:
    """Return the elements of a page, which must be well-formed."""
    reader = _Reader()
    reader.feed(file.read_text("utf-8") if isinstance(file, Path) else file)
    assert reader.current is reader.root, f"<{reader.current.tag}> has no end"
    return reader.root


def section(page: Node, name: str) -> Node:
    """Return a section by its identifier."""
    return next(node for node in page.all("section") if node.attributes["id"] == name)


def table_values(table: Node) -> tuple[list[str], dict[str, list[float | None]]]:
    """Return columns, and by row the exact values of its cells."""
    head, body = table.all("thead")[0], table.all("tbody")[0]
    rows = {}
    for row in body.all("tr"):
        values = [cell.attributes.get("data-value") for cell in row.all("td")]
        rows[row.all("th")[0].text] = [None if value is None else float(value) for value in values]
    return [cell.text for cell in head.all("th")], rows


def drawn_values(svg: Node, series: str) -> tuple[list[float], list[float]]:
    """Return x and y of a line of a chart, computed from its pixels and the chart's ranges."""
    (x_low, x_high), (y_low, y_high) = (
        [float(value) for value in svg.attributes[name].split()] for name in ("data-x", "data-y")
    )
    left, right, top, bottom = 44, 310, 8, 154
    lines = [line for line in svg.all("polyline") if line.attributes["data-series"] == series]
    points = [point.split(",") for line in lines for point in line.attributes["points"].split()]
    x = [x_low + (float(px) - left) / (right - left) * (x_high - x_low) for px, _ in points]
    y = [y_low + (bottom - float(py)) / (bottom - top) * (y_high - y_low) for _, py in points]
    return x, y
