import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_random_interruptions_change_nothing():
    command = [sys.executable, "-m", "tests.training.interruptions", "--count", "6", "--seed", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "6 interruptions (3 SIGTERM, 3 SIGKILL)" in done.stdout


@pytest.mark.slow
def test_a_kill_between_the_first_file_operations_can_be_resumed():
    command = [sys.executable, "-m", "tests.training.kills_at_start", "--count", "10", "--every", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resumed each time with equal results") == 3
