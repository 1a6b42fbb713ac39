"""Cross-validation of an estimator over patient folds, like the function of scikit-learn of that name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from usvs.data.frame_dataset import FrameDataset
from usvs.errors import ConfigError
from usvs.evaluation.folds import Fold, make_folds
from usvs.evaluation.metrics import Spread


@dataclass(frozen=True)
class CrossValidation:
    """Scores of an estimator on every fold; as text, mean and sample standard deviation of each score.

    Attributes:
        scores: every score over the folds: `mean`, `std` and `values`.
        folds: the groups of each fold's training and test set.
    """

    scores: Mapping[str, Spread]
    folds: tuple[Fold, ...]

    def __getitem__(self, score: str) -> Spread:
        return self.scores[score]

    def __str__(self) -> str:
        lines = [f"{name}: {spread.mean:.3f} ± {spread.std:.3f}" for name, spread in self.scores.items()]
        return "\n".join([*lines, f"mean ± sample standard deviation over {len(self.folds)} folds"])


def cross_validate(
    estimator: Any,
    frames: Any,
    labels: Any = None,
    groups: ArrayLike | None = None,
    cv: int = 3,
    seed: int = 0,
    stratify: bool = False,
) -> CrossValidation:
    """Train and test a copy of an estimator on each fold; no group is on both sides of a fold.

    Args:
        estimator: a `FrameClassifier`, or anything with `get_params`, `fit` and `score` (or `evaluate`).
        frames: a labelled `usvs.data.FrameDataset`, or an array [n, ...].
        labels: [n] class of each frame, where `frames` is an array.
        groups: [n] patient of each frame; None: those of the dataset.
        cv: number of folds.
        seed: of the folds.
        stratify: deal groups so that every fold tests about the same fraction of each class.

    Returns:
        The scores of each fold, with mean and standard deviation.

    Raises:
        ConfigError: for an array without `labels` or `groups`.
        DataError: where there are fewer groups than folds.
    """
    dataset = isinstance(frames, FrameDataset)
    if not dataset and (labels is None or groups is None):
        raise ConfigError("cross_validate: expected labels and groups with an array of frames, or a FrameDataset")
    known = frames.labels if dataset else np.asarray(labels)
    of_frame = np.asarray(frames.patients if groups is None else groups).astype(np.str_)
    if of_frame.shape != (len(known),):
        raise ConfigError(f"groups: expected one per frame, {len(known)}, got {list(of_frame.shape)}")
    folds = make_folds(of_frame.tolist(), cv, seed, known if stratify else None)
    measured: list[Mapping[str, float]] = []
    for fold in folds:
        train, test = np.isin(of_frame, fold.train), np.isin(of_frame, fold.test)
        copy = type(estimator)(**estimator.get_params())
        if dataset:
            copy.fit(frames.subset(train))
            measured.append(_scores(copy, frames.subset(test)))
        else:
            array = np.asarray(frames)
            copy.fit(array[train], known[train])
            measured.append(_scores(copy, array[test], known[test]))
    scores = {name: Spread.of(one[name] for one in measured) for name in measured[0]}
    return CrossValidation(scores, folds)


def _scores(estimator: Any, *test: Any) -> Mapping[str, float]:
    if hasattr(estimator, "evaluate"):
        scores: Mapping[str, float] = estimator.evaluate(*test).scores
        return scores
    return {"score": float(estimator.score(*test))}
