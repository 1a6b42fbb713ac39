"""Settings: frozen typed records with units in their names, checked when they are made.

Each package defines its own settings beside the code that they configure. The defaults are the paper's (Jiao et al.,
MICCAI 2020); where the paper is silent, a comment says so. This module holds what they share: `override_settings` for
keyword arguments, `load_settings` for a TOML or JSON file and dotted ``NAME=VALUE`` texts.
"""

import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from usvs.errors import ConfigError
from usvs.utils.regular_files import read_regular_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Profile = Literal["paper", "quick", "small"]


class Settings(BaseModel):
    """A frozen record that refuses unknown names and values out of range."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=False)


SettingsT = TypeVar("SettingsT", bound=Settings)


def override_settings(base: SettingsT, /, **overrides: Any) -> SettingsT:
    """Return a copy of `base` in which some values are replaced.

    Example:
        >>> override_settings(base, optimiser={"epochs": 2})
        >>> override_settings(base, optimiser=OptimiserSettings(epochs=2))
        >>> override_settings(base, **{"optimiser.epochs": 2})

    Args:
        base: the settings to start from, for example those of a profile.
        **overrides: values by name. For a group of settings, a mapping replaces the values that it names and a settings
            object replaces the group. A dotted name addresses one value of a group.

    Raises:
        ConfigError: for an unknown name (the nearest known one is named) or a value out of range.
    """
    if not overrides:
        return base
    values = base.model_dump(mode="json")
    _override(values, overrides, known=values)
    return check_settings(type(base), values)


def load_settings(base: SettingsT, file: str | PathLike[str] | None = None, overrides: Sequence[str] = ()) -> SettingsT:
    """Return a copy of `base` in which the values of a file and then those of some texts replace the base's.

    Args:
        base: the settings to start from, for example those of a profile.
        file: a TOML or JSON file of the same structure; what it omits keeps its value.
        overrides: texts such as ``optimiser.learning_rate=0.01``; the value is JSON, or else text.

    Raises:
        ConfigError: for a file that cannot be read, an unknown name (the nearest known one is named) or a value out of
            range.
    """
    values = base.model_dump(mode="json")
    if file is not None:
        _override(values, read_table(Path(file)), known=values)
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"setting '{text}': expected NAME=VALUE")
        _override(values, {name.strip(): _json_or_text(value)}, known=values)
    return check_settings(type(base), values)


def check_settings(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Make settings of type `kind` from plain values.

    Raises:
        ConfigError: naming the first wrong setting, the rule that it breaks and the value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        got = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
        raise ConfigError(f"setting '{name}': {first['msg']}{got}") from None


def read_table(file: Path, kind: str = "settings file") -> Any:
    """Read a TOML or JSON file.

    Args:
        file: JSON if its name ends in ``.json``, otherwise TOML.
        kind: what the file is, with which error messages begin.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        text = read_regular_text(file)
    except OSError as error:
        raise ConfigError(f"{kind} '{file}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{kind} '{file}': expected UTF-8 text") from None
    try:
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{kind} '{file}': {error}") from None


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _override(values: dict[str, Any], overrides: Any, known: dict[str, Any], prefix: str = "") -> None:
    """Replace, in place, the values that `overrides` names; `known` are the values of all groups, for the hint."""
    if isinstance(overrides, Settings):
        overrides = overrides.model_dump(mode="json")
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"setting '{prefix.rstrip('.')}': expected a table of settings, got {overrides!r}")
    for name, value in overrides.items():
        first, dot, rest = str(name).partition(".")
        if first not in values:
            raise ConfigError(f"unknown setting '{prefix}{name}': {_hint(f'{prefix}{name}', values, known, prefix)}")
        if dot and not isinstance(values[first], dict):
            raise ConfigError(f"unknown setting '{prefix}{name}': '{prefix}{first}' is one value, not a table")
        if isinstance(values[first], dict):
            _override(values[first], {rest: value} if dot else value, known, prefix=f"{prefix}{first}.")
        else:
            values[first] = value.model_dump(mode="json") if isinstance(value, Settings) else value


def _hint(unknown: str, group: dict[str, Any], known: dict[str, Any], prefix: str) -> str:
    """Name the setting that is nearest to an unknown one: in its group, by its initials, or in another group."""
    last = unknown.rpartition(".")[2]
    in_group = difflib.get_close_matches(unknown.removeprefix(prefix).partition(".")[0], group, n=1)
    by_initials = [name for name in group if "".join(word[:1] for word in name.split("_")) == last]
    elsewhere = [name for name in _dotted_names(known) if name.rpartition(".")[2] == last]
    nearest = [*(f"{prefix}{name}" for name in (*in_group, *by_initials)), *elsewhere]
    return f"did you mean '{nearest[0]}'?" if nearest else f"expected one of {', '.join(group)}"


def _dotted_names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _dotted_names(value, f"{prefix}{name}.")
