"""A folder of measured cells: each is kept when it is done, so that a stopped run goes on and nothing is mixed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from usvs.errors import ConfigError, DataError
from usvs.utils.atomic_files import write_text

CELLS = "cells"


class ResultCache:
    """ResultCache of one plan, a JSON file each under ``OUT/cells``; the plan lies beside them as ``OUT/KIND.json``.

    Args:
        out: a new or empty folder, or one that holds cells of the same plan.
        kind: of the run, for example ``evidence``.
        plan: all that decides what a cell's figures mean, as plain values.

    Raises:
        ConfigError: for a folder that holds something else, or cells of another plan.
    """

    def __init__(self, out: Path, kind: str, plan: Mapping[str, Any]) -> None:
        self.out = out
        file = out / f"{kind}.json"
        if not file.exists():
            if out.exists() and any(out.iterdir()):
                raise ConfigError(f"'{out}' is not empty and holds no run of kind '{kind}': choose a new folder")
            (out / CELLS).mkdir(parents=True)
            write_text(file, json.dumps(plan, indent=1))
        elif read_json(file) != json.loads(json.dumps(plan)):
            raise ConfigError(f"'{out}' holds cells of other settings or another store: choose a new folder")

    def measure(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return a cell, measured now unless it is kept from before.

        Raises:
            DataError: for a kept cell that cannot be read.
        """
        file = self.path(name)
        if not file.exists():
            write_text(file, json.dumps(work()))
        return read_json(file)

    def path(self, name: str) -> Path:
        """Return the file of a cell; a name's commas and blanks become underscores."""
        return self.out / CELLS / f"{name.replace(', ', '_').replace(' ', '_')}.json"


def read_json(file: Path) -> dict[str, Any]:
    """Read a stored cell or plan.

    Raises:
        DataError: naming the file.
    """
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected a stored cell, got {error}; remove it to have it measured again") from None
    return stored
