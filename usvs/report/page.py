"""A report: one HTML file that asks for nothing outside of itself, readable by keyboard, in light and dark."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from usvs import __version__
from usvs.errors import DataError, UsvsError
from usvs.report.elements import Content, element, note, paragraph, write_html
from usvs.utils.atomic_files import write_text, writing

logger: logging.Logger = logging.getLogger(__name__)

REPORT = "report.html"
STYLESHEET = "report.css"
MAX_BYTES = 8_000_000
# a page that a browser loads nothing for: neither scripts nor anything from elsewhere
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
Tone = Literal["good", "warn", "bad", "unknown"]


@dataclass
class Page:
    """The parts of a report, in the order in which they are added.

    Attributes:
        kind: what the report is of.
        title: of the page.
        verdict: paragraphs at the top.
        tone: whether the verdict is good news.
        facts: name and value of the few figures at the top.
        sections: identifier, title and contents.
        names: whether its owner asked for the names of files.
    """

    kind: str
    title: str
    verdict: Sequence[str] = ()
    tone: Tone = "unknown"
    facts: Sequence[tuple[str, str]] = ()
    sections: list[tuple[str, str, list[Content]]] = field(default_factory=list)
    names: bool = False

    def add(self, identifier: str, title: str, make: Callable[[], Iterable[Content]]) -> None:
        """Add a section; one that cannot be drawn says why, and the others are drawn all the same."""
        try:
            contents = list(make())
        except (UsvsError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            # a folder may be damaged, or a process may be writing in it: the rest of the page is drawn
            reason = str(error) if isinstance(error, UsvsError) else f"{type(error).__name__}: {error}"
            logger.warning(f"report, section '{title}': not shown: {reason}")
            shown = reason if self.names else "it could not be read; 'usvs report' says why on the terminal"
            contents = [note(f"Not shown: {shown}.")]  # the reason may name files
        if contents:
            self.sections.append((identifier, title, contents))

    def to_html(self) -> str:
        """Return the page."""
        links = [element("li", {}, element("a", {"href": f"#{name}"}, title)) for name, title, _ in self.sections]
        facts = [element("div", {}, element("dt", {}, name), element("dd", {}, value)) for name, value in self.facts]
        verdict = [paragraph(text) for text in self.verdict]
        made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        root = element(
            "html",
            {"lang": "en"},
            element(
                "head",
                {},
                element("meta", {"charset": "utf-8"}),
                element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
                element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
                element("meta", {"name": "referrer", "content": "no-referrer"}),
                element("title", {}, f"{self.title} · usvs"),
                element("link", {"rel": "icon", "href": "data:,"}),
                element("style", {}, stylesheet()),
            ),
            element(
                "body",
                {},
                element("a", {"class": "skip", "href": "#main"}, "Skip to the content"),
                element(
                    "header",
                    {},
                    paragraph(self.kind, "kind"),
                    element("h1", {}, self.title),
                    element("div", {"class": f"verdict {self.tone}"}, *verdict) if verdict else None,
                    element("dl", {"class": "facts"}, *facts) if facts else None,
                ),
                element("nav", {"aria-label": "sections"}, element("ul", {}, *links)) if links else None,
                element("main", {"id": "main", "tabindex": "-1"}, *map(_section, self.sections)),
                element("footer", {}, self._footer(made)),
            ),
        )
        return write_html(root)

    def _footer(self, made: str) -> str:
        hashes = "Scans and patients are keyed hashes" if not self.names else "This report has names of files"
        return f"Written by usvs {__version__} on {made}. {hashes}."

    def save(self, file: Path) -> Path:
        """Write the page, readable by its owner only; a kill leaves the earlier one.

        Raises:
            DataError: for a page above `MAX_BYTES`.
            ResourceError: where it cannot be written.
        """
        text = self.to_html()
        if (size := len(text.encode())) > MAX_BYTES:
            raise DataError(f"report: expected at most {MAX_BYTES:,} bytes, got {size:,}")
        with writing(f"report '{file}'"):
            write_text(file, text)
        return file


def stylesheet() -> str:
    """Return the stylesheet of all reports."""
    return files("usvs.report").joinpath(STYLESHEET).read_text("utf-8")


def first_sentences(text: str) -> list[str]:
    """Return a verdict as paragraphs: its first sentence, and all others; it begins with a capital letter."""
    first, dot, rest = text.partition(". ")
    sentences = [f"{first}{'.' if dot else ''}", rest]
    return [f"{each[:1].upper()}{each[1:]}" for each in sentences if each]


def _section(section: tuple[str, str, list[Content]]) -> Element:
    name, title, contents = section
    heading = element("h2", {"id": f"{name}-title"}, title)
    blocks = [each if isinstance(each, Element) else paragraph(each) for each in contents if each is not None]
    return element("section", {"id": name, "aria-labelledby": f"{name}-title"}, heading, *blocks)
