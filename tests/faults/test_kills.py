"""A slice of the kills: `python -m tests.faults.kills` makes 500."""

import json

import pytest

from tests.support.processes import run_python

pytestmark = [pytest.mark.slow, pytest.mark.interruption]


@pytest.mark.parametrize("name", ["index", "prepare", "pretrain", "finetune", "reproduce"])
def test_a_killed_command_resumes_with_the_same_result(name: str):
    """In a process of its own: a fork of this one, whose threads have computed, would wait for them forever."""
    output = run_python("-m", "tests.faults.kills", "--count", 3, "--seed", 1, "--only", name)
    result = json.loads(output)["commands"][name]
    assert not result["problems"] and sum(result["kills"].values()) == 3
