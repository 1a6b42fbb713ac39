"""Differences between two records of nested plain values, such as settings."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A value that differs.

    Attributes:
        path: its dotted name.
        old: in the first record; None where it is absent.
        new: in the second record; None where it is absent.
    """

    path: str
    old: Any
    new: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[Difference]:
    """Yield what differs between two records, in the order of the first; a name that one of them lacks differs.

    Args:
        before: plain values, possibly nested.
        after: the same.
        prefix: of the names of this level.
    """
    for name in (*before, *(name for name in after if name not in before)):
        path, old, new = f"{prefix}{name}", before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}.")
        elif old != new or (name in before) != (name in after):
            yield Difference(path, old, new)
