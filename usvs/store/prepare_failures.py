"""The usable scans of a store that `usvs prepare` could not prepare: training leaves them out, and says so."""

import json
from collections.abc import Iterable
from pathlib import Path

from usvs.errors import DataError
from usvs.utils.atomic_files import write_durably
from usvs.utils.regular_files import read_regular

FAILURES_FILE = "prepare_failures.json"


def write_failures(store: Path, scan_keys: Iterable[str]) -> None:
    """Record the scans that failed."""
    write_durably(store / FAILURES_FILE, json.dumps(sorted(scan_keys)).encode())


def read_failures(store: Path) -> frozenset[str]:
    """Return the keys of the scans that failed; empty before the first `usvs prepare`.

    Raises:
        DataError: for a damaged file.
    """
    try:
        keys = json.loads(read_regular(store / FAILURES_FILE))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, RecursionError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise DataError(f"store '{store}': {FAILURES_FILE} is damaged; run 'usvs prepare'")
    return frozenset(keys)
