"""Atomic and durable files: a kill at any instant leaves either the old content or the new one."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from usvs.utils.private_files import make_private, open_private


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file atomically and durably; only its owner may read it."""
    partial = path.with_name(f".{path.name}.partial")
    with open_private(partial) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


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
