"""The private folder that `usvs index` creates: names of its parts, its archive, and its lock."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usvs.errors import ConfigError, DataError
from usvs.store.archive_move import check_moved
from usvs.store.identity import ARCHIVE_FILE, new_identity, read_identity
from usvs.store.keys import KEY_FILE, Keys
from usvs.store.tables import SCANS_FILE, read_first_key
from usvs.utils.atomic_files import write_durably, writing
from usvs.utils.folder_lock import LOCK_FILE, FolderLock
from usvs.utils.regular_files import read_regular_text
from usvs.utils.text import shell_command

VERSION = 1
CATALOGUE = "catalogue"
PREPARED = "prepared"
OWN_BEFORE_KEY = frozenset({LOCK_FILE, f".{KEY_FILE}"})  # what a store may have before its key


@contextmanager
def open_store(archive: Path, store: Path, moved: bool = False) -> Iterator[Keys]:
    """Create the store of an archive, or open an existing one, and lock it; only its owner has access.

    Args:
        archive: folder of the archive.
        store: folder of the store.
        moved: whether the archive is that of the store in another place, see `check_moved`.

    Raises:
        ConfigError: if the store is inside the archive.
        DataError: if the store has other files or belongs to another archive, its key is not its own, or another
            process is writing to it.
        ResourceError: if it cannot be created or written to.
    """
    archive, store = archive.resolve(), store.resolve()
    check_apart(archive, store)
    with writing(f"store '{store}'"):
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_content(store)
    with lock_store(store):
        yield create_store(archive, store, moved)


def check_store_folder(archive: Path, store: Path, moved: bool = False) -> None:
    """Check that a folder can be the store of an archive; nothing is written.

    Raises:
        DataError: as `open_store`, but for a store in use.
    """
    archive, store = archive.resolve(), store.resolve()
    check_apart(archive, store)
    if store.exists():
        _check_content(store)
        _check_archive_of(store, archive, moved)


def check_apart(archive: Path, store: Path) -> None:
    """Check that an archive is there, and that its store is elsewhere; nothing is read.

    Raises:
        DataError: for an archive that is no folder.
        ConfigError: for a store in it.
    """
    archive, store = archive.resolve(), store.resolve()
    if not archive.is_dir():
        raise DataError(f"archive '{archive}' is not a folder")
    if store == archive or archive in store.parents:
        raise ConfigError(f"store '{store}' is inside the archive, which is never written to: name a folder elsewhere")


def _check_archive_of(store: Path, archive: Path, moved: bool) -> None:
    if (store / ARCHIVE_FILE).exists() and (stored := read_archive_path(store, must_exist=False)) != archive:
        check_moved(store, stored, archive, moved)


def create_store(archive: Path, store: Path, moved: bool = False) -> Keys:
    """Create the parts of a store that is locked, or check them; `archive` and `store` are absolute.

    Raises:
        DataError, ResourceError: as `open_store`.
    """
    with writing(f"store '{store}'"):
        _check_content(store)
        _check_archive_of(store, archive, moved)
        store.chmod(0o700)
        keys = Keys.create(store)
        identity = read_identity(store)
        if not identity:
            _check_key_of_catalogue(store, keys)  # a store of an earlier version, or one that was never completed
        for part in (CATALOGUE, PREPARED):
            (store / part).mkdir(exist_ok=True)
        record = {"archive": os.fspath(archive), "version": VERSION, **(identity or new_identity(keys.secret))}
        write_durably(store / ARCHIVE_FILE, json.dumps(record).encode())
    return keys


def _check_content(store: Path) -> None:
    """Refuse a folder with other files, and a store that has lost its key or archive.json."""
    has_catalogue = (store / CATALOGUE / SCANS_FILE).exists()
    for name in (KEY_FILE, ARCHIVE_FILE):
        if has_catalogue and not (store / name).exists():
            raise DataError(
                f"store '{store}': {name} is missing: restore it from a copy, or index the archive into a new store"
            )
    others = any(path.name not in OWN_BEFORE_KEY for path in store.iterdir())
    if others and not (store / KEY_FILE).exists():  # in this order: another process may be creating the store
        raise DataError(f"store '{store}' contains other files: name an empty or a new folder")


def _check_key_of_catalogue(store: Path, keys: Keys) -> None:
    found = read_first_key(store / CATALOGUE)
    if found is not None and keys.scan_key(found[0]) != found[1]:
        raise DataError(
            f"store '{store}': {KEY_FILE} is not the key that the catalogue was made with: restore it from a copy, or "
            "index the archive into a new store"
        )


def read_archive_path(store: Path, must_exist: bool = True) -> Path:
    """Return the folder of the archive that a store was made from.

    Raises:
        DataError: if `store` is not a store, or if its archive must exist and does not.
    """
    try:
        stored = json.loads(read_regular_text(store / ARCHIVE_FILE))
        archive, version = Path(stored["archive"]), stored["version"]
    except (OSError, ValueError, KeyError, TypeError):
        command = shell_command("usvs", "index", "ARCHIVE", store)
        raise DataError(f"'{store}' is not a store: it has no readable {ARCHIVE_FILE}; run: {command}") from None
    if version != VERSION:
        raise DataError(
            f"store '{store}': expected version {VERSION}, got {version}; index its archive into a new store"
        )
    if must_exist and not archive.is_dir():
        raise DataError(
            f"archive '{archive}' of store '{store}' does not exist: restore it or, if it was moved, run: "
            + shell_command("usvs", "index", "NEW_PLACE", store)
        )
    return archive


@contextmanager
def lock_store(store: Path) -> Iterator[None]:
    """Lock a store for writing; the lock ends with the process, however that ends.

    Raises:
        DataError: if another process is writing to the store.
        ResourceError: if it is not writable.
    """
    with writing(f"store '{store}'"):
        lock = FolderLock(store, DataError)
    try:
        yield
    finally:
        lock.release()
