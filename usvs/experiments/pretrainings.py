"""The pretrainings that tables compare: rows of Tables 1 and 3, and our control, each kept in a folder of its own."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usvs.config import load_settings
from usvs.data.validation_split import split_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.load import load_pretrain_model
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.pretraining.settings import OBJECTIVES, PretrainSettings
from usvs.tasks.pretraining.validation import Validation
from usvs.training.metrics_log import read_metrics
from usvs.training.trainer import Trainer

logger = logging.getLogger(__name__)


def pretraining_folder(out: Path, row: str, seed: int) -> Path:
    """Return where a row's run of one seed lies."""
    return out / "pretrain" / f"{row}_seed_{seed}"


def pretrain_row(
    store: Path, out: Path, row: str, seed: int, settings: PretrainSettings, patients: Sequence[str]
) -> dict[str, Any]:
    """Pretrain one row of the tables, or go on with it; returns its last record on held-out patients.

    Args:
        store: a prepared store.
        out: the folder of the whole experiment.
        row: one of `usvs.config.OBJECTIVES`.
        seed: of weights and sampling.
        settings: the profile, into which the row's objective is set.
        patients: keyed hashes of those who may be learnt from.
    """
    run = pretraining_folder(out, row, seed)
    chosen = load_settings(settings, overrides=[*OBJECTIVES[row], f"run.seed={seed}"])
    logger.info(f"pretraining {row}, seed {seed}")
    pretrain(store, run, chosen, resume=run.exists(), patients=patients)
    held_out = [record for record in read_metrics(run) if record["split"] == "validation"]
    return {"init": row, "seed": seed, "held_out": held_out[-1] if held_out else {}}


def read_held_out(store: PreparedStore, run: Path, patients: Sequence[str]) -> dict[str, float]:
    """Return what a run's whole model makes of other patients: losses, and retrieval both ways, beside chance.

    Args:
        store: where their clips are.
        run: a pretraining run.
        patients: keyed hashes of people it was not pretrained on.
    """
    model, settings = load_pretrain_model(run)
    if not uses_pairs(settings.objective):
        return {}  # its speech stream has learnt nothing
    split = split_store(store, 0.0, patients)
    clips = store.clips.select(split.clips_of(split.train, store.clips.scan))
    eager = settings.run.model_copy(update={"compile": "eager"})
    return Validation(store, clips, settings).evaluate(model, Trainer(model, settings.optimiser, eager, 1, 1))
