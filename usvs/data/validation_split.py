"""Division of a store's patients between training and validation."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from usvs.data.patients import pretraining_keys
from usvs.errors import DataError
from usvs.store.folder import CATALOGUE
from usvs.store.prepared import PreparedStore
from usvs.store.tables import SCANS_FILE

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatientSplit:
    """Keyed hashes of the patients on both sides; a scan without a patient id is a patient of its own, under its key.

    Attributes:
        train: sorted, patients whose clips are trained on.
        validation: sorted, patients whose losses are computed during training and who are never trained on.
        scan_group: patient key of each scan number of the store.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    scan_group: tuple[str, ...]

    def clips_of(self, groups: Sequence[str], scan: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which clips belong to `groups`, given the clips' scan numbers [n]: [n] bool."""
        chosen = frozenset(groups)
        of_scan = np.array([group in chosen for group in self.scan_group], dtype=np.bool_)
        result: npt.NDArray[np.bool_] = of_scan[scan]
        return result


def split_store(store: PreparedStore, fraction: float, patients: Sequence[str] | None = None) -> PatientSplit:
    """Choose a fraction of the patients for validation: the same ones for every seed and objective.

    Patients are ranked by a hash of their key, so the result depends neither on the order nor on the number of scans.
    At least one patient is chosen where there are two or more and `fraction` is above 0.

    Args:
        store: the prepared scans.
        fraction: of the patients to use for validation, 0 .. 1.
        patients: keyed hashes of the patients that may be used at all; None for all.

    Raises:
        DataError: when a patient of `patients` has no prepared scan.
    """
    groups = tuple(pretraining_keys(store, range(len(store.scans))).values())
    if unknown := sum(group == scan for group, scan in zip(groups, store.scans, strict=True)):
        logger.info(f"{unknown} of {len(store.scans)} scans have no patient id; each counts as a patient of its own")
    present = set(groups)
    allowed = present if patients is None else set(patients)
    if missing := sorted(allowed - present):
        raise DataError(
            f"{len(missing)} of the {len(allowed)} requested patients have no prepared scan, the first is {missing[0]}:"
            f" its patients are in column 'patient_key' of '{Path(store.store) / CATALOGUE / SCANS_FILE}'"
        )
    ranked = sorted(allowed, key=lambda group: hashlib.sha256(f"held-out {group}".encode()).digest())
    count = min(max(1, round(fraction * len(ranked))), len(ranked) - 1) if fraction > 0 and ranked else 0
    if fraction > 0 and count == 0:
        logger.info("only one patient to train on: no validation patients, no validation losses")
    return PatientSplit(tuple(sorted(ranked[count:])), tuple(sorted(ranked[:count])), groups)
