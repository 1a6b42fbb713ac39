"""`usvs prepare`: from the archive to the prepared scans of its store."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usvs.config import Profile, override_settings
from usvs.errors import DataError, ResourceError
from usvs.store.catalogue import OK
from usvs.store.dask_cluster import Cluster
from usvs.store.folder import CATALOGUE, PREPARED, lock_store, read_archive_path
from usvs.store.prepare_failures import write_failures
from usvs.store.prepare_scan import PrepareResult, PrepareTask, prepare_scan
from usvs.store.settings import PrepareSettings, prepare_profile
from usvs.store.tables import read_rows, read_scans
from usvs.store.writer import remove_partial
from usvs.utils.atomic_files import writing
from usvs.utils.process_pool import count_workers, map_tasks, map_tasks_on
from usvs.utils.progress import track
from usvs.utils.text import printable, quantity


@dataclass
class PrepareSummary:
    """What `prepare_store` did.

    Attributes:
        found: usable scans of the catalogue.
        prepared: scans that were written.
        unchanged: scans that were prepared already and are up to date.
        failed: scans that could not be prepared.
        frames: number of frames written.
        seconds_of_video: duration of the scans written.
        failures: why a scan could not be prepared, by scan key.
        repaired: the damaged file for which a scan was prepared again, by scan key.
        differences: how decoding differed from the catalogue, for scans that were written all the same, by scan key.
        paths: path in the archive of each scan that these name: for the terminal of its owner only.
    """

    found: int = 0
    prepared: int = 0
    unchanged: int = 0
    failed: int = 0
    frames: int = 0
    seconds_of_video: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    repaired: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def add(self, scan_key: str, path: str, result: PrepareResult) -> None:
        """Add the result of one scan."""
        if result.failure or result.difference or result.repaired:
            self.paths[scan_key] = printable(path)
        if result.failure:
            self.failed += 1
            self.failures[scan_key] = result.failure
            return
        self.unchanged += result.is_unchanged
        self.prepared += not result.is_unchanged
        self.frames += result.frames
        self.seconds_of_video += result.seconds
        if result.repaired:
            self.repaired[scan_key] = result.repaired
        if result.difference:
            self.differences[scan_key] = result.difference

    def __str__(self) -> str:
        """Return the lines for a terminal; they name scans by their paths in the archive, as those of `index` do."""
        lines = [
            f"prepare: {quantity(self.prepared, 'scan')} prepared ({quantity(self.frames, 'frame')}, "
            f"{self.seconds_of_video / 60:.1f} minutes of video), {self.unchanged} unchanged, {self.failed} failed"
        ]
        lines += [f"  failed: {self.paths[key]}: {failure}" for key, failure in self.failures.items()]
        lines += [
            f"  repaired: {self.paths[key]}: {name} was damaged or missing" for key, name in self.repaired.items()
        ]
        lines += [f"  note: {self.paths[key]}: {difference}" for key, difference in self.differences.items()]
        return "\n".join(lines)


def prepare_store(
    store: str | Path,
    *,
    profile: Profile | PrepareSettings = "paper",
    workers: int | None = None,
    cluster: Cluster | None = None,
    verify: bool = True,
    **overrides: Any,
) -> PrepareSummary:
    """Prepare every usable scan of a store that is not up to date: decode it once, write frames, speech, gaze, labels.

    A scan whose files are missing or differ from their hashes is prepared again. Scans that fail are recorded in the
    store: datasets leave them out.

    Args:
        store: a folder made by `index_archive`.
        profile: name of a profile, or settings.
        workers: number of processes; None is one per core.
        cluster: runs the work instead of local processes, see `dask_cluster`.
        verify: hash all files of scans that are prepared already (about a second per hour of video); False: compare
            sizes, and hash all but frames and speech.
        **overrides: settings by name, for example ``codec="raw"``, see `usvs.store.settings.PrepareSettings`.

    Raises:
        ConfigError: for a setting that is unknown or out of range.
        DataError: if `store` is not a store, its archive does not exist, or no scan is prepared.
        ResourceError: if the store is not writable, or its disk is full.
    """
    store = Path(store)
    base = profile if isinstance(profile, PrepareSettings) else prepare_profile(profile)
    settings = override_settings(base, **overrides)
    archive = read_archive_path(store)
    catalogue, prepared = store.resolve() / CATALOGUE, store.resolve() / PREPARED
    usable = read_scans(catalogue, ["status"])["status"].to_pylist().count(OK)
    rows = (row for row in read_rows(catalogue) if row["status"] == OK)
    tasks = (PrepareTask(archive, prepared, row, settings, verify) for row in rows)
    with lock_store(store):
        remove_partial(prepared)
        results = (
            map_tasks_on(cluster.executor, prepare_scan, tasks, cluster.workers)
            if cluster
            else map_tasks(prepare_scan, tasks, count_workers(workers, usable))
        )
        summary = PrepareSummary(found=usable)
        try:
            with closing(results):
                for task, result in track(results, "preparing scans", total=usable):
                    result = result if isinstance(result, PrepareResult) else PrepareResult(failure=str(result))
                    summary.add(str(task.row["scan_key"]), str(task.row["path"]), result)
                    if result.is_store_full:
                        raise _full_error(store, result, summary)
        finally:
            remove_partial(prepared)  # of worker processes that died or were stopped
        if summary.prepared + summary.unchanged:
            _record_failures(store, summary)
    if not summary.prepared + summary.unchanged:
        key, failure = next(iter(summary.failures.items()), ("", "the catalogue has no usable scan"))
        first = f"{summary.paths[key]}: {failure}" if key else failure
        raise DataError(f"store '{store}': no scan could be prepared; the first failure: {first}")
    return summary


def _record_failures(store: Path, summary: PrepareSummary) -> None:
    with writing(f"store '{store}'"):
        write_failures(store, summary.failures)


def _full_error(store: Path, result: PrepareResult, summary: PrepareSummary) -> ResourceError:
    ready = summary.prepared + summary.unchanged
    return ResourceError(
        f"store '{store}' {result.failure}; {ready} of {quantity(summary.found, 'scan')} are prepared; "
        "free some space, then run the same command again to resume"
    )
