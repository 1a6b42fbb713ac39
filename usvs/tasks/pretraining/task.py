"""Pretraining as a task: its dataset, loader, module, batches and scores.

It does not implement `usvs.tasks.task.Task`, because its samples are drawn and are not labelled rows: a batch is named
by a step of a sampling plan, scores are means over fixed validation batches, and nothing is predicted of single rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.data.loader import Loader, make_loader
from usvs.data.pair_batch import PairBatch
from usvs.data.rank_plan import RankPlan
from usvs.data.validation_split import PatientSplit, split_store
from usvs.errors import DataError
from usvs.losses.protocol import loss_requirements
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore, check_clip_length
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.module import PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.validation import Validation
from usvs.training.distributed import ALONE, Ranks
from usvs.training.random_state import seeded
from usvs.training.trainer import Trainer


class PretrainDataset(NamedTuple):
    """The clips of a store, divided by patient.

    Attributes:
        split: the patients on both sides.
        train: their clips.
        validation: their clips; may be empty.
    """

    split: PatientSplit
    train: ClipTable
    validation: ClipTable


@dataclass(frozen=True)
class PretrainingTask:
    """Video-speech pretraining with some settings.

    Attributes:
        settings: of the run.
        loss: an own `usvs.losses.PretrainingLoss`; None: the joint objective of the settings.
    """

    settings: PretrainSettings
    loss: nn.Module | None = None
    name = "pretraining"

    @property
    def uses_pairs(self) -> bool:
        """Whether the loss uses pairs of frames and speech."""
        return uses_pairs(self.settings.objective) if self.loss is None else loss_requirements(self.loss).pairs

    @property
    def uses_order(self) -> bool:
        """Whether the loss uses the order task."""
        return self.settings.objective.order_weight > 0 if self.loss is None else loss_requirements(self.loss).order

    def dataset(self, store: PreparedStore, patients: Sequence[str] | None = None) -> PretrainDataset:
        """Return the clips to train on and those to validate on.

        Args:
            store: the prepared scans.
            patients: keyed hashes of the patients to use; None for all.

        Raises:
            DataError: where the store has no clips that serve the objective, or not all of the patients.
            ConfigError: where its clips have another length than in the settings.
        """
        check_clip_length(store, self.settings.clips)
        split = split_store(store, self.settings.validation_fraction, patients)
        train, validation = (
            store.clips.select(split.clips_of(groups, store.clips.scan)) for groups in (split.train, split.validation)
        )
        check_objective(train, self.settings, self.uses_pairs)
        return PretrainDataset(split, train, validation)

    def loader(
        self, store: PreparedStore, train: ClipTable, device: torch.device, ranks: Ranks = ALONE
    ) -> tuple[RankPlan, Loader]:
        """Return this rank's part of the sampling plan, and the loader of its batches.

        Args:
            store: the prepared scans.
            train: the training clips, as of `dataset`.
            device: that the batches are computed on.
            ranks: the processes that take part.
        """
        settings = self.settings
        plan = RankPlan(
            train,
            settings.clips,
            settings.objective,
            settings.run.seed,
            settings.optimiser.batch_clips,
            rank=ranks.number,
            ranks=ranks.count,
            uses_pairs=self.uses_pairs,
            uses_order=self.uses_order,
        )
        return plan, make_loader(store, plan, settings.pairs, device)

    def module(self, encoder: nn.Module | None = None) -> PretrainModel:
        """Return the trainable module; its weights depend on the seed only.

        Args:
            encoder: of the video stream, see `PretrainModel`; trained in place.
        """
        with seeded(self.settings.run.seed):
            return PretrainModel(self.settings, encoder, self.loss)

    def batch(self, samples: PairBatch) -> tuple[Tensor, ...]:
        """Return what the module's forward takes of a loaded batch."""
        return model_inputs(samples)

    def score(self, module: PretrainModel, validation: Validation, trainer: Trainer) -> dict[str, float]:
        """Return losses, accuracies and retrieval on validation clips, each beside its chance level."""
        return validation.evaluate(module, trainer)


def check_objective(clips: ClipTable, settings: PretrainSettings, needs_pairs: bool) -> None:
    """Check that the training clips serve the objective.

    Args:
        clips: to train on.
        settings: of the run.
        needs_pairs: whether the loss uses pairs of frames and speech.

    Raises:
        DataError: naming what is missing and an option that works without it.
    """
    if not len(clips):
        raise DataError(
            "no training clips: the scans are shorter than one clip, or all patients are validation patients"
            " (validation_fraction)"
        )
    if not needs_pairs:
        return
    if not clips.has_sound.any():
        raise DataError("no training scan has sound, which this objective needs: use --objective video")
    high = settings.clips.speech_fraction_high
    if settings.objective.affinity and not (clips.speech_fraction >= high).any():
        raise DataError(
            f"no training clip has speech in {high:.0%} of its time, which this objective needs: lower"
            " clips.speech_fraction_high, set objective.affinity=false, or use --objective video"
        )


def samples_sha256(store: PreparedStore, clips: ClipTable) -> str:
    """Return the SHA-256 of what samples are drawn from, so that a resumed run cannot get other samples unnoticed."""
    digest = hashlib.sha256("\n".join(store.scans).encode())
    for column in (clips.scan, clips.start_seconds, clips.speech_fraction):
        digest.update(column.tobytes())
    return digest.hexdigest()
