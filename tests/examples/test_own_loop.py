"""`examples/own_loop.py` runs as a user runs it."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_loop.py"
STEPS = 6


@pytest.mark.slow
def test_own_loop(tiny_store: Path):
    command = [sys.executable, EXAMPLE, tiny_store, "--steps", str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    chance = math.log(2 * 2 * 8)  # both kinds of speech of 2 pairs in 8 clips, all of them valid
    assert first.startswith(f"step {STEPS} of {STEPS}: contrastive loss ") and first.endswith(f"(chance {chance:.3f})")
    assert last.startswith(f"last {STEPS} steps: contrastive loss ") and last.endswith(f"chance {chance:.3f}")
    loss = float(last.split()[5].rstrip(","))
    assert abs(loss - chance) < 0.5
