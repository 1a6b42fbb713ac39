"""Cross-validation of an estimator over patient folds, like the function of scikit-learn of that name."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.data.frame_dataset import FrameDataset
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold, make_folds, some_keys
from usvs.evaluation.metrics import Spread
from usvs.inference.classifier import FrameClassifier
from usvs.tasks.comparison import Patients
from usvs.tasks.initial_encoder import Init, parse_init
from usvs.tasks.overlap import held_out_rows, overlaps
from usvs.tasks.trained_patients import trained_patients

logger: logging.Logger = logging.getLogger(__name__)


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
    patients: Patients = "all",
    allow_overlap: bool = False,
) -> CrossValidation:
    """Train and test a copy of an estimator on each fold; no group is on both sides of a fold.

    Patients that the classifier's encoder was pretrained on are refused, as `usvs.finetune` does.

    Example:
        >>> classifier = usvs.FrameClassifier(encoder="RUN")
        >>> print(usvs.cross_validate(classifier, frames, patients="held-out"))

    Args:
        estimator: a `FrameClassifier`, or anything with `get_params`, `fit` and `score` (or `evaluate`).
        frames: a labelled `usvs.data.FrameDataset`, or an array [n, ...].
        labels: [n] class of each frame, where `frames` is an array.
        groups: [n] patient of each frame; None: those of the dataset.
        cv: number of folds.
        seed: of the folds.
        stratify: deal groups so that every fold tests about the same fraction of each class.
        patients: ``held-out`` uses only patients that the classifier's encoder was not pretrained on.
        allow_overlap: also test on patients that the encoder was pretrained on; logged.

    Returns:
        The scores of each fold, with mean and standard deviation.

    Raises:
        ConfigError: for an array without `labels` or `groups`, another value of `patients`, or held-out patients of
            frames that are not of a store.
        DataError: where there are fewer groups than folds, or test patients that were pretrained on.
    """
    if patients not in get_args(Patients):
        raise ConfigError(f"patients: expected {' or '.join(get_args(Patients))}, got {patients!r}")
    dataset = isinstance(frames, FrameDataset)
    encoder: Init = estimator.encoder if isinstance(estimator, FrameClassifier) else "random"
    if patients == "held-out":
        kept = held_out_mask(frames, encoder)
        frames, groups = frames.subset(kept), None if groups is None else np.asarray(groups)[kept]
    _check_overlap(frames, encoder, groups, allow_overlap)
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


def held_out_frames(frames: FrameDataset, encoder: Init) -> FrameDataset:
    """Return the frames of the patients that an encoder was not pretrained on: those it may be tested on.

    Example:
        >>> frames = usvs.held_out_frames(usvs.data.FrameDataset("STORE"), "RUN")

    Args:
        frames: of a prepared store.
        encoder: as of `usvs.FrameClassifier`, for example a pretraining run.

    Raises:
        ConfigError: for frames that are not of a store.
        DataError: where no patient is held out, or the run has no list of its patients.
    """
    return frames.subset(held_out_mask(frames, encoder))


def held_out_mask(frames: Any, encoder: Init) -> NDArray[np.bool_]:
    """Return which frames [n] are of patients that an encoder was not pretrained on; as of `held_out_frames`."""
    if not isinstance(frames, FrameDataset) or frames.store is None or frames.table is None:
        raise ConfigError("held-out patients: expected a FrameDataset of a store, got frames in memory")
    return held_out_rows(frames.store, frames.table, [encoder])


def _check_overlap(frames: Any, encoder: Init, groups: ArrayLike | None, allow: bool) -> None:
    """Refuse test patients that an encoder was pretrained on; frames in memory are compared by their group names."""
    if parse_init(encoder).kind != "run":
        return
    assert isinstance(encoder, (str, Path))
    if isinstance(frames, FrameDataset) and frames.store is not None and frames.table is not None:
        keys = set(pretraining_keys(frames.store, np.unique(frames.table.scan).tolist()).values())
        overlaps([encoder], [Path(encoder).name], frames.store, keys, allow)
        return
    named = frames.patients if isinstance(frames, FrameDataset) and groups is None else groups
    groups_in_memory = set(np.asarray(named).astype(np.str_).tolist())
    trained = set().union(*(trained_patients(parse_init(encoder).path) or {}).values())
    if (shared := sorted(trained & groups_in_memory)) and not allow:
        raise DataError(
            f"{len(shared)} of {len(groups_in_memory)} test patients were pretrained on ({some_keys(shared)}):"
            " leave them out, or give allow_overlap=True"
        )
    logger.warning(
        f"encoder '{encoder}': the frames are not of a store, so an overlap of their patients with those of the"
        " pretraining is only found where `groups` are the store's patient keys"
    )


def _scores(estimator: Any, *test: Any) -> Mapping[str, float]:
    if hasattr(estimator, "evaluate"):
        scores: Mapping[str, float] = estimator.evaluate(*test).scores
        return scores
    return {"score": float(estimator.score(*test))}
