"""Folds by patient, never by frame: every split of people between training and test is made and checked here."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from usvs.archive.prepared import PreparedStore
from usvs.errors import ConfigError, DataError
from usvs.progress import say
from usvs.training.run_folder import PATIENTS

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
                f"labelled_patients: wanted 1 to {len(self.train)}, as fold {self.number} has, got {patients}"
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


def scan_groups(store: PreparedStore, scans: Sequence[int], group_by: GroupBy = "patient") -> tuple[str, ...]:
    """Return the group key of each scan in `scans` (numbers in the store).

    Raises:
        DataError: where a scan has no patient id and `group_by` is not ``scan``, since two scans of one
            patient on both sides of a split would make the result worthless without anyone noticing.
    """
    opened = [store.scan(number) for number in scans]
    if group_by == "scan":
        return tuple(scan.scan_key for scan in opened)
    missing = [scan.scan_key for scan in opened if not scan.patient_key]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(opened)} labelled scans have no patient id (scan {_some(missing)}): give them one "
            "(a folder per patient, or manifest.csv), or say that each scan is its own patient (--group-by scan)"
        )
    return tuple(str(scan.patient_key) for scan in opened)


def pretraining_keys(store: PreparedStore, scans: Iterable[int]) -> dict[int, str]:
    """Return, for each scan number, the key a pretraining run lists it under: its patient's, or its own without one."""
    return {number: store.scan(number).patient_key or store.scan(number).scan_key for number in scans}


def check_disjoint(one: Collection[str], other: Collection[str], what: str) -> None:
    """Refuse two sets of people that share anyone.

    Raises:
        DataError: with the shared keyed hashes.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        raise DataError(f"{what} share {len(shared)} patients: {_some(shared)}")


def check_pretraining_overlap(init: Path, test_patients: Collection[str], allow_overlap: bool = False) -> str:
    """Refuse to test on people whose scans an encoder was pretrained on; labels or not, it has seen them.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list of patients lies there or above.
        test_patients: keyed hashes of those to be tested on.
        allow_overlap: say it and go on.

    Returns:
        ``disjoint``, ``overlap`` (allowed) or ``unknown`` (the weights come without a list; said, not refused).

    Raises:
        DataError: naming the shared keyed hashes.
    """
    trained, tested = trained_patients(init), set(test_patients)
    if trained is None:
        say(f"{init.name}: has no list of pretraining patients, so an overlap with the test patients is not ruled out")
        return "unknown"
    shared = sorted(trained & tested)
    if not shared:
        return "disjoint"
    found = f"{len(shared)} of {len(tested)} test patients were pretrained on"
    if not allow_overlap:
        raise DataError(f"{found} ({_some(shared)}): pretrain without them, or type --allow-overlap")
    say(f"{found}; going on, as allowed")
    return "overlap"


def trained_patients(init: Path) -> frozenset[str] | None:
    """Return the patients a pretrained run was trained on (keyed hashes), or None where that is not written down."""
    start = init.resolve()
    for folder in (start, *list(start.parents)[:3]):  # a run, run/checkpoints/step_..., or a file in that
        listing = folder / PATIENTS
        if listing.is_file():
            try:
                return frozenset(json.loads(listing.read_text(encoding="utf-8"))["trained"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"'{listing}': wanted a list of patient keys under 'trained', got {error!r}") from None
    return None


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:NAMED_IN_A_MESSAGE]) + (" ..." if len(keys) > NAMED_IN_A_MESSAGE else "")
