"""An archive in another place than its store names: whether its files are the same."""

import logging
import os
from pathlib import Path

from usvs.errors import DataError
from usvs.store.tables import read_scans
from usvs.utils.text import quantity, shell_command

logger: logging.Logger = logging.getLogger(__name__)

CATALOGUE_FOLDER = "catalogue"


def check_moved(store: Path, stored: Path, archive: Path, moved: bool) -> None:
    """Check that `archive` has the videos of a store that names the archive `stored`; keys depend on relative paths.

    Args:
        store: folder of the store.
        stored: the archive that it names.
        archive: the other place.
        moved: the user says that it is the same archive: one video of the catalogue suffices. False: `stored` must not
            exist any more, and every video must be there with its size.

    Raises:
        DataError: if it is another archive, or cannot be distinguished from another one.
    """
    other = f"store '{store}' belongs to archive '{stored}', not to '{archive}'"
    try:
        rows = read_scans(store / CATALOGUE_FOLDER, ["path", "bytes"]).to_pylist()
    except DataError:
        raise DataError(f"{other}, and has no readable catalogue to compare them: name a new folder") from None
    present = [row for row in rows if row["bytes"]]  # rows without are scans that the archive did not contain
    same = sum(_size(archive / str(row["path"])) == row["bytes"] for row in present)
    found = f"{same} of {quantity(len(present), 'video')} of the store are there with the same size"
    if not same:
        raise DataError(f"{other}: {found}; name a new folder for its store")
    if not moved and (same < len(present) or stored.is_dir()):
        command = shell_command("usvs", "index", archive, store, "--moved")
        raise DataError(f"{other}: {found}; if it is the same archive in another place, run: {command}")
    logger.info(f"index: the archive was moved, {found}")


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116  as fast as a long catalogue needs it
    except (OSError, ValueError):
        return None
