"""Folders of a new synthetic archive: they appear when they are complete, with the ground truth beside the archive."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from usvs.errors import DataError
from usvs.utils.atomic_files import writing


@dataclass(frozen=True)
class StagingFolders:
    """Folders in which an archive and its ground truth are written before they are moved to their places."""

    archive: Path
    ground_truth: Path

    def archive_bytes(self) -> int:
        """Return the size of the files that have been written to the archive."""
        return sum(file.stat().st_size for file in self.archive.rglob("*") if file.is_file())


def ground_truth_folder(archive: Path) -> Path:
    """Return the folder next to an archive with its ground truth."""
    return archive.with_name(archive.name + ".ground_truth")


def check_new_archive(out: Path, what: str) -> None:
    """Check that an archive can be written to `out`.

    Args:
        out: an absolute path.
        what: name of the command, with which error messages begin.

    Raises:
        DataError: if `out` or its ground truth folder contains something, or is a file.
    """
    for folder in (out, ground_truth_folder(out)):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{what}: '{folder}' is a file: expected a folder that is empty or does not exist")
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{what}: '{folder}' is not empty: name another folder, or remove it")


@contextmanager
def new_archive(out: Path, what: str) -> Iterator[StagingFolders]:
    """Provide folders to write to, and move them to `out` and its ground truth folder at the end of the block.

    An interruption or an error leaves neither.

    Args:
        out: as checked by `check_new_archive`.
        what: name of the command, with which error messages begin.

    Raises:
        ResourceError: if the folders cannot be written.
    """
    with writing(f"{what}: folder '{out.parent}'"):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        folders = StagingFolders(staging / "archive", staging / "ground_truth")
        try:
            yield folders
            for made, target in ((folders.ground_truth, ground_truth_folder(out)), (folders.archive, out)):
                if target.is_dir():
                    target.rmdir()
                made.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
