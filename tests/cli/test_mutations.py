"""Mutated settings and command lines are refused with exit code 2, in few lines, before any data is touched."""

from pathlib import Path

import pytest

from tests.cli.mutations import Mutator, find_failures, outcome
from usvs import cli


def test_200_mutated_settings_and_command_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parser = cli.build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    failures, kinds = find_failures(tmp_path, 200, seed=17)
    assert not failures, "\n".join(failures)
    assert sum(kinds.values()) == 200 and len(kinds) >= 12


def test_a_command_that_is_not_refused_is_found(tmp_path: Path):
    """The store of the mutants is an empty folder: a command that opens it ends with code 3, not 2."""
    mutant = Mutator(tmp_path, 0).contradiction()._replace(named=("x",))
    store, new = str(tmp_path / "store"), str(tmp_path / "new")
    assert "expected exit code 2, got 3" in str(outcome(mutant._replace(arguments=("ls", store))))
    assert "expected exit code 2, got 0" in str(outcome(mutant._replace(arguments=("config",))))
    named = mutant._replace(arguments=("pretrain", store, new, "--set", "y=1"), named=("z",))
    assert "expected one of ('z',)" in str(outcome(named))
