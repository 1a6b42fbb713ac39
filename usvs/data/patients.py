"""The patient key of each scan of a store: the groups that folds and splits never separate."""

from collections.abc import Iterable, Sequence

from usvs.errors import DataError
from usvs.evaluation.folds import GroupBy, some_keys
from usvs.store.prepared import PreparedStore


def scan_groups(store: PreparedStore, scans: Sequence[int], group_by: GroupBy = "patient") -> tuple[str, ...]:
    """Return the group key of each scan in `scans` (numbers in the store).

    Raises:
        DataError: where a scan has no patient id and `group_by` is not ``scan``: two scans of one patient on both sides
            of a split would invalidate the result unnoticed.
    """
    opened = [store.scan(number) for number in scans]
    if group_by == "scan":
        return tuple(scan.scan_key for scan in opened)
    missing = [scan.scan_key for scan in opened if not scan.patient_key]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(opened)} labelled scans have no patient id (scan {some_keys(missing)}): give them"
            " one (a folder per patient, or manifest.csv), or count each scan as a patient of its own (--group-by scan)"
        )
    return tuple(str(scan.patient_key) for scan in opened)


def pretraining_keys(store: PreparedStore, scans: Iterable[int]) -> dict[int, str]:
    """Return the patient key of each scan number as pretraining runs record it; a scan without one has its own key."""
    return {number: store.scan(number).patient_key or store.scan(number).scan_key for number in scans}
