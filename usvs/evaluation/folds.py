"""Folds by patient, never by frame: every split of people between training and test is made and checked here."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from usvs.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

GroupBy = Literal["patient", "scan"]
NAMED_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class Fold:
    """One division of groups (patients, or scans where that was asked for) between training and test.

    Attributes:
        number: which fold, from 0.
        train: keyed hashes of the groups that may be trained on; the first n are the ones labelled first.
        test: keyed hashes of the groups that are only ever predicted.
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
                f"labelled_patients: expected 1 to {len(self.train)}, as fold {self.number} has, got {patients}"
            )
        return Fold(self.number, self.train[:patients], self.test)


def make_folds(groups: Iterable[str], folds: int, seed: int) -> tuple[Fold, ...]:
    """Deal groups into `folds` test sets of equal size, give or take one; the rest of each fold is its training set.

    Who falls where depends on `seed` and on the keyed hashes alone, not on the order in which they come.

    Args:
        groups: keyed hashes of the patients; a repeated one counts once.
        folds: how many, the paper's k = 3 (section 3.2).
        seed: another seed deals another way.

    Raises:
        DataError: where there are fewer groups than folds.
    """
    shuffled = keyed_order(groups, f"folds {seed}")
    if len(shuffled) < folds:
        raise DataError(f"{folds} folds need at least {folds} labelled patients, got {len(shuffled)}")
    dealt = [tuple(shuffled[number::folds]) for number in range(folds)]
    return tuple(
        Fold(
            number,
            keyed_order([key for key in shuffled if key not in set(dealt[number])], f"labelled {seed} {number}"),
            dealt[number],
        )
        for number in range(folds)
    )


def split_groups(groups: Iterable[str], first_share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part groups in two, the first with `first_share` of them (rounded), neither empty.

    Raises:
        DataError: where there are fewer than two groups.
    """
    shuffled = keyed_order(groups, f"split {seed}")
    if len(shuffled) < 2:
        raise DataError(f"a split by patient needs at least 2 patients, got {len(shuffled)}")
    size = min(max(round(first_share * len(shuffled)), 1), len(shuffled) - 1)
    return shuffled[:size], shuffled[size:]


def keyed_order(groups: Iterable[str], key: str) -> tuple[str, ...]:
    """Return the distinct groups in an order that only `key` and their own names decide."""

    def rank(group: str) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{key}\0{group}".encode(), digest_size=16).digest(), group

    return tuple(sorted(set(groups), key=rank))


def check_disjoint(one: Collection[str], other: Collection[str], what: str) -> None:
    """Refuse two sets of people that share anyone.

    Raises:
        DataError: with the shared keyed hashes.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        raise DataError(f"{what} share {len(shared)} patients: {some_keys(shared)}")


def some_keys(keys: Sequence[str]) -> str:
    """Return the first few keys as text."""
    return ", ".join(keys[:NAMED_IN_A_MESSAGE]) + (" ..." if len(keys) > NAMED_IN_A_MESSAGE else "")
