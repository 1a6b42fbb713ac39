"""Verdict per loss: on fixed batches of training and of unseen patients, with an interval, beside chance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from usvs.evaluation.embedding_spread import EmbeddingSpread
from usvs.evaluation.label_reading import CONFIDENCE_PERCENT
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import with_chance
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.validation import (
    OF_PAIRS,
    Measurements,
    Validation,
    retrieval,
    stream_spreads,
)
from usvs.training.trainer import Trainer

LossVerdict = Literal["learning", "memorising", "not learning", "not tested"]

LOSS_LABELS = {
    "correspondence": "L_cls",
    "contrastive": "L_cont",
    "reverse": "L_cont (speech to video)",
    "stream_frames": "frames of a clip",
    "stream_speech": "speech of a clip",
    "order": "L_ord",
}
# What only the match of picture and speech lowers. Without these, L_cls: silence alone lowers it too, since hard
# negatives need sound but no speech (docs/learning.md: 0.676 with shuffled speech, 0.693 at chance).
MATCHING = ("contrastive", "reverse")
WITHOUT_CONTRAST = ("correspondence",)
# A collapsed network is below chance by rounding, in every batch: a smaller gain is none, whatever its interval.
MIN_GAIN_NATS = 0.01
MIN_GAIN_RATIO = 0.02  # of chance, where one batch gives no interval
MIN_BATCHES = 4


@dataclass(frozen=True)
class LossMeasurement:
    """A loss on some batches.

    Attributes:
        value: mean over the batches, weighted by valid pairs for losses of pairs.
        chance: the same mean of its chance level.
        half_width: half of the 95 % interval of value - chance over batches; NaN for a single batch.
        batches: how many.
    """

    value: float
    chance: float
    half_width: float
    batches: int

    @property
    def gain_nats(self) -> float:
        """How far it is below chance."""
        return self.chance - self.value

    @property
    def below_chance(self) -> bool:
        """Whether the loss is below chance by more than its interval and by more than `MIN_GAIN_NATS`."""
        bound = MIN_GAIN_RATIO * self.chance if math.isnan(self.half_width) else self.half_width
        return self.gain_nats > max(bound, MIN_GAIN_NATS)

    def __str__(self) -> str:
        interval = "" if math.isnan(self.half_width) else f" ± {self.half_width:.3f}"
        return f"{self.value:.3f}{interval} (chance {self.chance:.3f})"


@dataclass(frozen=True)
class LossReading:
    """A loss on training patients and on unseen ones; either is None where there are none."""

    name: str
    train: LossMeasurement | None
    unseen: LossMeasurement | None

    @property
    def label(self) -> str:
        """The name for a person, for example ``L_cont``."""
        return LOSS_LABELS[self.name]

    @property
    def verdict(self) -> LossVerdict:
        """``learning``: below chance on unseen patients; ``memorising``: on training patients only."""
        if self.unseen is None:
            return "not tested" if self.train is None or self.train.below_chance else "not learning"
        if self.unseen.below_chance:
            return "learning"
        return "memorising" if self.train is not None and self.train.below_chance else "not learning"


@dataclass(frozen=True)
class RunReading:
    """What a run has learnt.

    Attributes:
        steps: updates made.
        losses: of every term that the run has.
        retrieval: fraction of correct retrievals among unseen patients' clips, by direction, beside
            ``NAME_chance``; of training patients where none is unseen.
        streams: rank and spread of the embeddings of ``video`` and ``speech``, on unseen patients' clips.
    """

    steps: int
    losses: tuple[LossReading, ...]
    retrieval: Mapping[str, float]
    streams: Mapping[str, EmbeddingSpread]

    @property
    def matching(self) -> tuple[str, ...]:
        """Names of the losses that show whether speech and pictures are matched; empty where the run has none."""
        names = [loss.name for loss in self.losses]
        return tuple(name for name in MATCHING if name in names) or tuple(
            name for name in WITHOUT_CONTRAST if name in names
        )

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Names of the streams that have collapsed."""
        return tuple(name for name, found in self.streams.items() if found.collapsed)


def read_run(
    model: PretrainModel,
    trainer: Trainer,
    store: PreparedStore,
    settings: PretrainSettings,
    train: ClipTable,
    unseen: ClipTable,
    steps: int,
) -> RunReading:
    """Measure a model on fixed batches of training and of unseen patients.

    Args:
        model: trained.
        trainer: that has the model on its device.
        store: the prepared scans.
        settings: of the run.
        train: clips of the patients that it was trained on; may be empty.
        unseen: clips of others; may be empty.
        steps: updates made.
    """
    measured: list[Measurements | None] = []
    found: list[dict[str, LossMeasurement]] = []
    reference: Validation | None = None
    for clips in (train, unseen):
        if not len(clips):
            measured.append(None)
            found.append({})
            continue
        reference = Validation(store, clips, settings, MIN_BATCHES)
        taken = reference.measure(model, trainer)
        measured.append(taken)
        found.append(measure_losses(taken.records, reference))
    names = [name for name in LOSS_LABELS if name in found[0] or name in found[1]]
    losses = tuple(LossReading(name, found[0].get(name), found[1].get(name)) for name in names)
    last = measured[1] or measured[0]
    if reference is None or last is None:
        return RunReading(steps, losses, {}, {})
    return RunReading(steps, losses, retrieval(*reference.pools(last)), stream_spreads(last))


def measure_losses(records: list[dict[str, float]], validation: Validation) -> dict[str, LossMeasurement]:
    """Return each loss of some batches that has a chance level, with the interval of its difference from chance."""
    kept = [with_chance(record, validation.objective) for record in records]
    result = {}
    for name in LOSS_LABELS:
        rows = [
            (values[name], values[f"{name}_chance"], values.get("valid_pairs", 1.0) if name in OF_PAIRS else 1.0)
            for values in kept
            if f"{name}_chance" in values
        ]
        if rows:
            result[name] = _mean_beside_chance(np.array(rows))
    return result


def half_width(values: NDArray[np.float64]) -> float:
    """Return half of Student's 95 % interval of a mean [n]; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan")
    quantile = stdtrit(len(values) - 1, 0.5 + CONFIDENCE_PERCENT / 200)
    return float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def _mean_beside_chance(rows: NDArray[np.float64]) -> LossMeasurement:
    """Summarise [n, 3]: value, chance and weight of each batch."""
    value, chance, weight = rows.T
    return LossMeasurement(
        float(np.average(value, weights=weight)),
        float(np.average(chance, weights=weight)),
        half_width(value - chance),
        len(rows),
    )
