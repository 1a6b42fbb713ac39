"""Whether a prepared scan is of the state that the catalogue describes."""

import json
from collections.abc import Mapping
from typing import Any

from usvs.archive.alignment import Alignment
from usvs.store.prepared_manifest import FileState, PreparedManifest

OTHER_SETTINGS = "prepared with other settings than the first scan"
SECTOR_COLUMNS = ("sector_left", "sector_top", "sector_right", "sector_bottom")
STATE_COLUMNS = (
    *(
        "scan_key",
        "patient_key",
        "bytes",
        "modified_ns",
        "sound",
        "gaze",
        "planes",
        "companions",
        "alignment",
        "sector_geometry",
    ),
    *SECTOR_COLUMNS,
)  # of the catalogue: what a prepared scan is made from


def catalogue_source(row: Mapping[str, Any]) -> FileState:
    """Return the state of a scan's video and of the companion files that are used, as `usvs index` recorded it."""
    states = json.loads(row["companions"] or "{}")
    used = {"sound": row["sound"] == "beside", "gaze": bool(row["gaze"]), "planes": bool(row["planes"])}
    used["labels"] = False  # in the catalogue alone, not in prepared scans
    beside = {kind: (state[0], state[1]) for kind, state in states.items() if used[kind]}
    return FileState(bytes=row["bytes"], modified_ns=row["modified_ns"], beside=beside)


def catalogue_alignment(row: Mapping[str, Any]) -> Alignment:
    """Return the alignment of sound and gaze with the video."""
    return Alignment.model_validate_json(row["alignment"])


def changed_file(expected: FileState, got: FileState) -> str | None:
    """Return the kind of the first file that differs: ``video``, ``sound file`` and so on; None if none does."""
    if (expected.bytes, expected.modified_ns) != (got.bytes, got.modified_ns):
        return "video"
    kinds = sorted({*expected.beside, *got.beside})
    return next((f"{kind} file" for kind in kinds if expected.beside.get(kind) != got.beside.get(kind)), None)


def stale_reason(manifest: PreparedManifest, row: Mapping[str, Any]) -> str | None:
    """Return why a prepared scan does not fit its row of the catalogue; None if it does."""
    if manifest.scan_key != row["scan_key"]:
        return f"its manifest is of scan {manifest.scan_key}"
    if kind := changed_file(catalogue_source(row), manifest.source):
        return f"the {kind} has changed since 'usvs prepare'"
    if manifest.patient_key != row["patient_key"]:
        return "its patient differs from the catalogue's"
    if manifest.sector != tuple(row[name] for name in SECTOR_COLUMNS):
        return "its sector differs from the catalogue's"
    if manifest.settings.crop != "inscribed" and manifest.geometry != row["sector_geometry"]:
        return "the geometry of its sector differs from the catalogue's"
    if manifest.alignment != catalogue_alignment(row):
        return "its alignment of sound and gaze differs from the catalogue's"
    return None
