"""Progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

LOG_INTERVAL_SECONDS = 10.0
MIN_LOGGED_SECONDS = 2.0  # shorter work is not logged

console: Console = Console(stderr=True, highlight=False)
logger: logging.Logger = logging.getLogger(__name__)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` while showing how many are done.

    Args:
        items: any iterable.
        what: short name of the work, for example ``preparing scans``.
        total: number of items, if `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from (_show_bar if sys.stderr.isatty() else _log_lines)(items, what, total)


def _show_bar(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _log_lines(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    started = last = time.monotonic()
    of_total = "" if total is None else f" of {total}"
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS:
            logger.info(f"{what}: {done}{of_total}, {now - started:.0f} s")
            last = now
    if time.monotonic() - started >= MIN_LOGGED_SECONDS:
        logger.info(f"{what}: {done}{of_total} done in {time.monotonic() - started:.0f} s")
