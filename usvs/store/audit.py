"""Integrity of a store: files against their hashes, sources against their state, patients against the owner's split."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.store.catalogue import OK, Catalogue
from usvs.store.folder import PREPARED, read_archive_path
from usvs.store.keys import Keys
from usvs.store.prepare_failures import read_failures
from usvs.store.prepared_manifest import MANIFEST_FILE, PREPARE, PreparedManifest
from usvs.store.scan_task import ScanTask
from usvs.store.settings import PrepareSettings
from usvs.store.staleness import OTHER_SETTINGS, stale_reason
from usvs.store.writer import PARTIAL_PREFIX
from usvs.utils.hashing import file_sha256
from usvs.utils.process_pool import map_tasks
from usvs.utils.progress import track
from usvs.utils.text import quantity

CHANGED = "the {} has changed since 'usvs prepare'"


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        subject: what it concerns, for example ``scan 0123456789ab``; a keyed hash, never a name of the archive.
        problem: what is wrong with it.
    """

    subject: str
    problem: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.subject}: {self.problem}"


@dataclass(frozen=True)
class AuditSummary:
    """What `audit_store` checked and found.

    Attributes:
        scans: number of prepared scans whose files were checked.
        findings: the problems.
    """

    scans: int
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Return one line with the numbers; the findings have lines of their own."""
        found = f"{quantity(len(self.findings), 'problem')} found"
        if not self.scans:
            return f"audit: no scan is prepared yet, so no file was checked; {found}"
        return f"audit: {quantity(self.scans, 'prepared scan')} checked, {found}"


@dataclass(frozen=True, repr=False)
class AuditTask(ScanTask):
    """One prepared scan to check.

    Attributes:
        check_contents: whether files are hashed.
    """

    check_contents: bool


@dataclass(frozen=True)
class ScanCheck:
    """The problems of one prepared scan, the SHA-256 of its source, and the settings that it was prepared with."""

    problems: tuple[str, ...]
    source_sha256: str | None = None
    settings: PrepareSettings | None = None


def audit_store(store: str | Path, *, check_contents: bool = True, workers: int | None = None) -> AuditSummary:
    """Check every prepared scan of a store against its manifest and its source, and the catalogue's splits.

    Args:
        store: a folder made by `index_archive`.
        check_contents: hash every file, so that one flipped bit is found; False: check names, sizes and times only.
        workers: number of processes; None is one per core.

    Raises:
        DataError: if `store` is not a store, or its catalogue is not readable.
    """
    store = Path(store)
    archive = read_archive_path(store, must_exist=False)
    rows = Catalogue.load(store).scans.to_pylist()
    prepared = store.resolve() / PREPARED
    present = {path.name for path in prepared.iterdir() if not path.name.startswith(PARTIAL_PREFIX)}
    usable = [row for row in rows if row["status"] == OK]
    tasks = [AuditTask(archive, prepared, row, check_contents) for row in usable if row["scan_key"] in present]
    findings = [] if archive.is_dir() else [Finding("archive", "does not exist any more")]
    try:
        Keys.load(store)
    except DataError as error:
        findings.append(Finding("store", str(error)))
    settings: PrepareSettings | None = None
    rows_by_source: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for task, result in track(map_tasks(check_scan, tasks, workers), "auditing scans", total=len(tasks)):
        check = result if isinstance(result, ScanCheck) else ScanCheck((str(result),))
        findings += [Finding(f"scan {task.row['scan_key']}", problem) for problem in check.problems]
        settings = settings or check.settings
        if check.settings not in (None, settings):
            findings.append(Finding(f"scan {task.row['scan_key']}", f"{OTHER_SETTINGS}: {PREPARE}"))
        if check.source_sha256:
            rows_by_source[check.source_sha256].append(task.row)
    try:
        failed = read_failures(store)
    except DataError as error:
        failed = frozenset()
        findings.append(Finding("store", str(error).removeprefix(f"store '{store}': ")))
    if present:  # before the first 'usvs prepare', no scan is expected to be prepared
        missing = (str(row["scan_key"]) for row in usable if row["scan_key"] not in present)
        findings += [
            Finding(f"scan {key}", f"{'could not be' if key in failed else 'is not'} prepared: {PREPARE}")
            for key in missing
        ]
    unknown = present - {str(row["scan_key"]) for row in rows}
    findings += [
        Finding(f"scan {key}", "is prepared but not in the catalogue: remove its folder in 'prepared'")
        for key in sorted(unknown)
    ]
    findings += [*_split_findings(rows), *_duplicate_findings(rows_by_source.values())]
    return AuditSummary(len(tasks), tuple(findings))


def check_scan(task: AuditTask) -> ScanCheck:
    """Check one prepared scan; problems are in the result, never an exception."""
    try:
        manifest = PreparedManifest.load(task.folder)
    except DataError as error:
        return ScanCheck((str(error).removeprefix(f"scan {task.folder.name}: "),))
    try:
        problems = [*_file_problems(task, manifest), *_source_problems(task, manifest)]
    except OSError as error:
        problems = [f"cannot be read: {error.strerror}"]
    return ScanCheck(tuple(problems), manifest.source_sha256, manifest.settings)


def _file_problems(task: AuditTask, manifest: PreparedManifest) -> Iterator[str]:
    present = {path.name for path in task.folder.iterdir()} - {MANIFEST_FILE}
    if manifest.scan_key != task.folder.name:
        yield f"its manifest is of scan {manifest.scan_key}"
    for name in sorted(present - set(manifest.sha256)):
        yield f"unexpected file {name}"
    for name, digest in manifest.sha256.items():
        if name not in present:
            yield f"{name} is missing: {PREPARE}"
        elif task.check_contents and file_sha256(task.folder / name) != digest:
            yield f"{name} is damaged (its SHA-256 is not the manifest's): {PREPARE}"
        elif (task.folder / name).stat().st_size != manifest.bytes.get(name):
            yield f"{name} is damaged (its size is not the manifest's): {PREPARE}"


def _source_problems(task: AuditTask, manifest: PreparedManifest) -> Iterator[str]:
    if reason := stale_reason(manifest, task.row):
        yield f"{reason}: {PREPARE}"
        return
    if not task.archive.is_dir():
        return  # reported once for all scans
    video, source = task.archive / str(task.row["path"]), manifest.source
    states = {"video": (video, (source.bytes, source.modified_ns))}
    for kind, state in source.beside.items():
        states[f"{kind} file"] = (task.archive / str(task.row[f"{kind}_path"]), state)
    for kind, (path, state) in states.items():
        if not path.is_file():
            yield f"the {kind} does not exist in the archive any more"
        elif (path.stat().st_size, path.stat().st_mtime_ns) != state:
            yield CHANGED.format(kind)
        elif kind == "video" and task.check_contents and manifest.source_sha256 not in (None, file_sha256(path)):
            yield f"{CHANGED.format(kind)}, though its size and time have not"


def _split_findings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["patient_key"] and row["split"]:
            splits[row["patient_key"]].add(row["split"])
    for patient, found in sorted(splits.items()):
        if len(found) > 1:
            yield Finding(f"patient {patient}", f"is in {len(found)} parts of the split: {', '.join(sorted(found))}")


def _duplicate_findings(groups: Iterable[list[Mapping[str, Any]]]) -> Iterator[Finding]:
    """Report equal videos under two patients, or in two parts of the owner's split."""
    for rows in groups:
        patients = {row["patient_key"] or row["scan_key"] for row in rows}
        splits = {row["split"] for row in rows if row["split"]}
        if len(patients) > 1 or len(splits) > 1:
            keys = sorted(str(row["scan_key"]) for row in rows)
            where = "of another patient" if len(patients) > 1 else "in another part of the split"
            yield Finding(f"scan {keys[0]}", f"is the same video as scan {', '.join(keys[1:])}, {where}")
