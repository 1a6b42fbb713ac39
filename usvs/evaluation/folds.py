"""Folds by patient, never by frame: every division of patients into training and test is made and checked here."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.errors import ConfigError, DataError

GroupBy = Literal["patient", "scan"]
NAMED_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class Fold:
    """One division of groups (patients, or scans where that was asked for) between training and test.

    Attributes:
        number: which fold, from 0.
        train: keyed hashes of the groups that may be trained on; the first n are the ones labelled first.
        test: keyed hashes of the groups that are only predicted.
    """

    number: int
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        check_disjoint(self.train, self.test, f"fold {self.number}: training and test")

    def labelled(self, patients: int | None) -> "Fold":
        """Return the same fold with labels for only the first `patients` of its training groups.

        The choice is nested: the two patients of ``labelled(2)`` are among the four of ``labelled(4)``.

        Raises:
            ConfigError: where the fold has fewer training patients than that.
        """
        if patients is None:
            return self
        if not 1 <= patients <= len(self.train):
            raise ConfigError(
                f"labelled_patients: expected 1 to {len(self.train)}, as many as fold {self.number} has, got {patients}"
            )
        return Fold(self.number, self.train[:patients], self.test)


def make_folds(groups: Iterable[str], folds: int, seed: int, stratify: ArrayLike | None = None) -> tuple[Fold, ...]:
    """Deal groups into `folds` test sets of equal size, give or take one; the rest of each fold is its training set.

    The folds depend on `seed` and on the keyed hashes alone, not on the order of the groups.

    Args:
        groups: keyed hashes of the patients, for example one per frame; a repeated one counts once.
        folds: number of folds, the paper's k = 3 (section 3.2).
        seed: another seed gives other folds.
        stratify: class numbers, one for each entry of `groups`. Groups are then dealt so that every test set has about
            the same fraction of each class's entries, as scikit-learn's `StratifiedGroupKFold` does; test sets may
            then differ in size.

    Raises:
        DataError: where there are fewer groups than folds, or `stratify` has another length than `groups`.
    """
    listed = list(groups)
    shuffled = keyed_order(listed, f"folds {seed}")
    if len(shuffled) < folds:
        raise DataError(f"{folds} folds: expected at least {folds} labelled patients, got {len(shuffled)}")
    if stratify is None:
        dealt = [tuple(shuffled[number::folds]) for number in range(folds)]
    else:
        dealt = _dealt_by_class(shuffled, folds, _class_counts(listed, shuffled, stratify))
    return tuple(
        Fold(
            number,
            keyed_order([key for key in shuffled if key not in set(dealt[number])], f"labelled {seed} {number}"),
            dealt[number],
        )
        for number in range(folds)
    )


def rare_classes(groups: ArrayLike, labels: ArrayLike, folds: int) -> dict[int, int]:
    """Return the classes that fewer groups than `folds` have, each with its number of groups.

    In some fold such a class has no training frames, or no test frames, so its score there is 0 or undefined.

    Args:
        groups: [n] keyed hashes of the patients.
        labels: [n] class numbers; -1 where there is none.
        folds: number of folds.
    """
    group, label = np.asarray(groups), np.asarray(labels)
    counts = {int(one): len(np.unique(group[label == one])) for one in np.unique(label) if one >= 0}
    return {one: count for one, count in counts.items() if count < folds}


def _class_counts(groups: Sequence[str], shuffled: Sequence[str], stratify: ArrayLike) -> NDArray[np.float64]:
    """Return the number of entries of each group and class, [groups, classes], groups in the order of `shuffled`."""
    labels = np.asarray(stratify)
    if labels.shape != (len(groups),):
        raise DataError(f"stratify: expected one class number per entry, {len(groups)}, got {list(labels.shape)}")
    row = {key: number for number, key in enumerate(shuffled)}
    _, column = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(shuffled), int(column.max()) + 1))
    np.add.at(counts, (np.array([row[key] for key in groups]), column), 1.0)
    return counts


def _dealt_by_class(shuffled: Sequence[str], folds: int, counts: NDArray[np.float64]) -> list[tuple[str, ...]]:
    """Deal groups, the most uneven first, each to the fold where the fractions then differ least over folds."""
    fractions = counts / counts.sum(axis=0)
    dealt: list[list[str]] = [[] for _ in range(folds)]
    filled = np.zeros((folds, counts.shape[1]))
    for row in np.argsort(-counts.std(axis=1), kind="stable"):
        left = 0 < dealt.count([]) >= len(shuffled) - sum(map(len, dealt))
        spread = []
        for fold in range(folds):
            trial = filled.copy()
            trial[fold] += fractions[row]
            # groups that are only just enough for the empty folds go there
            allowed = not left or not dealt[fold]
            spread.append((not allowed, float(trial.std(axis=0).mean()), len(dealt[fold]), fold))
        best = min(spread)[-1]
        dealt[best].append(shuffled[row])
        filled[best] += fractions[row]
    return [tuple(one) for one in dealt]


def split_groups(groups: Iterable[str], first_fraction: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide groups in two, the first with `first_fraction` of them (rounded), neither empty.

    Raises:
        DataError: where there are fewer than two groups.
    """
    shuffled = keyed_order(groups, f"split {seed}")
    if len(shuffled) < 2:
        raise DataError(f"split by patient: expected at least 2 patients, got {len(shuffled)}")
    size = min(max(round(first_fraction * len(shuffled)), 1), len(shuffled) - 1)
    return shuffled[:size], shuffled[size:]


def keyed_order(groups: Iterable[str], key: str) -> tuple[str, ...]:
    """Return the distinct groups in an order that only `key` and their own names decide."""

    def rank(group: str) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{key}\0{group}".encode(), digest_size=16).digest(), group

    return tuple(sorted(set(groups), key=rank))


def check_disjoint(one: Collection[str], other: Collection[str], what: str) -> None:
    """Check that two sets have no patient in common.

    Raises:
        DataError: with the shared keyed hashes.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        raise DataError(f"{what} share {len(shared)} patients: {some_keys(shared)}")


def some_keys(keys: Sequence[str]) -> str:
    """Return the first few keys as text."""
    return ", ".join(keys[:NAMED_IN_A_MESSAGE]) + (" ..." if len(keys) > NAMED_IN_A_MESSAGE else "")
