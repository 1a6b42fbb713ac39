"""The pretrainings that experiments compare, each in a run folder of its own: rows of Tables 1 and 3, and a control."""

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
from usvs.training.metrics_log import last_metrics
from usvs.training.trainer import Trainer

logger: logging.Logger = logging.getLogger(__name__)


def pretraining_folder(out: Path, row: str, seed: int) -> Path:
    """Return the run folder of a row's pretraining with one seed."""
    return out / "pretrain" / f"{row}_seed_{seed}"


def pretrain_row(
    store: Path, out: Path, row: str, seed: int, settings: PretrainSettings, patients: Sequence[str]
) -> dict[str, Any]:
    """Pretrain one row of the tables, or resume its pretraining.

    Args:
        store: a prepared store.
        out: the folder of the experiment.
        row: a key of `OBJECTIVES`.
        seed: of weights and sampling.
        settings: of a profile; the row's objective replaces theirs.
        patients: keyed hashes of the patients to pretrain on; the setting `validation_fraction` of them is for
            validation.

    Returns:
        The row, the seed and the last values on validation patients (empty without any), as plain values.
    """
    run = pretraining_folder(out, row, seed)
    chosen = load_settings(settings, overrides=[*OBJECTIVES[row], f"run.seed={seed}"])
    logger.info(f"pretraining {row}, seed {seed}")
    pretrain(store, run, chosen, resume=run.exists(), patients=patients)
    return {"init": row, "seed": seed, "validation": last_metrics(run, "validation")}


def evaluate_pretraining(store: PreparedStore, run: Path, patients: Sequence[str]) -> dict[str, float]:
    """Return the losses and the retrieval of a pretrained model on other patients, each beside its chance level.

    Args:
        store: where the patients' clips are.
        run: a pretraining run.
        patients: keyed hashes of patients that it was not pretrained on.

    Returns:
        Values by name; empty where the objective uses no speech, since then the speech stream is untrained.
    """
    model, settings = load_pretrain_model(run)
    if not uses_pairs(settings.objective):
        return {}
    split = split_store(store, 0.0, patients)
    clips = store.clips.select(split.clips_of(split.train, store.clips.scan))
    eager = settings.run.model_copy(update={"compile": "eager"})
    return Validation(store, clips, settings).evaluate(model, Trainer(model, settings.optimiser, eager, 1, 1))
