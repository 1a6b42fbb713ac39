"""Small JSON files of a folder, and their values as rows of a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.utils.regular_files import read_regular_text


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DataError: where there is none, or the file is damaged.
    """
    try:
        found = json.loads(read_regular_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{file}': expected JSON, got {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"'{file}': expected a JSON object, got {type(found).__name__}")
    return found


def optional_json(file: Path) -> Mapping[str, Any]:
    """Return a JSON object; empty where `read_json` raises."""
    try:
        return read_json(file)
    except DataError:
        return {}


def nested_rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the values of nested objects, each under its dotted name; lists on one line."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += nested_rows(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{prefix}{name}", ", ".join(map(str, value)) or "none"))
        else:
            rows.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return rows


def group_of(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a nested object; empty where there is none, or something else of that name."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
