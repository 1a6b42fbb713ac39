"""The private folder that `usvs index` makes: where its parts lie, and who may touch them."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usvs.errors import DataError
from usvs.store.keys import KEY_FILE, Keys
from usvs.utils.atomic_files import write_durably

VERSION = 1
ARCHIVE_FILE = "archive.json"
CATALOGUE = "catalogue"
PREPARED = "prepared"
LOCK_FILE = ".lock"


def create_store(archive: Path, store: Path) -> Keys:
    """Make a store for an archive, or take the one that is there; only its owner may look into it.

    Raises:
        DataError: where it cannot be made, holds other things, lies inside the archive or belongs to another archive.
    """
    archive, store = archive.resolve(), store.resolve()
    if not archive.is_dir():
        raise DataError(f"archive '{archive}' is not a folder")
    if store == archive or archive in store.parents:
        raise DataError(f"store '{store}' lies inside the archive, which is never written to; name a folder elsewhere")
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (store / KEY_FILE).exists() and any(path.name != LOCK_FILE for path in store.iterdir()):
            raise DataError(f"store '{store}' holds other files; name an empty or a new folder")
        if (store / ARCHIVE_FILE).exists() and (before := archive_of(store, must_exist=False)) != archive:
            raise DataError(f"store '{store}' belongs to the archive '{before}', not to '{archive}'; name a new folder")
        store.chmod(0o700)
        keys = Keys.create(store)
        for part in (CATALOGUE, PREPARED):
            (store / part).mkdir(exist_ok=True)
        text = json.dumps({"archive": os.fspath(archive), "version": VERSION})
        write_durably(store / ARCHIVE_FILE, text.encode())
    except OSError as error:
        raise DataError(f"store '{store}' is not writable: {error.strerror}") from None
    return keys


def archive_of(store: Path, must_exist: bool = True) -> Path:
    """Return the archive a store was made from.

    Raises:
        DataError: where `store` is not a store, or its archive is not there any more.
    """
    try:
        stored = json.loads((store / ARCHIVE_FILE).read_text(encoding="utf-8"))
        archive, version = Path(stored["archive"]), stored["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"'{store}' is not a store; make one with 'usvs index ARCHIVE {store}'") from None
    if version != VERSION:
        raise DataError(f"'{store}' is a store of version {version}, this usvs reads version {VERSION}")
    if must_exist and not archive.is_dir():
        raise DataError(
            f"the archive '{archive}' of store '{store}' is not there any more; put it back or index it anew"
        )
    return archive


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold a store for writing; the lock goes with the process, however it ends.

    Raises:
        DataError: where another process is writing to the store, or nobody may.
    """
    try:
        descriptor = os.open(store / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataError(f"store '{store}' is not writable: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"another usvs is writing to the store '{store}'; wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
