"""Commands that messages, docstrings and help quote: each exists, with its subcommands and options."""

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import usvs
from usvs.cli import build_parser

PACKAGE = Path(usvs.__file__).parent
QUOTED = re.compile(r"(?:'|``?)usvs ([a-z][^'`\n]*)(?:'|`)")
EXAMPLE = re.compile(r"^\s*usvs ([a-z][^\n]*)$", re.MULTILINE)  # lines of help
PLACEHOLDER = "VALUE"


def strings(file: Path) -> Iterator[tuple[int, str]]:
    """Yield every string of a module; what an f-string inserts is a placeholder."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


@cache
def command_line() -> argparse.ArgumentParser:
    return build_parser()


def fault(command: str) -> str | None:
    """Return what is wrong with a quoted command; None where it exists."""
    parsers = [command_line()]  # several where a placeholder stands for any of them
    for word in command.split():
        subcommands = [
            action.choices
            for parser in parsers
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        ]
        if word.startswith("--"):
            if not any(word.split("=")[0] in parser._option_string_actions for parser in parsers):
                return f"'{parsers[0].prog}' has no option {word}"
        elif subcommands and word.isupper():
            parsers = [parser for choices in subcommands for parser in choices.values()]
        elif subcommands:
            if word not in subcommands[0]:
                return f"'{parsers[0].prog}' has no command {word}: expected {' or '.join(subcommands[0])}"
            parsers = [subcommands[0][word]]
    return None


def quoted_commands() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for line, text in strings(file):
            found = QUOTED.findall(text) + (EXAMPLE.findall(text) if file.parent.name == "cli" else [])
            for command in found:
                yield f"{file.relative_to(PACKAGE.parent)}:{line}", command


@pytest.mark.slow
def test_every_quoted_command_exists():
    commands = list(quoted_commands())
    assert len(commands) > 30
    assert not [f"{where}: {command}: {wrong}" for where, command in commands if (wrong := fault(command))]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("list STORE", "has no command list"),
        ("prepare STORE --force", "has no option --force"),
        ("finetune plane STORE RUN", "has no command plane"),
        ("bench steps", "has no command steps"),
    ],
)
def test_an_unknown_command_is_found(command, wrong):
    assert wrong in str(fault(command))
