"""Peak memory of scoring gaze maps of 224 x 224 pixels, by the number of test frames.

    python -m tests.tasks.scoring_memory --out docs/results/scoring_memory.json

predicts and scores 1, 4 and 16 times as many test frames, each in a process of its own. All densities of the largest
number at once, predicted and true, would take 8 bytes a pixel.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.memory import memory_mib
from tests.support.labelled_stores import PATIENTS, TINY_MODEL, write_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.fit import evaluate_module
from usvs.tasks.initial_encoder import initial_encoder
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.tasks.saliency.task import SaliencyTask
from usvs.training.environment import describe_environment
from usvs.training.settings import RunSettings

PIXELS = 224
TIMES = (1, 4, 16)


def score(store: Path, frames: int) -> float:
    """Score in this process; return its peak resident memory in MiB."""
    torch.set_num_threads(1)
    task, prepared = SaliencyTask(), PreparedStore(store)
    settings = SaliencySettings(
        profile="quick",
        model=TINY_MODEL.model_copy(update={"frame_pixels": PIXELS}),
        run=RunSettings(device="cpu", compile="eager"),
        temporal_stride=1,
        head_width=8,
    )
    table = task.test_dataset(prepared, task.dataset(prepared, settings), settings)
    repeated = table.take(np.arange(frames) % len(table))
    module = task.module(initial_encoder("random", settings), None, settings)
    evaluate_module(task, prepared, repeated, module, settings)
    task.reference(prepared, repeated, settings)
    return round(memory_mib("VmHWM"), 1)


def measure(frames: int) -> dict[int, float]:
    """Return peak memory in MiB by number of test frames: `frames` and multiples of it."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        store = write_store(Path(name) / "store", PATIENTS[:4], gaze=True, pixels=PIXELS)
        for times in TIMES:
            command = [sys.executable, "-m", "tests.tasks.scoring_memory", "--score", str(store)]
            done = subprocess.run([*command, "--frames", str(times * frames)], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            peaks[times * frames] = float(done.stdout)
            print(f"{times * frames} test frames: {peaks[times * frames]} MiB at most", file=sys.stderr, flush=True)
    return peaks


def main() -> None:
    """Measure and print; write a file with ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--score", type=Path, metavar="STORE", help="score in this process and print its peak")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write figures and environment as JSON")
    arguments = parser.parse_args()
    if arguments.score is not None:
        print(score(arguments.score, arguments.frames))
        return
    environment = describe_environment(torch.device("cpu"))
    peaks = measure(arguments.frames)
    figures: dict[str, Any] = {
        "command": ["python", "-m", "tests.tasks.scoring_memory", *sys.argv[1:]],
        "map_pixels": [PIXELS, PIXELS],
        "peak_mib_by_test_frames": peaks,
        "all_densities_mib_by_test_frames": {count: round(8 * PIXELS**2 * count / 2**20) for count in peaks},
        "environment": environment,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
