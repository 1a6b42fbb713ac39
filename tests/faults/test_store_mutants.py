"""A slice of the store mutants: `python -m tests.faults.store_mutants` makes 2,000."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.store_mutants import HELD

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_no_damaged_store_is_used_silently():
    """In a process of its own: a fork of this one, whose threads have computed, would wait for them forever."""
    command = [sys.executable, "-m", "tests.faults.store_mutants", "--count", "57", "--seed", "11"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert set(result["outcomes"]) <= set(HELD), result["wrong"]
    assert result["outcomes"]["refused"] > 30
    assert result["audit"]["refused_but_not_found"] == 0, result["wrong"]
