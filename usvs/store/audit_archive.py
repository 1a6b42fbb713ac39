"""A look into an archive before anything is made of it; what is found out is not kept."""

import logging
import tempfile
from pathlib import Path

from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.store.audit import Finding
from usvs.store.catalogue import OK, Catalogue, index_archive
from usvs.store.contact_sheet import save_contact_sheets
from usvs.store.keys import Keys
from usvs.store.settings import ClipSettings
from usvs.utils.progress import printable

logger = logging.getLogger(__name__)


def audit_archive(
    archive: Path, pictures: Path | None = None, workers: int | None = None
) -> tuple[tuple[Finding, ...], tuple[Path, ...]]:
    """Return every scan that would be put aside with the reason, and the pages of pictures that were drawn.

    Scans are named by their paths here: this is for the owner's terminal, as the summary of `usvs index` is. The
    pictures name them by hashes under a key that is thrown away, so the terminal says which is which.

    Raises:
        DataError: for a folder that is empty or without videos, and for a manifest with a mistake in it.
    """
    if not archive.is_dir():
        raise DataError(f"'{archive}' is neither a store nor the folder of an archive")
    with tempfile.TemporaryDirectory(prefix="usvs-audit-") as folder:
        store = Path(folder) / "store"
        try:
            logger.info(str(index_archive(archive, store, ClipSettings(), VoiceActivitySettings(), workers)))
        except DataError as error:
            if "usable" not in str(error):
                raise
        rows = Catalogue.load(store).scans.to_pylist()
        pages = save_contact_sheets(store, pictures, workers) if pictures else ()
        findings = [Finding(printable(str(row["path"])), str(row["reason"])) for row in rows if row["status"] != OK]
        for row in (row for row in rows if pages and row["status"] == OK):
            logger.info(f"  scan {Keys.load(store).scan_key(str(row['path']))} is {printable(str(row['path']))}")
    return tuple(findings), pages
