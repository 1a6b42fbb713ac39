"""Which files of an archive make up its scans."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from usvs.archive.sector import Box
from usvs.errors import DataError

MANIFEST = "manifest.csv"
SOUND_SUFFIXES = (".wav", ".flac")
GAZE_SUFFIX = ".gaze.csv"
PLANES_SUFFIX = ".planes.csv"
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts",
    ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".mjpg", ".mjpeg", ".gif", ".264", ".h264",
})
# fmt: on


@dataclass(frozen=True)
class ScanFiles:
    """One scan on disk: paths relative to the archive, with forward slashes; None for what is not there."""

    path: str
    sound: str | None = None
    gaze: str | None = None
    planes: str | None = None
    patient: str | None = None
    sector: Box | None = None


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


@dataclass(frozen=True)
class _ManifestRow:
    patient: str | None
    sector: Box | None


def discover(archive: Path) -> Found:
    """Walk an archive and pair every video with what lies beside it.

    Raises:
        DataError: for a folder that is empty or without videos, and for a manifest with a mistake in it.
    """
    walked = sorted(_walk(archive))
    paths = [path for path in walked if _is_utf8(path)]
    if not walked:
        raise DataError(f"archive '{archive}' is empty")
    videos = [path for path in paths if PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise DataError(f"archive '{archive}' holds no video among its {len(paths)} files; known are {_known()}")
    present = {path.lower(): path for path in reversed(paths)}
    manifest, has_patients = _read_manifest(archive / MANIFEST)
    scans = tuple(_scan(path, present, manifest.get(path), has_patients) for path in videos)
    used = {MANIFEST, *(part for scan in scans for part in (scan.path, scan.sound, scan.gaze, scan.planes) if part)}
    missing = tuple(ScanFiles(path, patient=row.patient) for path, row in manifest.items() if path not in used)
    other = Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in paths if path not in used)
    if len(paths) < len(walked):
        other["with a name that is no UTF-8"] = len(walked) - len(paths)
    return Found(scans, missing, dict(other))


def _walk(archive: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(archive, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(archive).as_posix()


def _is_utf8(path: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in path)  # how Python spells bytes it cannot decode


def _unreadable(error: OSError) -> None:
    raise DataError(f"archive folder '{error.filename}' is not readable: {error.strerror}") from None


def _scan(path: str, present: dict[str, str], row: _ManifestRow | None, has_patients: bool) -> ScanFiles:
    stem = str(PurePosixPath(path).with_suffix(""))
    beside = {suffix: present.get((stem + suffix).lower()) for suffix in (*SOUND_SUFFIXES, GAZE_SUFFIX, PLANES_SUFFIX)}
    folder = PurePosixPath(path).parent.name
    return ScanFiles(
        path=path,
        sound=next((beside[suffix] for suffix in SOUND_SUFFIXES if beside[suffix]), None),
        gaze=beside[GAZE_SUFFIX],
        planes=beside[PLANES_SUFFIX],
        patient=(row.patient if row else None) if has_patients else (folder or None),
        sector=row.sector if row else None,
    )


def _read_manifest(path: Path) -> tuple[dict[str, _ManifestRow], bool]:
    if not path.exists():
        return {}, False
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            if "scan" not in columns:
                raise DataError(f"{MANIFEST}: column 'scan' is missing, got {', '.join(columns) or 'nothing'}")
            rows: dict[str, _ManifestRow] = {}
            for fields in reader:
                scan = str(PurePosixPath((fields["scan"] or "").strip().replace("\\", "/")))
                if scan in rows:
                    raise DataError(f"{MANIFEST}, line {reader.line_num}: scan '{scan}' is named twice")
                patient = (fields.get("patient") or "").strip() or None
                rows[scan] = _ManifestRow(patient, _sector(fields.get("sector"), reader.line_num))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{MANIFEST}: not readable as csv ({type(error).__name__})") from None
    return rows, "patient" in columns


def _sector(text: str | None, line: int) -> Box | None:
    if not (text or "").strip():
        return None
    try:
        left, top, right, bottom = (int(part) for part in str(text).split(","))
    except ValueError:
        left = top = right = bottom = -1
    if not (0 <= left < right and 0 <= top < bottom):
        raise DataError(f"{MANIFEST}, line {line}: wanted sector as \"left,top,right,bottom\" in pixels, got '{text}'")
    return Box(left, top, right, bottom)


def _known() -> str:
    return ", ".join(sorted(VIDEO_SUFFIXES))
