"""A slice of the kills: `python -m tests.faults.kills` makes 500."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.interruption]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["index", "prepare", "pretrain", "finetune", "reproduce"])
def test_a_killed_command_resumes_with_the_same_result(name: str):
    """In a process of its own: a fork of this one, whose threads have computed something, would wait for them forever."""
    command = [sys.executable, "-m", "tests.faults.kills", "--count", "6", "--seed", "1", "--only", name]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)["commands"][name]
    assert not result["problems"] and sum(result["kills"].values()) == 6
