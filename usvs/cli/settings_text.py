"""Settings as text: a TOML file with the meaning of each, and what a field may be."""

import json
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from usvs.config import Settings

WIDTH = 110
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
NAMES: dict[type, str] = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


def settings_toml(settings: Settings, command: str) -> str:
    """Return settings as TOML; each value has its meaning in a comment, and one that is none is a comment.

    Args:
        settings: all of them are printed.
        command: whose settings they are, for the first line.
    """
    profile = getattr(settings, "profile", None)
    head = f"# Settings of usvs {command_of(command)}"
    first = f"{head}, profile {profile}." if profile else f"{head}."
    return "\n".join([first, "# Read by --config; what is left out keeps the value of --profile.", *_table(settings)])


def command_of(name: str) -> str:
    """Return the command of a name in `SETTINGS`: ``finetune planes`` of ``finetune-planes``."""
    return name.replace("-", " ", 1) if name.startswith("finetune") else name


def field_type(field: FieldInfo) -> str:
    """Return what a setting may be, in words: ``an integer, at least 1``."""
    kind = _type(field.annotation)
    bounds = [
        f"{word} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, word in BOUNDS.items()
        if hasattr(rule, name)
    ]
    return ", ".join([kind, *bounds])


def value_text(value: Any) -> str:
    """Return a value as TOML; ``none`` for None."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(value_text(part) for part in parts)
    if origin in (Union, UnionType):
        kinds = [_type(part) for part in parts if part is not NoneType]
        return " or ".join([*kinds, *(["none"] if NoneType in parts else [])])
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"a list, each {_type(parts[0])}"
        return f"a list of {len(parts)}, each {_type(parts[0])}"
    if hasattr(annotation, "__metadata__"):  # Annotated: its first part is the type
        return _type(parts[0])
    return NAMES.get(annotation, str(annotation))


def _table(settings: Settings, prefix: str = "") -> Iterator[str]:
    fields = type(settings).model_fields
    groups = {name: value for name in fields if isinstance(value := getattr(settings, name), Settings)}
    for name, field in fields.items():
        if name in groups:
            continue
        value = getattr(settings, name)
        comment = f"{field.description or name} ({field_type(field)})"
        yield ""
        yield from textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        yield f"# {name} = none" if value is None else f"{name} = {value_text(value)}"
    for name, group in groups.items():
        yield ""
        yield f"# {fields[name].description}"
        yield f"[{prefix}{name}]"
        yield from _table(group, f"{prefix}{name}.")
