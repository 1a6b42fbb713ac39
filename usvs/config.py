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
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from usvs.errors import ConfigError
from usvs.utils.regular_files import read_regular_text
from usvs.utils.text import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Profile = Literal["paper", "quick", "small"]


MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 60  # characters of a wrong value or of an unknown name in a message


class Settings(BaseModel):
    """A frozen record that refuses unknown names and values out of range; the docstring of a field is its help."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", strict=False, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is expected, and integers of more than 64 bits."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, bool) and not _takes(annotation, bool):
                raise ValueError("expected a number or a text, not true or false")
            if isinstance(each, int) and abs(each) > MAX_INTEGER:
                raise ValueError(f"expected at most {MAX_INTEGER}")
        return value


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
            raise ConfigError(f"setting '{_short(text)}': expected NAME=VALUE")
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
        got = "" if isinstance(first["input"], (Mapping, Settings)) else f", got {_shown(first['input'])}"
        rule = first["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
        raise ConfigError(f"setting '{_short(name)}': {rule}{got}") from None


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
    except (ValueError, RecursionError) as error:
        form = "JSON" if file.suffix == ".json" else "TOML"
        raise ConfigError(f"{kind} '{file}': expected {form}, got a file with an error: {error}") from None


def setting_names(settings: Settings) -> Iterator[tuple[str, Settings, str]]:
    """Yield the dotted name of every single value, the group that has it, and its name there."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from ((f"{name}.{rest}", group, last) for rest, group, last in setting_names(value))
        else:
            yield name, settings, name


def _takes(annotation: Any, kind: type) -> bool:
    """Return whether a type is `kind`, or a union or a tuple with it."""
    return annotation is kind or any(_takes(part, kind) for part in get_args(annotation))


def _short(text: str) -> str:
    """Return a name that a user typed as one line of limited length."""
    return printable(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def _shown(value: Any) -> str:
    """Return a value as it is written in a settings file, shortened."""
    if isinstance(value, str):
        return f"'{_short(value)}'"
    try:
        return _short(json.dumps(value))
    except (TypeError, ValueError):
        return _short(str(value))


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _override(values: dict[str, Any], overrides: Any, known: dict[str, Any], prefix: str = "") -> None:
    """Replace, in place, the values that `overrides` names; `known` are the values of all groups, for the hint."""
    if isinstance(overrides, Settings):
        overrides = overrides.model_dump(mode="json")
    if not isinstance(overrides, Mapping):
        place = f"setting '{_short(prefix.rstrip('.'))}'" if prefix else "settings"
        raise ConfigError(f"{place}: expected a table of settings, got {_shown(overrides)}")
    for name, value in overrides.items():
        first, dot, rest = str(name).partition(".")
        full = f"{prefix}{name}"
        if first not in values:
            raise ConfigError(f"unknown setting '{_short(full)}': {_hint(full, values, known, prefix)}")
        if dot and not isinstance(values[first], dict):
            raise ConfigError(f"unknown setting '{_short(full)}': '{prefix}{first}' is one value, not a table")
        if isinstance(values[first], dict):
            _override(values[first], {rest: value} if dot else value, known, prefix=f"{prefix}{first}.")
        else:
            values[first] = value.model_dump(mode="json") if isinstance(value, Settings) else value


def _hint(unknown: str, group: dict[str, Any], known: dict[str, Any], prefix: str) -> str:
    """Name the setting that is nearest to an unknown one: in its group, then in any; by its letters or initials."""
    here, last = unknown.removeprefix(prefix).partition(".")[0], unknown.rpartition(".")[2]
    everywhere = list(_dotted_names(known))
    ends = [name.rpartition(".")[2] for name in everywhere]
    nearest = [
        *(f"{prefix}{name}" for name in difflib.get_close_matches(here, group, n=1)),
        *(f"{prefix}{name}" for name in group if _initials(name) == last),
        *(name for name, end in zip(everywhere, ends, strict=True) if end == last),
        *(name for name, end in zip(everywhere, ends, strict=True) if len(last) > 1 and _initials(end) == last),
        *(everywhere[ends.index(end)] for end in difflib.get_close_matches(last, ends, n=1)),
    ]
    return f"did you mean '{nearest[0]}'?" if nearest else f"expected one of {', '.join(group)}"


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _dotted_names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _dotted_names(value, f"{prefix}{name}.")
