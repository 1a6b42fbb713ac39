"""Discovery of the scans in an archive: which files belong together."""

import errno
import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from usvs.archive.alignment import DEFAULT_ALIGNMENT, Alignment
from usvs.archive.class_list import CLASSES_FILE, ClassRules, read_class_rules
from usvs.archive.label_tables import LABELS_FILE, LabelTable, find_label_table
from usvs.archive.label_tracks import LabelRow
from usvs.archive.manifest import EMPTY_ENTRY, MANIFEST, ManifestEntry, read_manifest
from usvs.archive.settings import LabelSettings
from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.dicom_file import is_dicom
from usvs.media.stills import is_still

# Companion files: they belong to the video beside them with the same stem. Of several, the first suffix is used.
COMPANION_SUFFIXES: dict[str, tuple[str, ...]] = {
    "sound": (".wav", ".flac"),
    "gaze": (".gaze.csv", ".gaze.tsv"),
    "planes": (".planes.csv",),
    "labels": (".labels.csv",),
}
SYSTEM_FOLDERS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"})  # not searched
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts",
    ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".mjpg", ".mjpeg", ".gif", ".264", ".h264",
    ".dcm", ".dicom", ".ima",
})
# fmt: on


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan: paths relative to the archive, with forward slashes; None for what is missing.

    Attributes:
        path: video file.
        sound: separate audio file.
        gaze: gaze recording.
        planes: plane labels.
        labels: labels of any kind.
        label_rows: those of the archive's table of labels.
        patient: as the manifest states, or else the table of labels.
        split: as the manifest states.
        sector: inscribed crop as the manifest states.
        alignment: of audio and gaze.
    """

    path: str
    sound: str | None = None
    gaze: str | None = None
    planes: str | None = None
    labels: str | None = None
    label_rows: tuple[LabelRow, ...] = ()
    patient: str | None = None
    split: str | None = None
    sector: Box | None = None
    alignment: Alignment = DEFAULT_ALIGNMENT


@dataclass(frozen=True)
class ArchiveListing:
    """Contents of an archive.

    Attributes:
        scans: sorted by path.
        missing: scans that the manifest names but the archive does not contain.
        other: number of files that belong to no scan, by suffix.
        unreadable: path and reason of each folder that could not be read.
        label_table: labels of whole files and of parts of them.
        class_rules: order and spelling of classes.
        class_file: where these are, or would be looked for first.
    """

    scans: tuple[ScanFiles, ...]
    missing: tuple[ScanFiles, ...]
    other: dict[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()
    label_table: LabelTable = field(default_factory=LabelTable)
    class_rules: ClassRules = field(default_factory=ClassRules)
    class_file: Path = Path(CLASSES_FILE)


def discover_scans(
    archive: str | Path,
    labels: LabelSettings | None = None,
    label_file: Path | None = None,
    class_file: Path | None = None,
) -> ArchiveListing:
    """Search an archive for videos and labelled pictures, and pair each with its companion files.

    Names are compared without regard to capitals and to how accents are encoded, unless two names in the archive
    differ in nothing else.

    Args:
        archive: the folder.
        labels: names of the columns in its table of labels.
        label_file: the table of labels; None: it is searched in the archive and beside it.
        class_file: order and spelling of classes; None: ``classes.csv`` in the archive or beside it.

    Raises:
        DataError: if the archive is empty or has no video, and for an invalid manifest or list of classes.
    """
    archive = Path(archive)
    unreadable: list[tuple[str, str]] = []
    all_paths = sorted(iter_paths(archive, unreadable))
    paths = [path for path in all_paths if _is_utf8(path)]
    if not all_paths and unreadable:
        raise DataError(f"archive '{archive}': its folder '{unreadable[0][0]}' is {unreadable[0][1]}")
    if not all_paths:
        raise DataError(f"archive '{archive}' is empty: expected a folder that contains videos")
    index = _PathIndex(paths)
    manifest_path = index.find(MANIFEST)
    rows, _ = read_manifest(archive / (manifest_path or MANIFEST))
    entries = _match_entries(rows, index)
    videos = [path for path in paths if path in entries or _is_video(archive, path)]
    for path, entry in entries.items():
        _check_companions(path, entry, index)
    label_path, class_path = index.find(LABELS_FILE), index.find(CLASSES_FILE)
    inside = archive / label_path if label_path else None
    stills = _find_stills(paths, videos)
    table = find_label_table(archive, sorted((*videos, *stills)), labels or LabelSettings(), label_file or inside)
    built = [_build_scan(path, index, entries.get(path), table) for path in sorted((*videos, *stills))]
    scans = tuple(scan for scan in built if scan.path not in stills or scan.label_rows or scan.labels or scan.planes)
    if not scans:
        stated = f" ({table.name} is not used: {table.problem})" if table.problem else ""
        raise DataError(
            f"archive '{archive}' has no video among its {len(paths)} files{stated}: expected a DICOM file, one of the "
            f"suffixes {', '.join(sorted(VIDEO_SUFFIXES))}, or pictures that {LABELS_FILE} has labels of"
        )
    parts = (part for scan in scans for part in (scan.path, scan.sound, scan.gaze, scan.planes, scan.labels))
    used = {manifest_path, label_path if table.file == inside else None, class_path, *parts}
    missing = tuple(ScanFiles(path, patient=entry.patient) for path, entry in entries.items() if path not in used)
    other = Counter(_get_suffix(path).lower() or "no suffix" for path in paths if path not in used)
    if len(paths) < len(all_paths):
        other["with a name not in UTF-8"] = len(all_paths) - len(paths)
    beside = archive.resolve().parent / f"{archive.resolve().name}.{CLASSES_FILE}"
    classes = class_file or (beside if beside.is_file() and not class_path else archive / (class_path or CLASSES_FILE))
    rules = read_class_rules(classes) if class_file or class_path or classes == beside else ClassRules()
    return ArchiveListing(scans, missing, dict(other), tuple(unreadable), table, rules, classes)


def _find_stills(paths: Iterable[str], videos: Iterable[str]) -> frozenset[str]:
    """Return the still pictures that may be scans of their own; one named as a video is a picture of the video."""
    of_videos = {_normalize_name(_get_stem(path)) for path in videos}
    known = frozenset(videos)
    stills = (path for path in paths if path not in known and is_still(path))
    return frozenset(path for path in stills if _normalize_name(_get_stem(path)) not in of_videos)


class _PathIndex:
    """The paths in an archive, found by exact name, otherwise by normalized name if only one path has it."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        by_name = defaultdict(list)
        for path in self._paths:
            by_name[_normalize_name(path)].append(path)
        self._unique = {name: found[0] for name, found in by_name.items() if len(found) == 1}

    def find(self, path: str) -> str | None:
        return path if path in self._paths else self._unique.get(_normalize_name(path))

    def find_companion(self, scan: str, path: str) -> str | None:
        if path in self._paths:
            return path
        found = self._unique.get(_normalize_name(path))
        if found is None:
            return None
        # If the archive has Visit.mp4 and visit.mp4, or Anna/ and anna/, neither may take the other's companion.
        is_unique = self._unique.get(_normalize_name(scan)) == scan
        return found if is_unique and posixpath.dirname(found) == posixpath.dirname(scan) else None


def _normalize_name(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).lower()


def _match_entries(rows: dict[str, ManifestEntry], index: _PathIndex) -> dict[str, ManifestEntry]:
    entries: dict[str, ManifestEntry] = {}
    for name, entry in rows.items():
        path = index.find(name) or name
        if path in entries:
            raise DataError(f"{MANIFEST}: scan '{path}' is named twice, once as '{name}': expected one row per scan")
        entries[path] = entry
    return entries


def iter_paths(archive: Path, unreadable: list[tuple[str, str]] | None = None) -> Iterator[str]:
    """Yield every file of a folder tree, relative to it, without hidden files and folders of the system.

    Linked folders are followed unless they lead back into the tree.

    Args:
        archive: the folder.
        unreadable: receives path and reason of each folder inside it that cannot be read; None raises instead.

    Raises:
        DataError: for a folder that cannot be read.
    """
    visited = {os.path.realpath(archive)}
    pending = [""]  # relative folders; not os.walk, which before Python 3.12 calls itself for each level
    while pending:
        relative = pending.pop()
        prefix = relative and f"{relative}/"
        subfolders = []
        try:
            with os.scandir(f"{archive}/{relative}") as unsorted:
                entries = sorted(unsorted, key=lambda entry: entry.name)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                # `entry.is_dir()` alone raises for a link that leads back to itself, which would end the search
                if not (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()):  # noqa: PTH112
                    yield prefix + entry.name
                elif entry.name not in SYSTEM_FOLDERS:
                    is_new = not entry.is_symlink() or _should_follow(entry.path, archive, visited)
                    subfolders += [prefix + entry.name] if is_new else []
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                longest, levels = os.pathconf(archive, "PC_PATH_MAX"), relative.count("/") + 1
                raise DataError(
                    f"archive '{archive}': expected paths of at most {longest} bytes, got a longer one of a folder "
                    f"{levels} levels deep: move it closer to the archive"
                ) from None
            if unreadable is None or not relative:
                raise DataError(f"archive folder '{archive}/{relative}' is not readable: {error.strerror}") from None
            unreadable.append((relative, f"not readable: {error.strerror}"))
        pending += sorted(subfolders, reverse=True)


def _should_follow(link: str, archive: Path, visited: set[str]) -> bool:
    """Return whether a linked folder is new; one that links into or above the archive would never end."""
    target = Path(os.path.realpath(link))
    is_visited = any(os.fspath(folder) in visited for folder in (target, *target.parents))
    if is_visited or target in archive.resolve().parents:
        return False
    visited.add(os.fspath(target))
    return True


def _is_utf8(path: str) -> bool:
    # Python represents bytes that it cannot decode as surrogates
    return path.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in path)


def _is_video(archive: Path, path: str) -> bool:
    suffix = _get_suffix(path).lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    # DICOM exports have names such as IM0001 or 1.2.840.113619.2
    return (not suffix or suffix[1:].isdigit()) and is_dicom(archive / path)


def _check_companions(scan: str, entry: ManifestEntry, index: _PathIndex) -> None:
    for kind, path in (entry.companions or {}).items():
        if index.find(path) is None:
            raise DataError(f"{MANIFEST}: the {kind} '{path}' of scan '{scan}' is not in the archive")


def _build_scan(path: str, index: _PathIndex, entry: ManifestEntry | None, table: LabelTable) -> ScanFiles:
    entry, stem = entry or EMPTY_ENTRY, _get_stem(path)
    companions: dict[str, str | None] = {}
    for kind, suffixes in COMPANION_SUFFIXES.items():
        stated = (entry.companions or {}).get(kind)
        candidates = (
            (index.find(stated),) if stated else (index.find_companion(path, stem + suffix) for suffix in suffixes)
        )
        companions[kind] = next((candidate for candidate in candidates if candidate), None)
    return ScanFiles(
        path=path,
        sound=companions["sound"],
        gaze=companions["gaze"],
        planes=companions["planes"],
        labels=companions["labels"],
        label_rows=table.rows.get(path, ()),
        patient=entry.patient or table.patients.get(path),
        split=entry.split,
        sector=entry.sector,
        alignment=entry.alignment,
    )


def _get_stem(path: str) -> str:
    suffix = _get_suffix(path)
    # the last number of 1.2.840.113619.2 is not a suffix: it distinguishes images of one series
    return path if suffix[1:].isdigit() else path.removesuffix(suffix)


def _get_suffix(path: str) -> str:
    # PurePath would take a third of the time of the whole search
    return posixpath.splitext(path)[1] if path[-1:] != "." else ""
