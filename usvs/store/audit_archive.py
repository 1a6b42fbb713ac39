"""Audit of an archive before a store is made: which scans would be skipped, and why. Nothing is written."""

import logging
from pathlib import Path

from usvs.errors import DataError
from usvs.store.audit import Finding
from usvs.store.catalogue import OK
from usvs.store.contact_sheet import draw_contact_sheets
from usvs.store.indexing import inspect_archive
from usvs.utils.text import log_lines, printable

logger: logging.Logger = logging.getLogger(__name__)


def audit_archive(
    archive: str | Path, pictures: str | Path | None = None, workers: int | None = None
) -> tuple[tuple[Finding, ...], tuple[Path, ...]]:
    """Return every scan or table that would not be used with the reason, and the contact sheets that were drawn.

    Findings and log name scans by their paths, as the summary of `usvs index` does: they are for the owner's terminal.
    The contact sheets name them by hashes under a temporary key, and the log says which hash is which path.

    Args:
        archive: any folder tree of videos; it is only read.
        pictures: folder for contact sheets, see `save_contact_sheets`; None draws none.
        workers: number of processes; None is one per core.

    Raises:
        DataError: for a folder that is empty or without videos, and for a mistake in manifest.csv.
    """
    archive = Path(archive)
    if not archive.is_dir():
        raise DataError(f"'{archive}' is neither a store nor a folder with an archive")
    scans, summary = inspect_archive(archive, workers)  # in memory: a killed audit leaves no paths and no key behind
    log_lines(logger, summary)
    rows = scans.to_pylist()
    pages = draw_contact_sheets(archive.resolve(), rows, pictures, workers) if pictures else ()
    findings = [Finding(printable(str(row["path"])), str(row["reason"])) for row in rows if row["status"] != OK]
    findings += [Finding(printable(path), reason) for path, reason in summary.unused_tables]
    for row in (row for row in rows if pages and row["status"] == OK):
        logger.info(f"  scan {row['scan_key']} is {printable(str(row['path']))}")
    return tuple(findings), pages
