"""Folders and files that only their owner may read: stores, runs, contact sheets."""

import os
from pathlib import Path
from typing import IO, Any

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def make_private_folder(path: Path, exist_ok: bool = True) -> None:
    """Create a folder that only its owner may enter, and those above it with the usual permissions.

    An existing folder keeps its permissions: it may be the user's home folder or one shared on purpose.

    Raises:
        OSError: if it cannot be created, or exists and `exist_ok` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=exist_ok)


def open_private(path: Path, mode: str = "wb", encoding: str | None = None) -> IO[Any]:
    """Open a file for writing that only its owner may read; an existing one loses the access of others.

    Args:
        path: the file.
        mode: as of `open`.
        encoding: as of `open`.
    """
    file = open(path, mode, encoding=encoding, opener=_open_private)  # noqa: SIM115  Path.open takes no opener
    try:
        os.fchmod(file.fileno(), FILE_MODE)
    except BaseException:
        file.close()
        raise
    return file


def make_private(path: Path) -> None:
    """Take the access of others from a file that a library has written."""
    path.chmod(FILE_MODE)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
