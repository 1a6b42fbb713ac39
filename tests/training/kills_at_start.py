"""Kills `usvs.pretrain`, an experiment's pretraining and `usvs.finetune` at each of their first file operations.

    python -m tests.training.kills_at_start [--count 30]

Each start is forked and killed (SIGKILL) before or after its n-th file operation below the folder; then the same call
with ``resume`` must finish, with the weights or results of an undisturbed one. Torch keeps one thread, so that forking
is safe.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tests.support.loaded_before_fork  # noqa: F401
from tests.support import labelled_stores, pretraining_stores
from tests.support.interruptions import FileOperations, interruptions
from usvs.experiments.pretrainings import pretrain_row
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.finetune import finetune
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.result_cache import ResultCache
from usvs.training.checkpoint import step_folders
from usvs.training.settings import OptimiserSettings, RunSettings

torch.set_num_threads(1)
SETTINGS = pretraining_stores.tiny_settings(run={"loader_workers": 0, "checkpoint_every_steps": 2})
FINETUNE = ClassificationSettings(
    profile="quick",
    model=labelled_stores.TINY_MODEL,
    optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=1, batch_clips=24),
    run=RunSettings(device="cpu", compile="eager", loader_workers=0),
    temporal_stride=4,
    folds=2,
)


def start_pretraining(store: Path, out: Path) -> str:
    pretrain(store, out, SETTINGS, resume=True)
    return _weights(out)


def start_experiment(store: Path, out: Path) -> str:
    keys = [f"{number + 100:012x}" for number in range(4)]  # patients of the store
    with ResultCache(out, "experiment", {"settings": 1}) as cache:
        cache.measure("pretraining", lambda: pretrain_row(store, out, "joint", 0, SETTINGS, keys))
    return _weights(out / "pretrain" / "joint_seed_0")


def start_finetuning(store: Path, out: Path) -> str:
    finetune("planes", store, out, FINETUNE, protocols=["finetune"], resume=True)
    scores = json.loads((out / "results.json").read_text())["inits"]["random"]["finetune"]["f1"]
    weights = [file.read_bytes() for file in sorted((out / "models").rglob("model.safetensors"))]
    return hashlib.sha256(json.dumps(scores).encode() + b"".join(weights)).hexdigest()


def _weights(run: Path) -> str:
    return hashlib.sha256((step_folders(run / "checkpoints")[-1] / "model.safetensors").read_bytes()).hexdigest()


def killed(start: Callable[[Path, Path], str], store: Path, out: Path, number: int, after: bool) -> bool:
    """Start in a forked process that is killed at an operation; return whether it was."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        FileOperations(pytest.MonkeyPatch(), out.parent, number, after, lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            start(store, out)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(count: int, every: int) -> None:
    """Kill each kind of run at up to `count` operations, both before and after it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pretraining = pretraining_stores.write_store(folder / "pretraining")
        labelled = labelled_stores.write_store(folder / "labelled", labelled_stores.PATIENTS)
        kinds = {
            "pretrain": (start_pretraining, pretraining),
            "experiment": (start_experiment, pretraining),
            "finetune": (start_finetuning, labelled),
        }
        for name, (start, store) in kinds.items():
            work = folder / name
            work.mkdir()
            expected, kills = start(store, work / "complete"), 0
            for number, after in interruptions(count, every):
                out = work / f"killed_{number}_{after}"
                kills += killed(start, store, out, number, after)
                assert start(store, out) == expected, f"{name}, operation {number}, {after=}: other results"
            assert kills, f"{name}: never killed"
            print(f"{name}: {kills} kills, resumed each time with equal results", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--every", type=int, default=1)
    main(**vars(parser.parse_args()))
