import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_random_stops_change_nothing():
    """A slice of `make stops`."""
    command = [sys.executable, str(Path(__file__).with_name("interruptions.py")), "--stops", "6", "--seed", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "6 stops (3 SIGTERM, 3 SIGKILL)" in done.stdout
