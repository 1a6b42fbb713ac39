"""Scores of a zero-shot classifier: similarities of embeddings, standardised per class, and their top-k accuracy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_DEVIATION = 1e-6


def class_scores(embeddings: ArrayLike, prototypes: ArrayLike, centre: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the similarity of embeddings [n, d] with a prototype of each class [C, d]: [n, C].

    What all prototypes have in common (the voice, the room) is subtracted from them, and each is scaled to length 1:
    a class whose prompts agree would otherwise have larger scores for every frame.

    Args:
        embeddings: of frames.
        prototypes: of classes.
        centre: [d] mean embedding of frames like these, subtracted and the rest scaled to length 1; None: they are
            used as they are.
    """
    rows, means = np.asarray(embeddings, np.float64), np.asarray(prototypes, np.float64)
    if centre is not None:
        rows = _unit(rows - np.asarray(centre, np.float64))
    return np.asarray(rows @ _unit(means - means.mean(axis=0)).T)


def standardise_scores(scores: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return scores [n, C] minus the mean of their class over the reference [m, C], in its standard deviations."""
    values, known = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    return np.asarray((values - known.mean(axis=0)) / np.maximum(known.std(axis=0), LEAST_DEVIATION))


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the fraction of rows whose label is among the k largest of their scores [n, C].

    Of equal scores, the label's counts last, so that equal scores of all classes are no success.
    """
    values, known = np.asarray(scores, np.float64), np.asarray(labels)
    own = np.take_along_axis(values, known[:, None], axis=1)
    ahead = (values > own).sum(axis=1) + ((values == own).sum(axis=1) - 1)
    return float((ahead < k).mean())


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST_DEVIATION))
