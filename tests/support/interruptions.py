"""Interruption at every file operation: the n-th one raises, before or after it is carried out."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ((Path, "mkdir"), (Path, "open"), (Path, "replace"), (Path, "rename"), (os, "open"), (os, "fsync"))


class Interrupted(BaseException):
    """Stands for a kill: nothing in the package catches it."""


class FileOperations:
    """Counts the file operations of a block, and interrupts at one of them.

    Args:
        patch: undoes the patches.
        under: only operations with a path below this folder are counted; those by descriptor always are.
        stop_at: the number of the operation that raises; None to count only.
        after: raise after the operation instead of before it.
        stop: interrupts; None raises `Interrupted`.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        under: Path,
        stop_at: int | None = None,
        after: bool = False,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self.count, self._under, self._stop_at, self._after = 0, str(under), stop_at, after
        self._stop = _interrupt if stop is None else stop
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            first = arguments[0]
            if isinstance(first, (str, Path)) and not str(first).startswith(self._under):
                return operation(*arguments, **options)
            self.count += 1
            stops = self.count == self._stop_at
            if stops and not self._after:
                self._stop()
            result = operation(*arguments, **options)
            if stops:
                self._stop()
            return result

        return counted


def _interrupt() -> None:
    raise Interrupted


def interruptions(operations: int, every: int = 1) -> Iterator[tuple[int, bool]]:
    """Yield the number of each operation to interrupt at, and whether after it rather than before."""
    for number in range(1, operations + 1, every):
        yield number, False
        yield number, True
