"""Is a store still what it says it is: every file whole, every source as it was, nobody on both sides of a split."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.store.catalogue import OK, Catalogue
from usvs.store.folder import PREPARED, archive_of
from usvs.store.prepared_manifest import MANIFEST_FILE, PreparedManifest
from usvs.store.writer import PARTIAL
from usvs.utils.hashing import file_sha256
from usvs.utils.process_pool import run_each
from usvs.utils.progress import track

STATE_CHANGED = "the {} has changed since 'usvs prepare'"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `subject` is a kind and a keyed hash, never a name."""

    subject: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.subject}: {self.what}"


@dataclass(frozen=True)
class AuditSummary:
    """What an audit looked at and found.

    Attributes:
        scans: prepared scans whose files were checked.
        findings: what is wrong, a line each.
    """

    scans: int
    findings: tuple[Finding, ...]

    @property
    def headline(self) -> str:
        """One line to sum up."""
        return f"audit: {self.scans} prepared scans checked, {len(self.findings)} findings"


@dataclass(frozen=True)
class AuditTask:
    """One prepared scan to check: its row of the catalogue and where things lie."""

    archive: Path
    prepared: Path
    row: dict[str, Any]
    contents: bool

    @property
    def folder(self) -> Path:
        """Where the prepared scan lies."""
        return self.prepared / str(self.row["scan_key"])


@dataclass(frozen=True)
class Checked:
    """What is wrong with one prepared scan, and the hash its source had."""

    findings: tuple[str, ...]
    source_sha256: str | None = None


def audit_store(store: Path, contents: bool = True, workers: int | None = None) -> AuditSummary:
    """Check every prepared scan of a store against its manifest, its source and the catalogue's splits.

    Args:
        store: made by `index_archive`.
        contents: hash every file, so that one flipped bit is found; False: sizes and dates only.
        workers: processes; None is one a core.

    Raises:
        DataError: where `store` is no store or its catalogue is not readable.
    """
    archive = archive_of(store, must_exist=False)
    rows = Catalogue.load(store).scans.to_pylist()
    prepared = store.resolve() / PREPARED
    ready = {path.name for path in prepared.iterdir() if not path.name.startswith(PARTIAL)}
    usable = [row for row in rows if row["status"] == OK]
    tasks = [AuditTask(archive, prepared, row, contents) for row in usable if row["scan_key"] in ready]
    findings = [Finding("archive", "is not there any more")] if not archive.is_dir() else []
    hashes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    results = track(run_each(check_scan, tasks, workers), "auditing scans", total=len(tasks))
    for task, result in results:
        key = str(task.row["scan_key"])
        checked = result if isinstance(result, Checked) else Checked((str(result),))
        findings += [Finding(f"scan {key}", what) for what in checked.findings]
        if checked.source_sha256:
            hashes[checked.source_sha256].append(task.row)
    if ready:  # before 'usvs prepare' nothing is missing
        waiting = (str(row["scan_key"]) for row in usable if row["scan_key"] not in ready)
        findings += [Finding(f"scan {key}", "is not prepared; run 'usvs prepare'") for key in waiting]
    unknown = ready - {str(row["scan_key"]) for row in rows}
    findings += [
        Finding(f"scan {key}", "is prepared and not in the catalogue; remove its folder in 'prepared'")
        for key in sorted(unknown)
    ]
    findings += [*_split_findings(rows), *_twin_findings(hashes.values())]
    return AuditSummary(len(tasks), tuple(findings))


def check_scan(task: AuditTask) -> Checked:
    """Check one prepared scan; what is wrong is in the result, never an exception."""
    try:
        manifest = PreparedManifest.load(task.folder)
    except DataError as error:
        return Checked((str(error).removeprefix(f"scan {task.folder.name}: "),))
    try:
        findings = [*_file_findings(task, manifest), *_source_findings(task, manifest)]
    except OSError as error:
        findings = [f"cannot be read: {error.strerror}"]
    return Checked(tuple(findings), manifest.source_sha256)


def _file_findings(task: AuditTask, manifest: PreparedManifest) -> Iterator[str]:
    present = {path.name for path in task.folder.iterdir()} - {MANIFEST_FILE}
    if manifest.scan_key != task.folder.name:
        yield f"its manifest is of scan {manifest.scan_key}"
    for name in sorted(present - set(manifest.sha256)):
        yield f"{name} does not belong here"
    for name, digest in manifest.sha256.items():
        if name not in present:
            yield f"{name} is missing; prepare it again"
        elif task.contents and file_sha256(task.folder / name) != digest:
            yield f"{name} is damaged (its SHA-256 is not the manifest's); prepare it again"


def _source_findings(task: AuditTask, manifest: PreparedManifest) -> Iterator[str]:
    if not task.archive.is_dir():
        return  # said once for all
    video, source = task.archive / str(task.row["path"]), manifest.source
    states = {"video": (video, (source.bytes, source.modified_ns))}
    for kind, state in source.beside.items():
        states[f"{kind} file"] = (task.archive / str(task.row[f"{kind}_path"]), state)
    for kind, (path, state) in states.items():
        if not path.is_file():
            yield f"the {kind} is not in the archive any more"
        elif (path.stat().st_size, path.stat().st_mtime_ns) != state:
            yield STATE_CHANGED.format(kind)
        elif kind == "video" and task.contents and manifest.source_sha256 not in (None, file_sha256(path)):
            yield f"{STATE_CHANGED.format(kind)}, though its size and date have not"
    if manifest.patient_key != task.row["patient_key"]:
        yield "its patient is another in the catalogue; prepare it again"


def _split_findings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["patient_key"] and row["split"]:
            sides[row["patient_key"]].add(row["split"])
    for patient, found in sorted(sides.items()):
        if len(found) > 1:
            yield Finding(f"patient {patient}", f"is on {len(found)} sides of the split: {', '.join(sorted(found))}")


def _twin_findings(groups: Iterable[list[Mapping[str, Any]]]) -> Iterator[Finding]:
    for twins in groups:
        people = {row["patient_key"] or row["scan_key"] for row in twins}
        sides = {row["split"] for row in twins if row["split"]}
        if len(people) > 1 or len(sides) > 1:
            keys = sorted(str(row["scan_key"]) for row in twins)
            where = "two patients" if len(people) > 1 else "two sides of the split"
            yield Finding(f"scan {keys[0]}", f"is the same video as scan {', '.join(keys[1:])}, under {where}")
