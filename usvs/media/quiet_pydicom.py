"""Suppression of pydicom's warnings and log records, which quote the values of a file, among them patient names."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("pydicom", "openjpeg", "pylibjpeg")
_OFF = logging.CRITICAL + 1

_lock = threading.Lock()
_depth = 0
_previous: tuple[list[int], "warnings.catch_warnings[None]"] | None = None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress warnings and the log records of pydicom and its plugins inside a ``with`` block.

    The state before is restored when the last of nested or concurrent blocks ends. Python's warning filters belong to
    the process: warnings that other threads raise meanwhile are suppressed too.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _previous
    with _lock:
        if _depth == 0:
            loggers = [logging.getLogger(name) for name in _LOGGERS]
            filters = warnings.catch_warnings()
            _previous = ([logger.level for logger in loggers], filters)
            filters.__enter__()
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(_OFF)
        _depth += 1


def _leave() -> None:
    global _depth, _previous
    with _lock:
        _depth -= 1
        if _depth == 0 and _previous is not None:
            levels, filters = _previous
            for name, level in zip(_LOGGERS, levels, strict=True):
                logging.getLogger(name).setLevel(level)
            filters.__exit__(None, None, None)
            _previous = None
