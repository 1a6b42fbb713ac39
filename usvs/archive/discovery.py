"""Which files of an archive make up its scans."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from usvs.archive.alignment import Alignment
from usvs.archive.archive_manifest import MANIFEST, ManifestRow, read_manifest
from usvs.archive.dicom_file import is_dicom
from usvs.archive.sector import Box
from usvs.errors import DataError

# what lies beside a video under its own stem; the first that is there counts
BESIDE = {"sound": (".wav", ".flac"), "gaze": (".gaze.csv", ".gaze.tsv"), "planes": (".planes.csv",)}
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts",
    ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".mjpg", ".mjpeg", ".gif", ".264", ".h264",
    ".dcm", ".dicom", ".ima",
})
# fmt: on


@dataclass(frozen=True)
class ScanFiles:
    """One scan on disk: paths relative to the archive, with forward slashes; None for what is not there.

    Attributes:
        patient: by the manifest.
        folder: the name of the one it lies in, where the manifest says nothing of patients.
    """

    path: str
    sound: str | None = None
    gaze: str | None = None
    planes: str | None = None
    patient: str | None = None
    folder: str | None = None
    split: str | None = None
    sector: Box | None = None
    alignment: Alignment = field(default_factory=Alignment)


@dataclass(frozen=True)
class Found:
    """What lies in an archive.

    Attributes:
        scans: sorted by path.
        missing: scans that the manifest names and the archive does not hold.
        other: numbers of files that belong to no scan, by suffix.
    """

    scans: tuple[ScanFiles, ...]
    missing: tuple[ScanFiles, ...]
    other: dict[str, int]


def discover(archive: Path) -> Found:
    """Walk an archive and pair every video with what lies beside it.

    Raises:
        DataError: for a folder that is empty or without videos, and for a manifest with a mistake in it.
    """
    walked = sorted(_walk(archive))
    paths = [path for path in walked if _is_utf8(path)]
    if not walked:
        raise DataError(f"archive '{archive}' is empty")
    manifest, columns = read_manifest(archive / MANIFEST)
    videos = [path for path in paths if path in manifest or _is_video(archive, path)]
    if not videos:
        raise DataError(f"archive '{archive}' holds no video among its {len(paths)} files; known are {_known()}")
    present = {path.lower(): path for path in reversed(paths)}
    for path, row in manifest.items():
        _check_named(path, row, present)
    scans = tuple(_scan(path, present, manifest.get(path), "patient" in columns) for path in videos)
    used = {MANIFEST, *(part for scan in scans for part in (scan.path, scan.sound, scan.gaze, scan.planes) if part)}
    missing = tuple(ScanFiles(path, patient=row.patient) for path, row in manifest.items() if path not in used)
    other = Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in paths if path not in used)
    if len(paths) < len(walked):
        other["with a name that is no UTF-8"] = len(walked) - len(paths)
    return Found(scans, missing, dict(other))


def _walk(archive: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(archive, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(archive).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in names:
            if not name.startswith("."):
                yield prefix + name


def _is_utf8(path: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in path)  # how Python spells bytes it cannot decode


def _unreadable(error: OSError) -> None:
    raise DataError(f"archive folder '{error.filename}' is not readable: {error.strerror}") from None


def _is_video(archive: Path, path: str) -> bool:
    suffix = PurePosixPath(path).suffix.lower()
    # exports of DICOM have names such as IM0001 or 1.2.840.113619.2
    return suffix in VIDEO_SUFFIXES or ((not suffix or suffix[1:].isdigit()) and is_dicom(archive / path))


def _check_named(scan: str, row: ManifestRow, present: dict[str, str]) -> None:
    for kind, path in (row.beside or {}).items():
        if path.lower() not in present:
            raise DataError(f"{MANIFEST}: the {kind} '{path}' of scan '{scan}' is not in the archive")


def _scan(path: str, present: dict[str, str], row: ManifestRow | None, has_patients: bool) -> ScanFiles:
    row = row or ManifestRow()
    stem = str(PurePosixPath(path).with_suffix(""))
    beside: dict[str, str | None] = {}
    for kind, suffixes in BESIDE.items():
        named = [(row.beside or {}).get(kind)] if (row.beside or {}).get(kind) else [stem + end for end in suffixes]
        beside[kind] = next((present[str(name).lower()] for name in named if str(name).lower() in present), None)
    folder = PurePosixPath(path).parent.name
    return ScanFiles(
        path=path,
        sound=beside["sound"],
        gaze=beside["gaze"],
        planes=beside["planes"],
        patient=row.patient,
        folder=None if has_patients else (folder or None),
        split=row.split,
        sector=row.sector,
        alignment=row.alignment,
    )


def _known() -> str:
    return ", ".join(sorted(VIDEO_SUFFIXES))
