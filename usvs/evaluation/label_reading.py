"""How well labels are read, beside chance, and how much two readings of the same labels can share, in nats."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
CONFIDENCE_PERCENT = 95.0


class F1Beside(NamedTuple):
    """Macro F1 beside what the same numbers of predictions reach when they are dealt at random.

    Attributes:
        f1: macro F1, 0..1.
        chance: expected macro F1 of the same predictions in random order.
        low, high: 95 % interval of f1 - chance over patients; NaN for fewer than two patients.
    """

    f1: float
    chance: float
    low: float
    high: float

    @property
    def above_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0


def f1_beside_chance(confusion_by_patient: ArrayLike, seed: int = 0) -> F1Beside:
    """Score predictions of some patients, with an interval by resampling patients.

    Args:
        confusion_by_patient: [patients, C, C] counts, rows the label and columns the prediction.
        seed: of the resampling.
    """
    counts = np.asarray(confusion_by_patient, dtype=np.float64)
    f1, chance = _macro_f1(counts.sum(axis=0)), _chance_f1(counts.sum(axis=0))
    patients = len(counts)
    if patients < 2:
        return F1Beside(float(f1), float(chance), float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
    resampled = np.einsum("rp,pab->rab", drawn.astype(np.float64), counts)
    tail = (100 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(_macro_f1(resampled) - _chance_f1(resampled), (tail, 100 - tail))
    return F1Beside(float(f1), float(chance), float(low), float(high))


def confusion_nats(confusion: ArrayLike) -> float:
    """Return the mutual information of label and prediction in nats, from counts [C, C], with Miller's correction.

    It is at most the information that what was read has about the label (data-processing inequality).
    """
    counts = np.asarray(confusion, dtype=np.float64)
    rows, columns = (counts.sum(axis=axis) > 0 for axis in (1, 0))
    bias = max(rows.sum() - 1, 0) * max(columns.sum() - 1, 0) / (2 * max(counts.sum(), 1.0))
    return max(_information(counts / max(counts.sum(), 1.0)) - float(bias), 0.0)


def shared_nats(first: ArrayLike, second: ArrayLike) -> float:
    """Return the mutual information of two predictions that have nothing in common but the label.

    Args:
        first: [C, C] counts of one reading, rows the label.
        second: of the other; the labels' frequencies are the mean of both.
    """
    one, other = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
    label = (one.sum(axis=1) / one.sum() + other.sum(axis=1) / other.sum()) / 2
    channels = [counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0) for counts in (one, other)]
    known = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    joint = np.einsum("y,ya,yb->ab", np.where(known, label, 0.0), *channels)
    return max(_information(joint / max(joint.sum(), 1e-12)), 0.0)


def label_entropy_nats(confusion: ArrayLike) -> float:
    """Return the entropy of the labels of counts [C, C] in nats: more cannot be known of them."""
    label = np.asarray(confusion, dtype=np.float64).sum(axis=1)
    fractions = label[label > 0] / label.sum()
    return float(-(fractions * np.log(fractions)).sum())


def _information(joint: NDArray[np.float64]) -> float:
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def _macro_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro F1 of counts [..., C, C], over the classes that are true or predicted somewhere."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    return _mean_of_present(2 * hits, total)


def _chance_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    hits = true * predicted / np.maximum(counts.sum(axis=(-2, -1)), 1.0)[..., None]
    return _mean_of_present(2 * hits, true + predicted)


def _mean_of_present(doubled_hits: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    present = total > 0
    scores = np.where(present, doubled_hits / np.where(present, total, 1.0), 0.0)
    means: NDArray[np.float64] = scores.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return means
