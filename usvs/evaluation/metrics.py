"""Scores of a classification over named classes, and the spread of a score over folds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.errors import DataError

DDOF = 1  # the spread over folds is the sample standard deviation


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class, and how many frames truly are of it."""

    name: str
    precision: float
    recall: float
    f1: float
    frames: int


@dataclass(frozen=True)
class ClassificationMetrics:
    """Macro scores: the mean over classes of each class's own score (so macro F1 is not the F1 of the macro P and R).

    Attributes:
        precision: macro precision, 0..1; a class that is never predicted counts 0.
        recall: macro recall, 0..1; a class that is predicted but never true counts 0.
        f1: macro F1, 0..1.
        accuracy: fraction of frames whose class is predicted correctly.
        classes: the scores behind the means.
        left_out: classes neither true nor predicted anywhere, which are in no mean.
        confusion: [classes, classes] counts, row = ground truth, column = prediction.
    """

    precision: float
    recall: float
    f1: float
    accuracy: float
    classes: tuple[ClassScore, ...]
    left_out: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def scores(self) -> Mapping[str, float]:
        """The four means, 0..1."""
        return {name: getattr(self, name) for name in ("precision", "recall", "f1", "accuracy")}

    def __str__(self) -> str:
        """Macro F1, and the classes that are in no mean."""
        absent = f" (neither true nor predicted: {', '.join(self.left_out)})" if self.left_out else ""
        return f"macro F1 {100 * self.f1:.1f} %{absent}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the confusion matrix as a list of rows."""
        return asdict(self) | {"confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Spread:
    """A score over folds: its mean and the sample standard deviation (ddof = 1; 0 for a single fold)."""

    mean: float
    std: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarise at least one value."""
        kept = tuple(float(value) for value in values)
        std = float(np.std(kept, ddof=DDOF)) if len(kept) > 1 else 0.0
        return cls(float(np.mean(kept)), std, kept)

    def __str__(self) -> str:
        """Percent, as the paper prints it."""
        return f"{100 * self.mean:.1f} ± {100 * self.std:.1f}"

    def plain(self) -> str:
        """Without a unit, with two decimals, as the paper prints the scores of saliency."""
        return f"{self.mean:.2f} ± {self.std:.2f}"


def classification_metrics(
    ground_truth: ArrayLike, predicted: ArrayLike, names: Sequence[str]
) -> ClassificationMetrics:
    """Score predicted classes in scikit-learn's convention of a macro mean.

    The mean is taken over the classes that are true or predicted somewhere; the others are left out and named.
    A ratio of 0 / 0 counts as 0.

    Args:
        ground_truth: [n] class numbers.
        predicted: [n] class numbers.
        names: a name for every class number.

    Raises:
        DataError: for no frames, unequal lengths, or a number without a name.
    """
    truth, predicted = np.asarray(ground_truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if truth.shape != predicted.shape or truth.ndim != 1 or truth.size == 0:
        raise DataError(
            f"scores: expected as many predictions as labels, at least one; got {predicted.shape} and {truth.shape}"
        )
    present = np.union1d(truth, predicted)
    if present[0] < 0 or present[-1] >= len(names):
        raise DataError(f"scores: expected class numbers 0 to {len(names) - 1}, got {present[0]} to {present[-1]}")
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # slow to import

    scores = precision_recall_fscore_support(truth, predicted, labels=present, average=None, zero_division=0.0)
    classes = tuple(
        ClassScore(names[number], float(p), float(r), float(f), int(n))
        for number, p, r, f, n in zip(present, *scores, strict=True)
    )
    return ClassificationMetrics(
        precision=float(np.mean(scores[0])),
        recall=float(np.mean(scores[1])),
        f1=float(np.mean(scores[2])),
        accuracy=float(np.mean(truth == predicted)),
        classes=classes,
        left_out=tuple(name for number, name in enumerate(names) if number not in present),
        confusion=confusion_matrix(truth, predicted, labels=np.arange(len(names))),
    )


def chance_f1(ground_truth: ArrayLike, classes: int) -> float:
    """Return the expected macro F1 of predicting each frame by a fair draw among the classes, in closed form.

    Where a fraction q of the frames is of a class, its precision is q and its recall 1 / C, so F1 = 2 q / (C q + 1) in
    the limit of many frames. The mean is over the classes that occur or are drawn, that is all C of them.

    Args:
        ground_truth: [n] class numbers.
        classes: C.
    """
    truth = np.asarray(ground_truth, dtype=np.int64)
    fractions = np.bincount(truth, minlength=classes) / max(len(truth), 1)
    return float(np.mean(2 * fractions / (classes * fractions + 1)))
