"""Progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

LOG_INTERVAL_SECONDS = 10.0
MIN_LOGGED_SECONDS = 2.0  # shorter work is not logged

console: Console = Console(stderr=True, highlight=False)
logger: logging.Logger = logging.getLogger(__name__)


def track(
    items: Iterable[Item], what: str, total: int | None = None, *, done: int = 0, note: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Yield `items` while showing how many are done.

    Args:
        items: any iterable.
        what: short name of the work, for example ``preparing scans``.
        total: number of items, if `items` has no length; those that were done before included.
        done: number of items that were done before, by an interrupted command.
        note: returns what is shown beside the count, for example ``loss 2.31``.
    """
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    yield from (_show_bar if sys.stderr.isatty() else _log_lines)(items, what, total, done, note or str)


def _show_bar(
    items: Iterable[Item], what: str, total: int | None, done: int, note: Callable[[], str]
) -> Iterator[Item]:
    texts = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*texts, TextColumn("{task.fields[note]}", markup=False), console=console) as progress:
        task = progress.add_task(what, total=total, completed=done, note="")
        for item in items:
            yield item
            progress.update(task, advance=1, note=note())


def _log_lines(
    items: Iterable[Item], what: str, total: int | None, done: int, note: Callable[[], str]
) -> Iterator[Item]:
    started = last = time.monotonic()
    of_total = "" if total is None else f" of {total}"
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS:
            beside = f", {text}" if (text := note()) else ""
            logger.info(f"{what}: {done}{of_total}{beside}, {now - started:.0f} s")
            last = now
    if time.monotonic() - started >= MIN_LOGGED_SECONDS:
        beside = f", {text}" if (text := note()) else ""
        logger.info(f"{what}: {done}{of_total} done{beside} in {time.monotonic() - started:.0f} s")
