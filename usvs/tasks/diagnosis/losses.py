"""Verdict per loss: on fixed batches of training and of unseen patients, with an interval, beside chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from usvs.evaluation.embedding_spread import EmbeddingSpread
from usvs.evaluation.label_reading import CONFIDENCE_PERCENT
from usvs.losses.joint import JointObjective
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

LossVerdict = Literal["learning", "too certain", "memorising", "not learning", "not tested"]

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
# Of the run's temperature, tried on unseen patients. What was learnt by heart makes a run too certain of new patients,
# which can lift L_cont above chance although the right pieces are ranked first.
SOFTER = (1.5, 2.0, 3.0, 5.0)


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
    """A loss on training patients and on unseen ones; either is None where there are none.

    Attributes:
        name: the field of the loss.
        train: on training patients.
        unseen: on others.
        fitted: on these, each half of the batches at the temperature that is best on the other half: what is known of
            new patients, apart from how certain the run is of it. None where it was not measured.
        temperatures: of both halves.
    """

    name: str
    train: LossMeasurement | None
    unseen: LossMeasurement | None
    fitted: LossMeasurement | None = None
    temperatures: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """The name for a person, for example ``L_cont``."""
        return LOSS_LABELS[self.name]

    @property
    def verdict(self) -> LossVerdict:
        """What it shows.

        ``learning``: below chance on unseen patients; ``too certain``: there only at a temperature that is fitted;
        ``memorising``: on training patients only.
        """
        if self.unseen is None:
            return "not tested" if self.train is None or self.train.below_chance else "not learning"
        if self.unseen.below_chance:
            return "learning"
        if self.fitted is not None and self.fitted.below_chance:
            return "too certain"
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
    objective = settings.objective
    softens = isinstance(model.objective, JointObjective) and objective.contrastive_weight > 0
    softens = softens and objective.form == "ntxent" and objective.normalise  # Eq. 2 is below chance by its margin
    temperatures = [objective.temperature * factor for factor in SOFTER] if softens else []
    measured: list[Measurements | None] = []
    found: list[dict[str, LossMeasurement]] = []
    reference: Validation | None = None
    for clips in (train, unseen):
        if not len(clips):
            measured.append(None)
            found.append({})
            continue
        reference = Validation(store, clips, settings, MIN_BATCHES)
        taken = reference.measure(model, trainer, temperatures if clips is unseen else ())
        measured.append(taken)
        found.append(measure_losses(taken.records, reference))
    names = [name for name in LOSS_LABELS if name in found[0] or name in found[1]]
    fitted: dict[str, tuple[LossMeasurement, tuple[float, ...]]] = {}
    if reference is not None and measured[1] is not None:
        fitted = fit_temperature([objective.temperature, *temperatures], measured[1], reference)
    losses = tuple(LossReading(name, found[0].get(name), found[1].get(name), *fitted.get(name, ())) for name in names)
    last = measured[1] or measured[0]
    if reference is None or last is None:
        return RunReading(steps, losses, {}, {})
    return RunReading(steps, losses, retrieval(*reference.pools(last)), stream_spreads(last))


def measure_losses(records: list[dict[str, float]], validation: Validation) -> dict[str, LossMeasurement]:
    """Return each loss of some batches that has a chance level, with the interval of its difference from chance."""
    rows = _beside_chance(records, validation)
    return {name: _mean_beside_chance(values) for name, values in rows.items() if len(values)}


def fit_temperature(
    temperatures: Sequence[float], measured: Measurements, validation: Validation
) -> dict[str, tuple[LossMeasurement, tuple[float, ...]]]:
    """Return the losses of `MATCHING` with each half of the batches at the temperature that is best on the other half.

    Args:
        temperatures: the run's, then those of `measured.softer`.
        measured: on batches of unseen patients.
        validation: that measured them.

    Returns:
        The loss and both halves' temperatures by name; empty for fewer than two batches or temperatures.
    """
    result: dict[str, tuple[LossMeasurement, tuple[float, ...]]] = {}
    every = [_beside_chance(records, validation) for records in (measured.records, *measured.softer)]
    for name in MATCHING:
        rows = np.array([found[name] for found in every])  # [T, n, 3]
        if rows.shape[0] < 2 or rows.shape[1] < 2:
            continue
        halves = [rows[:, side::2] for side in (0, 1)]
        best = [int(np.argmin([-_mean_beside_chance(part).gain_nats for part in half])) for half in halves]
        chosen = np.concatenate([halves[0][best[1]], halves[1][best[0]]])
        result[name] = (_mean_beside_chance(chosen), (temperatures[best[1]], temperatures[best[0]]))
    return result


def _beside_chance(records: list[dict[str, float]], validation: Validation) -> dict[str, NDArray[np.float64]]:
    """Return value, chance and weight of each loss in each batch that has it: [n, 3] by name."""
    kept = [with_chance(record, validation.objective) for record in records]
    return {
        name: np.array(
            [
                (values[name], values[f"{name}_chance"], values.get("valid_pairs", 1.0) if name in OF_PAIRS else 1.0)
                for values in kept
                if f"{name}_chance" in values
            ]
        )
        for name in LOSS_LABELS
    }


def half_width(values: NDArray[np.float64]) -> float:
    """Return half of Student's 95 % interval of a mean [n]; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan")
    from scipy.special import stdtrit  # slow to import

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
