"""Comparisons that several tests of micro-batches and ranks share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

from usvs.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]


def run_jobs(folder: Path, jobs: list[dict]) -> tuple[list[list[int]], str]:
    """Have `ranks.py` run jobs; returns all exit codes and the log."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, str(Path(__file__).with_name("ranks.py")), str(folder / "jobs.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def relative(one: dict[str, Tensor], two: dict[str, Tensor], statistics: bool = True) -> float:
    """Distance over length, of all weights together, and running statistics."""
    names = [name for name, value in one.items() if value.is_floating_point() and name != "history"]
    names = [name for name in names if statistics or "running_" not in name]
    apart = sum((one[name].double() - two[name].double()).square().sum() for name in names)
    return float((apart / sum(one[name].double().square().sum() for name in names)).sqrt())


def gradients(run: Trainer, inputs: tuple[Tensor, ...]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return a batch's losses, and the gradients it leaves."""
    losses = run.compute.gradients(inputs, None, seed=7)
    values = {name: float(getattr(losses, name).detach()) for name in losses._fields}
    return values, {n: p.grad.clone() for n, p in run.module.named_parameters() if p.grad is not None}


def assert_same(one, many, tolerance: float) -> None:
    """Compare two results of `gradients`."""
    assert one[0] == pytest.approx(many[0], rel=tolerance, abs=tolerance)
    assert one[1].keys() == many[1].keys()
    for name, value in one[1].items():
        assert float((value - many[1][name]).abs().max()) <= tolerance * max(float(value.abs().max()), 1.0), name
