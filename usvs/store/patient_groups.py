"""The patient keys of an archive's scans, and the lines of `usvs index` on which scans are one patient, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usvs.archive.discovery import ScanFiles
from usvs.archive.patients import (
    PatientEvidence,
    PatientGroup,
    PatientGroups,
    fold_manifest_name,
    fold_name,
    fold_patient_id,
    group_patients,
    top_folder,
)
from usvs.store.keys import Keys
from usvs.utils.text import quantity

# Columns of the catalogue: keyed hashes of the PatientID as written, and as it is compared (null for a placeholder).
ID_COLUMNS = ("patient_id_key", "folded_patient_id_key")
MAX_NAMES = 4
IdKeys = tuple[str | None, str | None]


@dataclass(frozen=True)
class PatientKeys:
    """The patients of an archive.

    Attributes:
        keys: patient key of each scan, None for an unknown patient.
        lines: groups and reasons, the most important first; they name folders and files, for the owner's terminal only.
    """

    keys: tuple[str | None, ...]
    lines: tuple[str, ...]


def hash_patient_id(patient_id: str | None, keys: Keys) -> dict[str, str | None]:
    """Return the values of `ID_COLUMNS`: a PatientID itself is not stored."""
    folded = fold_patient_id(patient_id)
    hashes = (patient_id and keys.patient_key(patient_id), folded and keys.patient_key(folded))
    return dict(zip(ID_COLUMNS, hashes, strict=True))


def find_id_keys(row: Mapping[str, object]) -> IdKeys:
    """Return the values of `ID_COLUMNS` in a row of the catalogue."""
    found = [row.get(name) for name in ID_COLUMNS]
    written, folded = (None if value is None else str(value) for value in found)
    return written, folded


def assign_patients(scans: Sequence[ScanFiles], id_keys: Sequence[IdKeys], keys: Keys) -> PatientKeys:
    """Return the patient key of each scan, by the rule of `usvs.archive.patients`.

    The key of a group is that of its name in manifest.csv, else of a PatientID, else of a folder.

    Args:
        scans: as the archive has them.
        id_keys: of each scan, see `find_id_keys`.
        keys: of the store.
    """

    def hash_name(name: str | None) -> str | None:
        return None if name is None else keys.patient_key(name)

    evidence = [
        PatientEvidence(
            hash_name(fold_manifest_name(scan.patient)), folded, hash_name(fold_name(top_folder(scan.path)))
        )
        for scan, (_, folded) in zip(scans, id_keys, strict=True)
    ]
    found = group_patients(evidence)
    of_scan: list[str | None] = [None] * len(scans)
    for group in found.groups:
        key = _group_key(group, scans, id_keys, keys)
        for position in group.scans:
            of_scan[position] = key
    return PatientKeys(tuple(of_scan), tuple(_lines(found, scans, id_keys)))


def _group_key(group: PatientGroup, scans: Sequence[ScanFiles], id_keys: Sequence[IdKeys], keys: Keys) -> str:
    names = [scans[n].patient for n in group.scans]
    stated = [name for name in names if fold_manifest_name(name) is not None and name is not None]
    if stated:
        return keys.patient_key(min(stated))
    ids = [written for n in group.scans if (written := id_keys[n][0]) is not None and id_keys[n][1] is not None]
    return min(ids) if ids else keys.patient_key(min(_folders(group, scans)))


def _folders(group: PatientGroup, scans: Sequence[ScanFiles]) -> list[str]:
    return sorted({folder for n in group.scans if (folder := top_folder(scans[n].path)) is not None})


def _lines(found: PatientGroups, scans: Sequence[ScanFiles], id_keys: Sequence[IdKeys]) -> list[str]:
    groups = found.groups
    stated = sum(group.manifest is not None for group in groups)
    by_id = sum(group.manifest is None and bool(group.patient_ids) for group in groups)
    lines = [
        f"patients: {len(groups)}: {stated} by manifest.csv or labels.csv, {by_id} by the DICOM PatientID, "
        f"{len(groups) - stated - by_id} by the top-level folder"
    ]
    if hint := _single_folder_hint(groups, scans):
        lines.append(hint)
    if ambiguous := found.ambiguous:
        lines.append(
            f"unknown patient ({_some_scans(ambiguous, scans)}): manifest.csv or labels.csv gives other scans of the "
            "same folder or PatientID to several patients, and does not name this one's: add a row for it"
        )
    if unknown := found.unknown:
        lines.append(
            f"unknown patient ({_some_scans(unknown, scans)}): in no folder, no PatientID, not in manifest.csv "
            "or labels.csv: add a row for it"
        )
    placeholders = [n for n, (written, folded) in enumerate(id_keys) if written is not None and folded is None]
    if placeholders:
        lines.append(
            f"PatientID is a placeholder ({_some_scans(placeholders, scans)}): it is not used; manifest.csv, else the "
            "top-level folder, says who it is"
        )
    for group in sorted(groups, key=lambda group: (-len(group.folders), -len(group.patient_ids), group.scans)):
        if reason := _reason(group, scans, id_keys):
            lines.append(f"one patient ({quantity(len(group.scans), 'scan')}): {reason}")
    return lines


def _reason(group: PatientGroup, scans: Sequence[ScanFiles], id_keys: Sequence[IdKeys]) -> str | None:
    """Return why scans with different names are one group; None if they have one name."""
    unnamed = [n for n in group.scans if fold_manifest_name(scans[n].patient) is None]
    folders, ids = len(group.folders), len(group.patient_ids)
    if group.manifest is not None:
        name = next(name for n in group.scans if fold_manifest_name(name := scans[n].patient) is not None)
        return (
            f"'{name}' of manifest.csv, and {_some_scans(unnamed, scans)} without a name there, by a shared folder, "
            "PatientID or name"
            if unnamed
            else None
        )
    without_id = sum(id_keys[n][1] is None for n in group.scans)
    where = f"folder{'s' if folders > 1 else ''} {_some_names(_folders(group, scans))}" if folders else "no folder"
    if folders > 1 and ids > 1:
        return f"{where}, {ids} PatientIDs: linked by a PatientID in two folders and a folder with two PatientIDs"
    if folders > 1:
        return f"{where}: they share a PatientID, or their names differ in capitals or accents only"
    if ids > 1:
        return f"{where}, {ids} PatientIDs: they share the top-level folder (two patients? name them in manifest.csv)"
    if ids and folders and without_id:
        return f"{where}: {quantity(without_id, 'scan')} without a PatientID, in the folder of one with a PatientID"
    return None


def _single_folder_hint(groups: Sequence[PatientGroup], scans: Sequence[ScanFiles]) -> str | None:
    if len(groups) != 1 or groups[0].manifest is not None:
        return None
    folders = _folders(groups[0], scans)
    subfolders = {scans[n].path.split("/")[1] for n in groups[0].scans if scans[n].path.count("/") > 1}
    if len(folders) != 1 or len(subfolders) < 2:
        return None
    return (
        f"all scans are one patient, since all are in the top-level folder '{folders[0]}': if its {len(subfolders)} "
        "subfolders are patients, index that folder instead of the one above it, or name the patients in manifest.csv"
    )


def _some_scans(positions: Sequence[int], scans: Sequence[ScanFiles]) -> str:
    first = f"'{scans[positions[0]].path}'"
    return (
        f"{quantity(len(positions), 'scan')}, {first}"
        if len(positions) == 1
        else (f"{quantity(len(positions), 'scan')}, the first is {first}")
    )


def _some_names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"
