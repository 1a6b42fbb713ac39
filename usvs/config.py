"""Every setting: frozen typed records with units in their names, checked when they are made.

The defaults are the paper's (Jiao et al., MICCAI 2020); where it is silent the reading is ours and the comment says so.
`paper()` and `quick()` are the two profiles; `load_settings` reads a TOML or JSON file and dotted overrides.
"""

import difflib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from usvs.errors import ConfigError

logger = logging.getLogger(__name__)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Profile = Literal["paper", "quick"]


class Settings(BaseModel):
    """A frozen record that refuses unknown names and values out of range."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(base: SettingsT, file: Path | None = None, overrides: Sequence[str] = ()) -> SettingsT:
    """Return `base` with a file's values and then dotted overrides laid over it.

    Args:
        base: the profile to start from.
        file: a TOML or JSON file of the same shape; what it leaves out keeps its value.
        overrides: texts such as ``optimiser.learning_rate=0.01``; the value is read as JSON where it can be.

    Raises:
        ConfigError: for an unknown name (the nearest one is offered) or a value out of range.
    """
    values = base.model_dump(mode="json")
    if file is not None:
        _lay_over(values, _read_table(file), prefix="")
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"setting '{text}': expected NAME=VALUE")
        nested: Any = _json_or_text(value)
        for part in reversed(name.strip().split(".")):
            nested = {part: nested}
        _lay_over(values, nested, prefix="")
    return check_settings(type(base), values)


def check_settings(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Make a record from plain values, or say in one line which setting is wrong.

    Raises:
        ConfigError: naming the setting, the rule it breaks and what came.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        came = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
        raise ConfigError(f"setting '{name}': {first['msg']}{came}") from None


def _read_table(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"settings file '{file}': {error}") from None


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _lay_over(values: dict[str, Any], over: Any, prefix: str) -> None:
    if not isinstance(over, Mapping):
        raise ConfigError(f"setting '{prefix.rstrip('.')}': expected a table of settings, got {over!r}")
    for name, value in over.items():
        if name not in values:
            near = difflib.get_close_matches(str(name), values, n=1)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known here: {', '.join(values)}"
            raise ConfigError(f"unknown setting '{prefix}{name}': {hint}")
        if isinstance(values[name], dict):
            _lay_over(values[name], value, prefix=f"{prefix}{name}.")
        else:
            values[name] = value
