"""Atomic and durable files: a kill at any instant leaves either the old content or the new one."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from usvs.errors import ConfigError, ResourceError
from usvs.utils.file_lock import lock_exclusively
from usvs.utils.private_files import make_private, make_private_folder, open_private


@contextmanager
def writing(what: str, consequence: str = "") -> Iterator[None]:
    """Turn any failure to write in the block, such as a full disk, into one `ResourceError`.

    Args:
        what: is written, as the message names it.
        consequence: what the failure leaves, at the end of the message.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk by an error of its own
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ResourceError(f"{what} could not be written: {reason}{consequence}") from error


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file atomically and durably; only its owner may read it."""
    with replacing(path, wait=True) as file:
        file.write(content)


def partial_path(path: Path) -> Path:
    """Return the file beside `path` that is written before it replaces it."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def replacing(path: Path, wait: bool = False) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing that replaces it, durably, when the block ends; on an error it is removed.

    It is locked meanwhile: of two processes that write the same file, neither writes into that of the other.

    Args:
        path: to replace; only its owner may read it.
        wait: for another process that writes it, as small files are written in an instant.

    Raises:
        ConfigError: where another process writes it.
        OSError: where it cannot be written.
    """
    partial = partial_path(path)
    with _open_locked(partial, path, wait) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Provide an empty folder beside `path` that takes its place when the block ends; on an error it is removed.

    Args:
        path: a new or empty folder.

    Raises:
        ConfigError: where another process writes it.
        OSError: where it cannot be written.
    """
    partial = partial_path(path)
    while True:
        make_private_folder(partial)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
        if _lock(descriptor, partial, path, wait=False):
            break
    try:
        _empty(partial)  # of what a killed process has left
        yield partial
        sync_folder(partial)
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def _open_locked(partial: Path, path: Path, wait: bool) -> IO[Any]:
    while True:
        file = open_private(partial, "ab")  # "wb" would empty the file of another process
        descriptor = os.dup(file.fileno())  # shares the lock
        file.close()
        if _lock(descriptor, partial, path, wait):
            os.ftruncate(descriptor, 0)
            return os.fdopen(descriptor, "wb")


def _lock(descriptor: int, partial: Path, path: Path, wait: bool) -> bool:
    """Lock what is being written; False, with the descriptor closed, where another process has just moved it away."""
    try:
        lock_exclusively(descriptor, partial, wait)
        if os.path.samestat(os.fstat(descriptor), partial.stat()):
            return True
    except FileNotFoundError:
        pass
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"'{path}' is being written by another usvs process: wait for it to end, or choose another name"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def publish(partial: Path, path: Path) -> None:
    """Make a complete file durable and private to its owner, then rename it to `path`."""
    make_private(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_files(folder: Path) -> None:
    """Make the files of a folder durable, in parallel: the disk then writes them together."""
    paths = [*folder.iterdir(), folder]
    with ThreadPoolExecutor(len(paths)) as threads:
        for _ in threads.map(_sync, paths):
            pass


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically and durably; only its owner may read it."""
    write_durably(path, text.encode())
