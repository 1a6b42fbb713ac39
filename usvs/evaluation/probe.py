"""Linear probe and nearest neighbours on frozen features."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.errors import DataError

ITERATIONS = 1000
NEIGHBOURS = 20
PENALTY_INVERSE = 1.0  # scikit-learn's C, on standardised features


def probe_predict(train: ArrayLike, labels: ArrayLike, test: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Predict the class of each row by a linear probe: the most probable one of `probe_probabilities`, [m]."""
    return np.asarray(probe_probabilities(train, labels, test, classes).argmax(axis=1))


def probe_probabilities(train: ArrayLike, labels: ArrayLike, test: ArrayLike, classes: int) -> NDArray[np.float64]:
    """Fit standardisation and a class-balanced logistic regression on one set of features, apply them to another.

    Args:
        train: [n, C] features.
        labels: [n] class numbers.
        test: [m, C] features of other patients.
        classes: number of classes.

    Returns:
        The probability [m, classes] of every class; 0 of those without a training row.

    Raises:
        DataError: where the training labels are all of one class.
    """
    known = np.asarray(labels)
    if len(np.unique(known)) < 2:
        raise DataError("linear probe: expected at least two classes among the labelled patients, got one")
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=PENALTY_INVERSE, class_weight="balanced", max_iter=ITERATIONS)
    )
    classifier.fit(train, known)
    probabilities = np.zeros((len(np.asarray(test)), classes))
    probabilities[:, classifier.classes_] = classifier.predict_proba(test)
    return probabilities


def knn_predict(train: ArrayLike, labels: ArrayLike, test: ArrayLike) -> NDArray[np.int64]:
    """Predict the class of each row by the `NEIGHBOURS` labelled rows nearest in cosine, nearer ones counting more.

    Args:
        train: [n, C] features; they are standardised first, and the others' with them.
        labels: [n] class numbers.
        test: [m, C] features of other patients.

    Returns:
        Class numbers [m].
    """
    from sklearn.neighbors import KNeighborsClassifier  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(np.asarray(train))), weights="distance", metric="cosine")
    classifier = make_pipeline(StandardScaler(), neighbours)
    classifier.fit(train, labels)
    return np.asarray(classifier.predict(test))
