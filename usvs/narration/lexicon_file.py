"""Reading of a lexicon from a TOML file."""

from collections.abc import Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from usvs.config import read_table
from usvs.errors import ConfigError
from usvs.narration.lexicon import CHATTER, PHRASINGS, Lexicon

KEYS = ("terms", "phrasings", "chatter")
PLACEHOLDERS = frozenset("abc")


def read_lexicon(file: str | Path) -> Lexicon:
    """Read a lexicon: a table ``terms`` of classes, and optional lists ``phrasings`` and ``chatter``.

    Args:
        file: a TOML file (or JSON, if it is called so).

    Raises:
        ConfigError: if it cannot be read, has an unknown key, or two classes share a term.
    """
    where = f"lexicon '{file}'"
    values = read_table(Path(file), "lexicon")
    if not isinstance(values, dict) or not isinstance(values.get("terms"), dict) or not values["terms"]:
        raise ConfigError(f"{where}: expected a table [terms] with a list of terms for each class")
    if unknown := sorted(set(values) - set(KEYS)):
        raise ConfigError(f"{where}: expected the keys {', '.join(KEYS)}, got '{unknown[0]}'")
    topics = tuple((name, _texts(terms, f"{where}, class '{name}'")) for name, terms in values["terms"].items())
    _check_terms(topics, where)
    phrasings = _texts(values.get("phrasings", PHRASINGS), f"{where}, phrasings")
    for phrasing in phrasings:
        _check_phrasing(phrasing, where)
    return Lexicon(topics, phrasings, _texts(values.get("chatter", CHATTER), f"{where}, chatter"))


def _texts(values: Any, where: str) -> tuple[str, ...]:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or not values or not all(isinstance(text, str) and text.strip() for text in values):
        raise ConfigError(f"{where}: expected a list of one or more texts, got {values!r}")
    return tuple(text.strip() for text in values)


def _check_terms(topics: tuple[tuple[str, tuple[str, ...]], ...], where: str) -> None:
    class_of: dict[str, str] = {}
    for name, terms in topics:
        for term in terms:
            other = class_of.setdefault(term.lower(), name)
            if other != name:
                raise ConfigError(f"{where}: expected terms of one class only, got '{term}' in '{other}' and '{name}'")


def _check_phrasing(phrasing: str, where: str) -> None:
    try:
        parts = [part for part in Formatter().parse(phrasing) if part[1] is not None]
        names = {f"{name}{conversion or ''}{layout}" for _, name, layout, conversion in parts}
    except ValueError:
        names = {""}
    if "a" not in names or not names <= PLACEHOLDERS:
        raise ConfigError(f"{where}, phrasings: expected {{a}} and perhaps {{b}} and {{c}}, got '{phrasing}'")
