"""What a report may show of scans: which have pictures, and notes without names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore

NO_SECTOR = "whole"  # of the column sector_source: no sector was found, so the frames may show names on the screen


def pictured_scans(store: PreparedStore) -> NDArray[np.bool_]:
    """Return which prepared scans [S] may be shown outside of the store: those with a sector."""
    rows = Catalogue.load(store.store).scans.select(["scan_key", "sector_source"]).to_pylist()
    source_of = {row["scan_key"]: row["sector_source"] for row in rows}
    return np.array([source_of.get(key) != NO_SECTOR for key in store.scans], np.bool_)


def without_names(text: str, row: Mapping[str, Any]) -> str:
    """Return a note of the catalogue without what it quotes, and without the names of the scan's files.

    Args:
        text: of the note.
        row: of the catalogue, whose paths are not to be seen.
    """
    kept = text.split("'")[0].split('"')[0].split(" got ")[0].rstrip(" :,;(")
    paths = [row.get(name) for name in ("path", "sound_path", "gaze_path", "planes_path", "labels_path")]
    parts = {part.lower() for path in paths if path for part in (*Path(path).parts, Path(path).stem) if len(part) > 2}
    if not kept or any(part in kept.lower() for part in parts):
        return "a note that names files; 'usvs report STORE --names' shows it"
    return kept
