"""What measured results rest on besides settings: the content of a store, and this package's code."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import usvs
from usvs.store.prepared import PreparedStore
from usvs.utils.regular_files import MAX_TABLE_BYTES, read_regular

# Packages that decide how results are shown, not what is measured.
NOT_MEASURING = frozenset({"cli", "report"})


def fingerprint(store: PreparedStore) -> dict[str, Any]:
    """Return plain values that change when a store's content or this package's code changes."""
    return {"data": {"store_sha256": store_sha256(store)}, "code": {"usvs": usvs.__version__, "sha256": code_sha256()}}


def store_sha256(store: PreparedStore) -> str:
    """Return a SHA-256 of everything in a store that can change a result.

    That is, per scan, its key, its patient and the SHA-256 of each prepared file (frames, times, speech, gaze, labels)
    as its manifest lists them; its labels in the catalogue, and the clips of the catalogue.
    """
    digest = hashlib.sha256()
    for number in range(len(store.scans)):
        manifest = store.scan(number).manifest
        row = [manifest.scan_key, manifest.patient_key, manifest.gaze_degree, sorted(manifest.sha256.items())]
        digest.update(json.dumps(row).encode() + b"\n" + store.labels.fingerprint(number).encode())
    for column in (store.clips.scan, store.clips.start_seconds, store.clips.speech_fraction):
        digest.update(column.tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """Return a SHA-256 of this package's sources and compiled libraries; see `package_sha256`."""
    return package_sha256(Path(usvs.__file__).parent)


def package_sha256(folder: Path) -> str:
    """Return a SHA-256 of a package's Python sources and compiled libraries, without the folders in `NOT_MEASURING`."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in ("*.py", "*.so") for file in folder.rglob(pattern)):
        name = file.relative_to(folder)
        if name.parts[0] not in NOT_MEASURING:
            digest.update(f"{name.as_posix()}\0".encode())
            digest.update(hashlib.sha256(read_regular(file, MAX_TABLE_BYTES)).digest())
    return digest.hexdigest()
