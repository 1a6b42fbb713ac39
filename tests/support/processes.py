"""Programs that tests run in a process of their own, as a user starts them: from the root of the repository."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 600


def run_python(*arguments: object, environment: Mapping[str, str] | None = None) -> str:
    """Run Python with these arguments on one thread and return what it prints; a failure is an AssertionError."""
    chosen = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(environment or {})
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=chosen, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
