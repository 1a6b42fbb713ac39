"""Opening of files that others have made: regular files up to a stated size, and nothing else.

A named pipe blocks the process that opens it, and a device such as /dev/zero has no end. Every reader of a table, of
settings, of JSON, of weights or of media opens its file here.
"""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from usvs.errors import DataError

MEBIBYTE = 1 << 20
MAX_TEXT_BYTES = 64 * MEBIBYTE  # settings, records, manifests and labels: a manifest of a million scans is 60 MB
MAX_TABLE_BYTES = 512 * MEBIBYTE  # gaze: three hours at 1,200 samples per second with 40 columns; read into memory

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}


class RegularFileError(OSError):
    """Not a regular file, or a larger one than expected; `strerror` names neither the file nor its folder."""

    def __init__(self, path: Path, expected: str, got: str) -> None:
        super().__init__(errno.EINVAL, f"expected {expected}, got {got}", os.fspath(path))


def check_regular(path: Path, max_bytes: int | None = None) -> int:
    """Return the size of a regular file in bytes, for a library that opens the file itself.

    Args:
        path: the file, or a link to it.
        max_bytes: largest size; None: any.

    Raises:
        RegularFileError: for a pipe, a device, a socket or a folder, which are not opened, and for a larger file.
        OSError: if there is no such file.
    """
    return _check(path, path.stat(), max_bytes)


def open_regular(path: Path, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading, without blocking; arguments and errors as of `check_regular`.

    Raises:
        OSError: if it cannot be opened.
    """
    check_regular(path, max_bytes)  # opening a device may have an effect on it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(descriptor), max_bytes)  # the file may have been replaced in between
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a regular file; errors as of `open_regular`, also where it is longer than stated."""
    with open_regular(path, max_bytes) as file:
        # not `read(max_bytes + 1)`, which reserves that many bytes whatever the size of the file
        content = file.read(os.fstat(file.fileno()).st_size + 1)
        while len(content) <= max_bytes and (more := file.read(MEBIBYTE)):  # of /proc, or while it grows
            content += more
    if len(content) > max_bytes:  # files of /proc state a size of 0
        raise RegularFileError(path, f"at most {_describe_size(max_bytes)}", "more")
    return content


def read_regular_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the content of a regular file in UTF-8; errors as of `read_regular`.

    Raises:
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_regular(path, max_bytes).decode("utf-8").replace("\r\n", "\n")


def read_json_object(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataError: where there is none, or the file is damaged.
    """
    try:
        found = json.loads(read_regular_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{file}': expected JSON, got {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"'{file}': expected a JSON object, got {type(found).__name__}")
    return found


def _check(path: Path, status: os.stat_result, max_bytes: int | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise RegularFileError(path, "a regular file", _KINDS.get(stat.S_IFMT(status.st_mode), "a special file"))
    if max_bytes is not None and status.st_size > max_bytes:
        raise RegularFileError(path, f"at most {_describe_size(max_bytes)}", _describe_size(status.st_size))
    return status.st_size


def _describe_size(size: int) -> str:
    return f"{size / MEBIBYTE:,.0f} MiB" if size >= MEBIBYTE else f"{size} bytes"
