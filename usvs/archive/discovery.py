"""Which files of an archive make up its scans."""

import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from usvs.archive.alignment import AS_RECORDED, Alignment
from usvs.archive.manifest import MANIFEST, UNNAMED, ManifestRow, read_manifest
from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.dicom_file import is_dicom

# what lies beside a video under its own stem; the first that is there counts
BESIDE = {"sound": (".wav", ".flac"), "gaze": (".gaze.csv", ".gaze.tsv"), "planes": (".planes.csv",)}
SYSTEM_FOLDERS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"})  # nobody's scans
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
    alignment: Alignment = AS_RECORDED


@dataclass(frozen=True)
class ArchiveListing:
    """What lies in an archive.

    Attributes:
        scans: sorted by path.
        missing: scans that the manifest names and the archive does not hold.
        other: numbers of files that belong to no scan, by suffix.
    """

    scans: tuple[ScanFiles, ...]
    missing: tuple[ScanFiles, ...]
    other: dict[str, int]


def discover_scans(archive: Path) -> ArchiveListing:
    """Walk an archive and pair every video with what lies beside it.

    Names are compared as people read them: an accent may be one letter or two, and capitals count only where two names
    differ by nothing else.

    Raises:
        DataError: for a folder that is empty or without videos, and for a manifest with a mistake in it.
    """
    walked = sorted(_walk(archive))
    paths = [path for path in walked if _is_utf8(path)]
    if not walked:
        raise DataError(f"archive '{archive}' is empty")
    present = _Names(paths)
    manifest_path = present.find(MANIFEST)
    rows, columns = read_manifest(archive / (manifest_path or MANIFEST))
    manifest = _rows_by_file(rows, present)
    videos = [path for path in paths if path in manifest or _is_video(archive, path)]
    if not videos:
        raise DataError(f"archive '{archive}' holds no video among its {len(paths)} files; known are {_known()}")
    for path, row in manifest.items():
        _check_named(path, row, present)
    scans = tuple(_scan(path, present, manifest.get(path), "patient" in columns) for path in videos)
    used = {manifest_path, *(part for scan in scans for part in (scan.path, scan.sound, scan.gaze, scan.planes))}
    missing = tuple(ScanFiles(path, patient=row.patient) for path, row in manifest.items() if path not in used)
    other = Counter(_suffix(path).lower() or "no suffix" for path in paths if path not in used)
    if len(paths) < len(walked):
        other["with a name that is no UTF-8"] = len(walked) - len(paths)
    return ArchiveListing(scans, missing, dict(other))


class _Names:
    """The paths that are there, found by themselves, else by what is read as the same and is no other's."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        alike = defaultdict(list)
        for path in self._paths:
            alike[_as_read(path)].append(path)
        self._alike = {name: found[0] for name, found in alike.items() if len(found) == 1}

    def find(self, path: str) -> str | None:
        return path if path in self._paths else self._alike.get(_as_read(path))

    def beside(self, scan: str, path: str) -> str | None:
        if path in self._paths:
            return path
        found = self._alike.get(_as_read(path))
        if found is None:
            return None
        # where Visit.mp4 and visit.mp4 are two, or Anna/ and anna/, neither may take what lies beside the other
        is_alone = self._alike.get(_as_read(scan)) == scan
        return found if is_alone and posixpath.dirname(found) == posixpath.dirname(scan) else None


def _as_read(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).lower()


def _rows_by_file(rows: dict[str, ManifestRow], present: _Names) -> dict[str, ManifestRow]:
    found: dict[str, ManifestRow] = {}
    for path, row in rows.items():
        file = present.find(path) or path
        if file in found:
            raise DataError(f"{MANIFEST}: scan '{file}' is named twice, once as '{path}'")
        found[file] = row
    return found


def _walk(archive: Path) -> Iterator[str]:
    entered = {os.path.realpath(archive)}
    for folder, folders, names in os.walk(archive, onerror=_unreadable, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = os.path.join(folder, name)  # noqa: PTH118  a Path is a tenth of the walk's time
            is_new = not os.path.islink(path) or _leads_elsewhere(path, archive, entered)  # noqa: PTH114
            if is_new and not name.startswith(".") and name not in SYSTEM_FOLDERS:
                kept.append(name)
        folders[:] = kept
        within = Path(folder).relative_to(archive).as_posix()
        prefix = "" if within == "." else f"{within}/"
        for name in names:
            if not name.startswith("."):
                yield prefix + name


def _leads_elsewhere(link: str, archive: Path, entered: set[str]) -> bool:
    """Say whether a linked folder is a part of the archive that lies elsewhere; one that leads back never ends."""
    real = Path(os.path.realpath(link))
    if any(os.fspath(place) in entered for place in (real, *real.parents)) or real in archive.resolve().parents:
        return False
    entered.add(os.fspath(real))
    return True


def _is_utf8(path: str) -> bool:
    # how Python spells bytes it cannot decode
    return path.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in path)


def _unreadable(error: OSError) -> None:
    raise DataError(f"archive folder '{error.filename}' is not readable: {error.strerror}") from None


def _is_video(archive: Path, path: str) -> bool:
    suffix = _suffix(path).lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    # exports of DICOM have names such as IM0001 or 1.2.840.113619.2
    return (not suffix or suffix[1:].isdigit()) and is_dicom(archive / path)


def _check_named(scan: str, row: ManifestRow, present: _Names) -> None:
    for kind, path in (row.beside or {}).items():
        if present.find(path) is None:
            raise DataError(f"{MANIFEST}: the {kind} '{path}' of scan '{scan}' is not in the archive")


def _scan(path: str, present: _Names, row: ManifestRow | None, has_patients: bool) -> ScanFiles:
    row, stem = row or UNNAMED, _stem(path)
    beside: dict[str, str | None] = {}
    for kind, suffixes in BESIDE.items():
        named = (row.beside or {}).get(kind)
        found = (present.find(named),) if named else (present.beside(path, stem + end) for end in suffixes)
        beside[kind] = next((place for place in found if place), None)
    folder = posixpath.basename(posixpath.dirname(path))
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


def _stem(path: str) -> str:
    suffix = _suffix(path)
    # the last number of 1.2.840.113619.2 is not an ending: it tells one picture from the next
    return path if suffix[1:].isdigit() else path.removesuffix(suffix)


def _suffix(path: str) -> str:
    # a PurePath costs a third of an archive's walk
    return posixpath.splitext(path)[1] if path[-1:] != "." else ""


def _known() -> str:
    return ", ".join(sorted(VIDEO_SUFFIXES))
