"""Resident memory of a pretraining run over thousands of steps.

    python -m tests.training.memory --steps 10000 --out docs/results/training_memory.json

trains a small network on noise, with the loader on a thread, and records the resident memory on the way. ``--minutes``
ends it earlier.
"""

import argparse
import contextlib
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import memory_mib
from tests.support.pretraining_stores import tiny_settings, write_store
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.training.environment import describe_environment
from usvs.training.settings import OptimiserSettings

STEPS_PER_EPOCH = 3  # of `write_store` with batches of 6 clips
RARELY = 1_000_000_000  # steps; no logs, validations or checkpoints in between
SETTLED = 500  # steps after which every buffer has been allocated


class TimeIsUp(Exception):
    """Ends the measurement."""


class MemoryCurve:
    """A callback that records resident memory in MiB by the number of updates."""

    def __init__(self, every: int, minutes: float) -> None:
        self.every, self.end = every, time.monotonic() + 60 * minutes
        self.mib: dict[int, float] = {}

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        if step % self.every == 0:
            self.mib[step] = round(memory_mib("RssAnon"), 1)
            print(f"step {step}: {self.mib[step]} MiB", flush=True)
            if time.monotonic() > self.end:
                raise TimeIsUp


def measure(steps: int, every: int, loader_workers: int = 1, minutes: float = math.inf) -> dict[int, float]:
    """Train in this process; return resident memory in MiB after every `every` steps."""
    run = dict.fromkeys(("log_every_steps", "validate_every_steps", "checkpoint_every_steps"), RARELY)
    settings = tiny_settings(run={**run, "loader_workers": loader_workers})
    epochs = -(-steps // STEPS_PER_EPOCH)
    optimiser = OptimiserSettings(kind="adamw", epochs=epochs, batch_clips=6)
    curve = MemoryCurve(every, minutes)
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(TimeIsUp):
        store = write_store(Path(name) / "store")
        pretrain(store, Path(name) / "run", settings.model_copy(update={"optimiser": optimiser}), callbacks=[curve])
    return curve.mib


def growth_kb_per_step(mib: Mapping[int, float]) -> float:
    """Return the slope of the least-squares line through the settled part of a curve, in kB a step."""
    steps = [step for step in mib if step >= SETTLED]
    centre, mean = sum(steps) / len(steps), sum(mib[step] for step in steps) / len(steps)
    slope = sum((step - centre) * (mib[step] - mean) for step in steps) / sum((step - centre) ** 2 for step in steps)
    return slope * 1024


def main() -> None:
    """Measure and print; write a file with ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--loader-workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write figures and environment as JSON")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    environment, started = describe_environment(torch.device("cpu")), time.monotonic()
    mib = measure(arguments.steps, arguments.every, arguments.loader_workers, arguments.minutes)
    figures: dict[str, Any] = {
        "command": ["python", "-m", "tests.training.memory", *sys.argv[1:]],
        "loader_workers": arguments.loader_workers,
        "growth_kb_per_step": round(growth_kb_per_step(mib), 3),
        "resident_mib_by_step": mib,
        "seconds": round(time.monotonic() - started),
        "environment": environment,
    }
    print(f"growth after step {SETTLED}: {figures['growth_kb_per_step']} kB a step")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
