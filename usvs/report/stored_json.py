"""Small JSON files of a folder, and their values as rows of a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.utils.regular_files import read_json_object


def optional_json(file: Path) -> Mapping[str, Any]:
    """Return a JSON object; empty where `read_json_object` raises."""
    try:
        return read_json_object(file)
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
