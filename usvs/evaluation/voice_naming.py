"""Accuracy of naming frames by spoken classes, in several ways of comparing them, from embeddings alone."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.evaluation.zero_shot import class_scores, combine_voices, standardise_scores, top_k_accuracy

RESAMPLES = 1000
POOL_SECONDS = 3.0
SHRINKAGE = 0.1  # of the covariance towards its mean variance, before whitening
# How frames are compared with spoken classes, each with what was added to the one before.
WAYS = {
    "one_voice": "the classifier with one voice, mean over the voices",
    "raw": "similarity with the mean of all voices",
    "raw_standardised": "raw, standardised per class over the frames",
    "equal_voices": "less what all classes' speech has in common",
    "weighted_voices": "and voices weighted by the variance between their classes: the classifier without fit",
    "classifier": "and frames centred, scores standardised per class: the classifier after fit",
    "pooled": f"the classifier, frames averaged over {POOL_SECONDS:g} s",
    "whitened": "weighted voices, whitened by the covariance of the frames, standardised",
}


def naming_scores(
    frames: NDArray[np.float32], spoken: NDArray[np.float32], scan: NDArray[Any], seconds: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return scores [n, C] of frames in every way but ``one_voice``.

    Args:
        frames: [n, d] embeddings of unlabelled frames, all that scores are standardised over.
        spoken: [C, V, d] embeddings of C classes in V voices.
        scan: [n] of each frame.
        seconds: [n] on the scan's clock.
    """
    prompts, centre = combine_voices(spoken), frames.mean(axis=0)
    raw, centred = frames @ spoken.mean(axis=1).T, class_scores(frames, prompts, centre)
    pooled = _pooled(frames, scan, seconds)
    of_pooled = class_scores(pooled, prompts, pooled.mean(axis=0))
    covariance = np.atleast_2d(np.cov(frames.T))
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(covariance)) * np.trace(covariance) / len(
        covariance
    )
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    of_white = class_scores((frames - centre) @ whitening, prompts @ whitening)
    return {
        "raw": np.asarray(raw, np.float64),
        "raw_standardised": standardise_scores(raw, raw),
        "equal_voices": class_scores(frames, spoken.mean(axis=1)),
        "weighted_voices": class_scores(frames, prompts),
        "pooled": standardise_scores(of_pooled, of_pooled),
        "whitened": standardise_scores(of_white, of_white),
        "classifier": standardise_scores(centred, centred),
    }


def naming_accuracy(
    frames: NDArray[np.float32],
    spoken: NDArray[np.float32],
    labels: NDArray[np.int64],
    scan: NDArray[Any],
    seconds: NDArray[np.float64],
    patient: ArrayLike,
) -> dict[str, dict[str, float]]:
    """Return top-1 and top-3 of every way, with a 95 % interval of top-1 over patients.

    Args:
        frames: as of `naming_scores`.
        spoken: as of `naming_scores`.
        labels: [n] class of each frame; -1 for frames that are not scored.
        scan: as of `naming_scores`.
        seconds: as of `naming_scores`.
        patient: [n] of each frame.
    """
    known, groups = labels >= 0, np.asarray(patient)
    found = {
        way: accuracies(scores[known], labels[known], groups[known])
        for way, scores in naming_scores(frames, spoken, scan, seconds).items()
    }
    alone = [
        naming_scores(frames, spoken[:, voice : voice + 1], scan, seconds)["classifier"][known]
        for voice in range(spoken.shape[1])
    ]
    each = [(top_k_accuracy(scores, labels[known], 1), top_k_accuracy(scores, labels[known], 3)) for scores in alone]
    top1, top3 = np.mean(each, axis=0).tolist()
    found["one_voice"] = {"top1": top1, "top3": top3, "top1_least": min(each)[0], "top1_most": max(each)[0]}
    return {way: found[way] for way in WAYS}


def accuracies(scores: NDArray[np.float64], labels: NDArray[np.int64], patient: NDArray[Any]) -> dict[str, float]:
    """Return top-1, its 95 % interval by resampling patients, and top-3 of scores [n, C]."""
    correct = np.array([top_k_accuracy(row[None], label[None], 1) for row, label in zip(scores, labels, strict=True)])
    names, group = np.unique(patient, return_inverse=True)
    hits, counts = np.bincount(group, correct), np.bincount(group)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    low, high = np.percentile((drawn @ hits) / np.maximum(drawn @ counts, 1), (2.5, 97.5)).tolist()
    return {
        "top1": float(correct.mean()),
        "top1_low": low,
        "top1_high": high,
        "top3": top_k_accuracy(scores, labels, 3),
    }


def _pooled(frames: NDArray[np.float32], scan: NDArray[Any], seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the mean of each frame's neighbours of the same scan within half of `POOL_SECONDS`."""
    result = np.empty_like(frames)
    for one in np.unique(scan):
        rows = np.flatnonzero(scan == one)
        times = seconds[rows]  # increasing
        first = np.searchsorted(times, times - POOL_SECONDS / 2)
        last = np.searchsorted(times, times + POOL_SECONDS / 2, side="right")
        sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames[rows], axis=0, dtype=np.float64)])
        result[rows] = (sums[last] - sums[first]) / (last - first)[:, None]
    return result
