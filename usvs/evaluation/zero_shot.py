"""Scores of a zero-shot classifier: similarities of embeddings, standardised per class, and their top-k accuracy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_DEVIATION = 1e-6


def combine_voices(spoken: ArrayLike) -> NDArray[np.float32]:
    """Return one embedding of each class [C, d] of its embeddings in V voices [C, V, d].

    What a voice's classes have in common is subtracted, and voices are weighted by the variance between their classes:
    a voice that the run does not understand has the same embedding for every class, and says nothing.

    Args:
        spoken: of at least two classes.
    """
    rows = np.asarray(spoken, np.float64)
    apart = rows - rows.mean(axis=0)
    variance = np.square(apart).sum(axis=(0, 2))
    weights = variance / max(float(variance.sum()), LEAST_DEVIATION)
    return np.asarray(np.einsum("cvd,v->cd", apart, weights), np.float32)


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


def search_precision(embeddings: ArrayLike, queries: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the fraction of the k rows nearest to a class's query that are of the class, mean over the classes.

    Args:
        embeddings: [n, d] of frames.
        queries: [C, d], one of each class.
        labels: [n] class of each frame.
        k: number of rows; of a class with fewer, as many as it has.
    """
    scores, known = np.asarray(embeddings) @ np.asarray(queries).T, np.asarray(labels)
    found = []
    for number, of_class in enumerate(scores.T):
        count = min(k, int((known == number).sum()))
        if count:
            found.append((known[np.argsort(-of_class, kind="stable")[:count]] == number).mean())
    return float(np.mean(found))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST_DEVIATION))
