"""Compare pretraining runs bit for bit, and interrupt one."""

import os
import signal

import torch

from usvs.training.checkpoint import load_checkpoint, step_folders
from usvs.training.metrics_log import read_metrics
from usvs.training.trainer import Trainer

STEPS = 6  # three patients' 18 clips in batches of six, two epochs


def weights(run):
    checkpoint = load_checkpoint(step_folders(run / "checkpoints")[-1])
    return checkpoint.model | checkpoint.optimiser


def equal(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def records(run):
    timing = ("step_seconds", "wait_seconds")
    return [{key: value for key, value in record.items() if key not in timing} for record in read_metrics(run)]


def stop_after(monkeypatch, steps: int) -> None:
    """Make the run believe that it got SIGTERM in its nth step."""
    step = Trainer.step

    def counted(self, *batch, **shard):
        values = step(self, *batch, **shard)
        if self.step_number == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    monkeypatch.setattr(Trainer, "step", counted)
