"""Progress of work longer than two seconds: a live bar on a terminal, plain log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

PLAIN_LINE_SECONDS = 10.0

console = Console(stderr=True, highlight=False)
logger = logging.getLogger(__name__)


def printable(name: str) -> str:
    """Return a file name as one line without control characters, safe to print on a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` one by one while showing how many are done.

    Args:
        items: what to iterate over.
        what: the work in a few words, for example ``preparing scans``.
        total: how many there are, where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from (_live if sys.stderr.isatty() else _plain)(items, what, total)


def _live(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _plain(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    started = last = time.monotonic()
    of_total = "" if total is None else f" of {total}"
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= PLAIN_LINE_SECONDS:
            logger.info(f"{what}: {done}{of_total}, {now - started:.0f} s")
            last = now
    if time.monotonic() - started >= 2.0:
        logger.info(f"{what}: {done}{of_total} done in {time.monotonic() - started:.0f} s")
