"""Which patients a run learns from and which it is only watched on."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Keyed hashes of the patients on both sides; a scan without a patient stands for itself under its own key.

    Attributes:
        trained: sorted, whose clips are learnt from.
        held_out: sorted, whose losses are watched and never trained on.
        scan_group: for each scan number of the store, its key.
    """

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    scan_group: tuple[str, ...]

    def clips_of(self, groups: Sequence[str], scan: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which clips, given their scan numbers [n], belong to `groups`: [n] bool."""
        chosen = frozenset(groups)
        of_scan = np.array([group in chosen for group in self.scan_group], dtype=np.bool_)
        result: npt.NDArray[np.bool_] = of_scan[scan]
        return result


def split_store(store: PreparedStore, share: float, patients: Sequence[str] | None = None) -> Split:
    """Hold out a share of the patients, the same ones for every seed and objective.

    They are ranked by a hash of their key, so neither order nor number of scans matters. At least one is held out
    where there are two and the share is above 0.

    Args:
        store: the prepared scans.
        share: of the patients to hold out, 0 .. 1.
        patients: keyed hashes of those the run may use at all; None for everybody.

    Raises:
        DataError: when a patient of `patients` has no prepared scan.
    """
    groups = _scan_groups(store)
    present = set(groups)
    allowed = present if patients is None else set(patients)
    if missing := sorted(allowed - present):
        raise DataError(f"{len(missing)} of the patients asked for have no prepared scan, the first is {missing[0]}")
    ranked = sorted(allowed, key=lambda group: hashlib.sha256(f"held-out {group}".encode()).digest())
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1) if share > 0 and ranked else 0
    if share > 0 and count == 0:
        logger.info("only one patient to learn from, so none is held out and no held-out losses are watched")
    return Split(tuple(sorted(ranked[count:])), tuple(sorted(ranked[:count])), groups)


def _scan_groups(store: PreparedStore) -> tuple[str, ...]:
    scans = Catalogue.load(Path(store.store)).scans
    patient = dict(zip(scans["scan_key"].to_pylist(), scans["patient_key"].to_pylist(), strict=True))
    if unknown := sum(patient[key] is None for key in store.scans):
        logger.info(f"{unknown} of {len(store.scans)} scans have no patient; each counts as a patient of its own")
    return tuple(patient[key] or key for key in store.scans)
