"""Distance between float32 trainings that differ in nothing but the order of additions.

    python -m tests.training.drift --out docs/results/drift.json

prints the relative distance of all weights from those of one process after some numbers of steps: for 2 and 4
processes, for one process with each batch in another order, and for float64.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.support.pretraining_stores import tiny_settings
from tests.training.compare import relative, run_jobs
from usvs.losses.settings import ObjectiveSettings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.environment import describe_environment
from usvs.training.settings import OptimiserSettings

CLIPS, STEPS = 6, 20
ALL = list(range(CLIPS))
# Uneven on purpose; one rank of four has no valid pair.
SPLITS = {1: [ALL], 2: [[0, 1, 2, 3], [4, 5]], 4: [[0, 3], [1], [2, 5], [4]]}
REORDERED = [[3, 1, 5, 0, 2, 4]]
VALID = (True, False, True, True, False, True)
ORDERED = (True, True, False, True, True, False)  # and another has no clip with the order task
AFTER = [1, 2, 5, 10, STEPS]


def write_batches(path: Path, all_count: bool = False) -> None:
    """Write a batch of noise a step, with some invalid clips unless `all_count`."""
    tensors = {}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        shapes = [(CLIPS, 2, 1, 32, 32), (CLIPS, 4, 1, 32, 32), (CLIPS, 2, 14_400), (CLIPS, 2, 14_400)]
        parts = [torch.randn(shape, generator=generator) for shape in shapes]
        parts[2:] = [0.1 * part for part in parts[2:]]
        order = torch.randint(0, 12, (CLIPS,), generator=generator)
        masks = torch.tensor(VALID) | all_count, torch.tensor(ORDERED) | all_count
        tensors |= {f"{step}.{i}": part for i, part in enumerate([*parts, masks[0], order, masks[1]])}
    save_file(tensors, path)


def as_published(settings: PretrainSettings, path: Path) -> str:
    """Write settings with the paper's objective and optimiser."""
    paper = {"objective": ObjectiveSettings(), "optimiser": OptimiserSettings(batch_clips=CLIPS)}
    path.write_text(settings.model_copy(update=paper).model_dump_json())
    return str(path)


def main() -> None:
    """Train and print, on the tests' batches and on batches of valid clips only; write a file with ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write figures and environment as JSON")
    out = parser.parse_args().out
    figures: dict[str, Any] = {"steps": AFTER}
    print(f"{'steps':>30}" + "".join(f"{steps:>10}" for steps in AFTER))
    for batches in ("tests", "all_count"):
        with tempfile.TemporaryDirectory() as name:
            figures[batches] = _measure(Path(name), batches == "all_count")
        for run, apart in figures[batches].items():
            print(f"{batches + ', ' + run:>30}" + "".join(f"{value:10.1e}" for value in apart))
    if out is not None:
        figures["environment"] = describe_environment(torch.device("cpu"))
        out.write_text(json.dumps(figures, indent=1) + "\n")


def _measure(folder: Path, all_count: bool) -> dict[str, list[float]]:
    write_batches(folder / "batches", all_count)
    settings = as_published(tiny_settings(run={"compile": "eager"}), folder / "settings.json")
    common = {"call": "train", "batches": str(folder / "batches"), "settings": settings, "also_after": AFTER}
    runs = {"one": SPLITS[1], "2 processes": SPLITS[2], "4 processes": SPLITS[4], "reordered": REORDERED}
    jobs = [{**common, "ranks": len(s), "split": s, "out": str(folder / n)} for n, s in runs.items()]
    jobs += [{**jobs[0], "double": True, "out": str(folder / "float64")}]
    codes, log = run_jobs(folder, jobs)
    assert not any(code for job in codes for code in job), log
    return {
        run: [
            relative(*(load_file(_end(folder / name, steps)) for name in ("one", run)), statistics=False)
            for steps in AFTER
        ]
        for run in (*list(runs)[1:], "float64")
    }


def _end(out: Path, steps: int) -> Path:
    return out if steps == STEPS else out.with_name(f"{out.name}.{steps}")


if __name__ == "__main__":
    main()
