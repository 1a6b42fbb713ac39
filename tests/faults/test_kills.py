"""A slice of the kills: `python -m tests.faults.kills` makes 500."""

from pathlib import Path

import pytest

from tests.faults.kills import COMMANDS, try_kills

pytestmark = [pytest.mark.slow, pytest.mark.interruption]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_resumes_with_the_same_result(command: str, tmp_path: Path):
    result = try_kills(command, 6, 1, tmp_path / command)
    assert not result["problems"] and sum(result["kills"].values()) == 6
