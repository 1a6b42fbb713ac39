"""Linear probe and nearest neighbours on frozen features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from usvs.errors import DataError
from usvs.evaluation.metrics import PlaneMetrics, plane_metrics

ITERATIONS = 1000
NEIGHBOURS = 20
PENALTY_INVERSE = 1.0  # scikit-learn's C, on standardised features


def probe_features(
    train: NDArray[np.float32],
    train_planes: NDArray[Any],
    test: NDArray[np.float32],
    test_planes: NDArray[Any],
    names: Sequence[str],
) -> PlaneMetrics:
    """Fit standardisation and a class-balanced logistic regression on one set of features, score it on another.

    Args:
        train: [n, C] features.
        train_planes: [n] class numbers.
        test: [m, C] features of other patients.
        test_planes: [m] class numbers.
        names: of the classes, in the order of their numbers.

    Raises:
        DataError: where the training labels are all of one class.
    """
    probabilities = probe_probabilities(train, train_planes, test, len(names))
    return plane_metrics(test_planes, probabilities.argmax(axis=1), names)


def probe_probabilities(
    train: NDArray[np.float32], train_classes: NDArray[Any], test: NDArray[np.float32], classes: int
) -> NDArray[np.float64]:
    """Fit as `probe_features` and return the probability [m, classes] of every class; 0 of those never labelled.

    Raises:
        DataError: where the training labels are all of one class.
    """
    if len(np.unique(train_classes)) < 2:
        raise DataError("a probe needs at least two classes among its labelled patients; got one")
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=PENALTY_INVERSE, class_weight="balanced", max_iter=ITERATIONS)
    )
    classifier.fit(train, train_classes)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, classifier.classes_] = classifier.predict_proba(test)
    return probabilities


def nearest_neighbours(
    train: NDArray[np.float32],
    train_planes: NDArray[Any],
    test: NDArray[np.float32],
    test_planes: NDArray[Any],
    names: Sequence[str],
) -> PlaneMetrics:
    """Name each frame by the `NEIGHBOURS` labelled ones nearest in cosine, nearer ones counting more; no fitting.

    Args:
        train: [n, C] features; with the others' they are standardised first.
        train_planes: [n] class numbers.
        test: [m, C] features of other patients.
        test_planes: [m] class numbers.
        names: of the classes, in the order of their numbers.
    """
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(train)), weights="distance", metric="cosine")
    classifier = make_pipeline(StandardScaler(), neighbours)
    classifier.fit(train, train_planes)
    return plane_metrics(test_planes, classifier.predict(test), names)
