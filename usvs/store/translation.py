"""Keys of one store as keys of another, through the owner's names in both catalogues."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from usvs.archive.patients import fold_name, top_folder
from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.identity import read_store_id
from usvs.store.keys import Keys
from usvs.store.prepared import PreparedStore


def translate_keys(keys: Collection[str], source: Path, target: Path) -> frozenset[str]:
    """Return the keys in `target` of everyone who may be one of `keys` in `source`.

    Two scans are taken for scans of one patient where their paths in the archives, or their top-level folders, are the
    same; so all patients of `target` that share a scan or a folder with a patient in `keys` are returned.

    Args:
        keys: of patients, or of scans of unknown patients, in `source`.
        source: folder of one store.
        target: folder of the other.

    Raises:
        DataError: if a key is not in `source`, or one of them is not a store.
    """
    rows: dict[str, list[str]] = defaultdict(list)
    for path, patient, scan in _scans(source):
        rows[patient or scan].append(path)
    if missing := sorted(set(keys) - set(rows)):
        raise DataError(
            f"store '{source}': {len(missing)} of {len(set(keys))} patients are not in it any more, the first is "
            f"{missing[0]}: they cannot be compared with those of another store"
        )
    names = {name for key in keys for path in rows[key] for name in _names(path)}
    return frozenset(patient or scan for path, patient, scan in _scans(target) if names.intersection(_names(path)))


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


def _scans(store: Path) -> list[tuple[str, str | None, str]]:
    """Return path, patient key and scan key of every scan in a catalogue."""
    scans = Catalogue.load(store).scans
    columns = (scans[name].to_pylist() for name in ("path", "patient_key", "scan_key"))
    return list(zip(*columns, strict=True))


def _names(path: str) -> tuple[str, ...]:
    folder = fold_name(top_folder(path))
    return (f"path {path}",) if folder is None else (f"path {path}", f"folder {folder}")
