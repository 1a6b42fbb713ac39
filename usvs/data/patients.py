"""The patient, or scan, that each scan of a store counts as."""

from collections.abc import Iterable, Sequence

from usvs.errors import DataError
from usvs.evaluation.folds import GroupBy, some_keys
from usvs.store.prepared import PreparedStore


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
            f"{len(missing)} of {len(opened)} labelled scans have no patient id (scan {some_keys(missing)}): give them one "
            "(a folder per patient, or manifest.csv), or say that each scan is its own patient (--group-by scan)"
        )
    return tuple(str(scan.patient_key) for scan in opened)


def pretraining_keys(store: PreparedStore, scans: Iterable[int]) -> dict[int, str]:
    """Return, for each scan number, the key a pretraining run lists it under: its patient's, or its own without one."""
    return {number: store.scan(number).patient_key or store.scan(number).scan_key for number in scans}
