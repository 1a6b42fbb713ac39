"""Keys of one store as keys of another, through the owner's names in both catalogues."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from usvs.archive.discovery import discover_scans
from usvs.archive.patients import PatientEvidence, top_folder
from usvs.errors import DataError
from usvs.media.dicom_file import open_dicom
from usvs.media.dicom_header import read_patient_id
from usvs.store.catalogue import Catalogue
from usvs.store.folder import read_archive_path
from usvs.store.identity import read_store_id
from usvs.store.keys import Keys
from usvs.store.patient_groups import ID_COLUMNS, assign_patients, find_id_keys, hash_patient_id
from usvs.store.prepared import PreparedStore
from usvs.utils.progress import track
from usvs.utils.text import shell_command


def translate_keys(keys: Collection[str], source: Path, target: Path) -> frozenset[str]:
    """Return the keys in `target` of everyone who may be one of `keys` in `source`.

    Two scans are taken for scans of one patient where their paths in the archives are the same, or any name is: in
    manifest.csv or the table of labels, PatientID or top-level folder. The stores have hashes of the names only; where
    one is more than a folder, the names are read from the archive again.

    Args:
        keys: of patients, or of scans of unknown patients, in `source`.
        source: folder of one store.
        target: folder of the other.

    Raises:
        DataError: if a key is not in `source`, one of them is not a store, or names have to be read from an archive
            that is not at hand or has other names by now.
    """
    rows: dict[str, list[str]] = defaultdict(list)
    for path, patient, scan in _scans(source):
        rows[patient or scan].append(path)
    if missing := sorted(set(keys) - set(rows)):
        raise DataError(
            f"store '{source}': {len(missing)} of {len(set(keys))} patients are not in it any more, the first is "
            f"{missing[0]}: they cannot be compared with those of another store"
        )
    sources, targets = _names_of_scans(source), _names_of_scans(target)
    names = {name for key in keys for path in rows[key] for name in sources[path]}
    return frozenset(patient or scan for path, patient, scan in _scans(target) if names & targets[path])


def find_stores(stores: Collection[str | Path]) -> dict[str, Path]:
    """Return the folder of each store by its id; its private key is checked.

    Raises:
        DataError: if one of them is not a store.
    """
    found = {}
    for store in stores:
        Keys.load(Path(store))
        found[read_store_id(Path(store))] = Path(store)
    return found


def known_keys(store: PreparedStore) -> frozenset[str]:
    """Return the key of every patient in the catalogue of a store, and of every scan."""
    return frozenset(key for _, *keys in _scans(store.store) for key in keys if key)


def keys_without_patient(store: PreparedStore) -> frozenset[str]:
    """Return the keys of the scans in the catalogue of a store whose patient is unknown."""
    return frozenset(scan for _, patient, scan in _scans(store.store) if not patient)


def scans_of_patients(store: Path, keys: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of the scans of some patients, and those of all other scans in a catalogue."""
    asked_for, scans = set(keys), _scans(store)
    found = frozenset(scan for _, patient, scan in scans if (patient or scan) in asked_for)
    return found, frozenset(scan for *_, scan in scans) - found


def patients_of_scans(store: Path, scans: Collection[str]) -> frozenset[str]:
    """Return the keys of the patients that scans are of by now; a scan of an unknown patient has its own key."""
    asked_for = set(scans)
    return frozenset(patient or scan for _, patient, scan in _scans(store) if scan in asked_for)


def _scans(store: Path) -> list[tuple[str, str | None, str]]:
    """Return path, patient key and scan key of every scan in a catalogue."""
    scans = Catalogue.load(store).scans
    columns = (scans[name].to_pylist() for name in ("path", "patient_key", "scan_key"))
    return list(zip(*columns, strict=True))


def _names_of_scans(store: Path) -> dict[str, set[str]]:
    """Return the names of the patient of each scan in a catalogue, and its path."""
    keys, rows = Keys.load(store), Catalogue.load(store).scans.select(["path", "patient_key", *ID_COLUMNS]).to_pylist()
    folders = {folder for row in rows if (folder := top_folder(row["path"])) is not None}
    known = {keys.patient_key(folder) for folder in folders} | {None}
    if all(row["patient_key"] in known and row[ID_COLUMNS[0]] is None for row in rows):
        evidence = {row["path"]: PatientEvidence.of(row["path"]) for row in rows}
    else:
        evidence = _read_evidence(store, keys, rows)
    return {
        path: {f"path {path}", *(f"name {name}" for name in found if name is not None)}
        for path, found in evidence.items()
    }


def _read_evidence(store: Path, keys: Keys, rows: list[dict[str, Any]]) -> dict[str, PatientEvidence]:
    archive = read_archive_path(store)
    listing = discover_scans(archive)
    scans = {scan.path: scan for scan in (*listing.scans, *listing.missing)}
    command = shell_command("usvs", "index", archive, store)
    changed = DataError(
        f"archive '{archive}' of store '{store}': expected the files and patients that its catalogue has, got others, "
        f"so its patients cannot be compared with those of another store; run: {command}"
    )
    if not scans.keys() >= {row["path"] for row in rows}:
        raise changed
    grouped = assign_patients([scans[row["path"]] for row in rows], [find_id_keys(row) for row in rows], keys)
    if list(grouped.keys) != [row["patient_key"] for row in rows]:
        raise changed
    evidence = {}
    for row in track(rows, "reading names of patients", len(rows)):
        path, patient_id = row["path"], None
        if row[ID_COLUMNS[0]] is not None:
            try:
                patient_id = read_patient_id(open_dicom(archive / path).header)
            except (DataError, OSError):
                raise changed from None
            if find_id_keys(hash_patient_id(patient_id, keys)) != find_id_keys(row):
                raise changed
        evidence[path] = PatientEvidence.of(path, scans[path].patient, patient_id)
    return evidence
