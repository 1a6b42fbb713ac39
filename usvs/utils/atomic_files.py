"""Files and folders written so that a kill at any instant leaves the old one or the new one."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file so that a kill leaves either the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def publish(partial: Path, path: Path) -> None:
    """Make a finished file durable and give it its name."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_files(folder: Path) -> None:
    """Make a folder of files durable, all asked for at once: the disk then writes them in one go."""
    paths = [*folder.iterdir(), folder]
    with ThreadPoolExecutor(len(paths)) as threads:
        for _ in threads.map(_sync, paths):
            pass


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically and durably."""
    write_durably(path, text.encode())
