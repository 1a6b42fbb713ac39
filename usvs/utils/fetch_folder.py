"""A local copy of a folder in object storage, brought up to date file by file (``usvs fetch``).

Decoders, memory maps and checksums need files; so an archive or a store is copied once, and what has not changed since
is not read again. fsspec reads the storage: s3, gs, az, http, sftp and others, each with a package of its own.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from usvs.errors import ConfigError, DataError, MissingDependencyError, ResourceError
from usvs.utils.atomic_files import publish, write_durably
from usvs.utils.dependencies import missing_dependency
from usvs.utils.progress import track
from usvs.utils.regular_files import read_json_object
from usvs.utils.text import printable, quantity, size_text

RECORD = ".usvs-fetched.json"
PARTIAL = ".usvs-partial"


@dataclass(frozen=True)
class FetchResult:
    """What `fetch_folder` did.

    Attributes:
        folder: the local copy.
        files: in the folder of the storage.
        fetched: files that were copied now.
        fetched_bytes: their size.
        removed: files that were copied earlier and are no longer in the storage.
    """

    folder: Path
    files: int
    fetched: int
    fetched_bytes: int
    removed: int

    def __str__(self) -> str:
        removed = f", {quantity(self.removed, 'file')} removed that the storage no longer has" if self.removed else ""
        return (
            f"'{self.folder}': {quantity(self.files, 'file')}, {self.fetched} of them copied now"
            f" ({size_text(self.fetched_bytes)}){removed}"
        )


def fetch_folder(url: str, folder: Path) -> FetchResult:
    """Copy a folder of an object storage, or only what has changed in it since the last copy.

    A file is copied again where its size or what the storage says of its content (ETag, time of change) differs from
    when it was copied, or its local copy is missing or of another size. Each file appears when it is complete; an
    interrupted copy continues with the same command. Only the owner may read the copy. Files that were copied from this
    folder and have been removed from it are removed; others are never touched.

    Args:
        url: as of fsspec, for example ``s3://bucket/archive``; ``protocol::url`` chains are possible.
        folder: the local copy, new or of the same `url`.

    Raises:
        MissingDependencyError: without fsspec, or without its package for the protocol.
        ConfigError: for an unknown protocol.
        DataError: where there is no such folder or it cannot be read, it has a name that leads elsewhere, or `folder`
            has other files.
        ResourceError: where the copy cannot be written.
    """
    storage, root = _open_storage(url)
    found = _list_files(storage, root, url)
    record = _read_record(folder, url)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _update(storage, found, folder, url, record)
    except FileNotFoundError as error:
        raise DataError(f"'{url}': a file was removed while the folder was copied ({error}): run it again") from None
    except OSError as error:
        # The storage's errors are OSErrors too; those of this machine name a path of the folder.
        name = os.fspath(error.filename or "") if not isinstance(error.filename, int) else ""
        if name.startswith(os.fspath(folder)):
            raise ResourceError(f"'{folder}' could not be written: {error.strerror}") from None
        raise DataError(f"'{url}' is not readable: {error.strerror or error}") from None


def _open_storage(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise missing_dependency(error) from None
    if "://" not in url and "::" not in url:
        raise ConfigError(f"place to fetch from: expected a URL such as s3://bucket/archive, got '{url}'")
    try:
        storage, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"'{url}': {error}") from None
    except ValueError as error:
        raise ConfigError(f"place to fetch from: expected a protocol of fsspec, got '{url}' ({error})") from None
    return storage, str(root).rstrip("/")


def _list_files(storage: Any, root: str, url: str) -> dict[str, tuple[str, int, str]]:
    """Return for each file, by its path in the folder: path in the storage, size, and what its content is known by."""
    try:
        details: Mapping[str, Mapping[str, Any]] = storage.find(root, detail=True)
    except (OSError, ValueError) as error:
        raise DataError(f"'{url}' is not readable: {error}") from None
    files = {}
    for path, info in sorted(details.items()):
        name = PurePosixPath(path[len(root) :].lstrip("/"))
        parts = str(name).split("/")
        if not path.startswith(root + "/") or ".." in parts or name.is_absolute() or "\0" in path:
            raise DataError(f"'{url}': expected names inside of the folder, got '{printable(path)}'")
        if name.name in (RECORD,) or name.name.endswith(PARTIAL):
            continue
        version = next((info[key] for key in ("ETag", "etag", "md5Hash", "content_md5") if info.get(key)), None)
        changed = next(
            (info[key] for key in ("LastModified", "last_modified", "mtime", "created") if info.get(key)), None
        )
        files[str(name)] = path, int(info.get("size") or 0), str(version or changed)
    if not files:
        raise DataError(f"'{url}': expected a folder with files, got none")
    return files


def _read_record(folder: Path, url: str) -> dict[str, list[Any]]:
    """Return size and version of each file that was copied."""
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    try:
        stored = read_json_object(folder / RECORD)
        files: dict[str, list[Any]] = stored["files"]
    except (DataError, KeyError):
        raise DataError(f"'{folder}' has other files: expected a new folder or an earlier copy of '{url}'") from None
    if stored.get("url") != url:
        raise DataError(f"'{folder}' is a copy of another place: expected '{url}', got '{stored.get('url')}'")
    return files


def _update(
    storage: Any, found: dict[str, tuple[str, int, str]], folder: Path, url: str, record: dict[str, list[Any]]
) -> FetchResult:
    def save() -> None:
        write_durably(folder / RECORD, json.dumps({"url": url, "files": record}).encode())

    save()  # so that an interrupted copy is known as one
    due = [
        name
        for name, (_, size, version) in found.items()
        if record.get(name) != [size, version] or _size(folder / name) != size
    ]
    copied = 0
    try:
        for name in track(due, "copying files"):
            path, size, version = found[name]
            target = folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial = target.with_name(target.name + PARTIAL)
            storage.get_file(path, os.fspath(partial))
            if (got := _size(partial)) != size:
                partial.unlink(missing_ok=True)
                raise DataError(f"'{url}': file '{printable(name)}': expected {size} bytes, got {got}; run it again")
            publish(partial, target)
            record[name] = [size, version]
            copied += size
        gone = [name for name in record if name not in found]
        for name in gone:
            (folder / name).unlink(missing_ok=True)
            del record[name]
    finally:
        save()
    return FetchResult(folder, len(found), len(due), copied, len(gone))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
