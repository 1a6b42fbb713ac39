"""What `usvs index` and `usvs prepare` would do and need, from one scan (``--dry-run``)."""

import math
import time
from itertools import islice
from pathlib import Path

from usvs.archive.discovery import discover_scans
from usvs.errors import DataError, UsvsError
from usvs.media.video import read_video_info
from usvs.media.video_info import VideoDecodeStats
from usvs.store.catalogue import OK
from usvs.store.crops import check_gaze, iter_prepared_frames
from usvs.store.folder import CATALOGUE, PREPARED, check_store_folder, read_archive_path
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.prepare_scan import PrepareTask, check_source, is_up_to_date
from usvs.store.settings import IndexSettings, PrepareSettings
from usvs.store.tables import read_rows
from usvs.store.writer import encode_frame
from usvs.utils.preview import Preview, check_disk, free_bytes, peak_memory_bytes, total_memory_bytes
from usvs.utils.process_pool import count_workers
from usvs.utils.progress import track
from usvs.utils.text import duration_text, printable, quantity, size_text

SAMPLE_FRAMES = 64  # decoded and encoded of one scan
BYTES_PER_FRAME = 36  # of the columns: time, gaze, label, offset and checksum
MAX_LISTED = 5
MEMORY_OF_PROCESS = 150e6  # of each worker beside this one


def preview_index(
    archive: str | Path,
    store: str | Path,
    settings: IndexSettings,
    *,
    label_file: str | Path | None = None,
    class_file: str | Path | None = None,
    moved: bool = False,
    workers: int | None = None,
) -> Preview:
    """Find the scans of an archive, inspect one, and return what `index_archive` would do and need.

    Arguments are those of `index_archive`. Nothing is written.

    Raises:
        DataError: if the archive has no video.
    """
    archive, store = Path(archive), Path(store)
    refusals: list[UsvsError] = []
    try:
        check_store_folder(archive, store, moved)
    except UsvsError as error:
        refusals.append(error)
    files = (None if file is None else Path(file) for file in (label_file, class_file))
    try:
        found = discover_scans(archive, settings.labels, *files)
    except DataError as error:
        raise (refusals or [error])[0] from None
    started = time.perf_counter()
    first = found.scans[0]
    parts = (settings.clips, settings.voice_activity, settings.gaze, settings.labels)
    metadata = inspect_scan(IndexTask(archive.resolve(), first, *parts))
    spent, size = time.perf_counter() - started, max(metadata.bytes, 1)
    total = sum(_file_bytes(archive / scan.path) for scan in found.scans)
    processes = count_workers(workers, len(found.scans))
    seconds = spent * total / size / processes
    disk = 4096 * len(found.scans)  # a row of the catalogue, and its clips
    what = f"unusable: {metadata.reason}" if metadata.reason else f"usable, inspected in {duration_text(spent)}"
    if found.label_table.problem:
        refusals.append(DataError(f"'{found.label_table.file}': {found.label_table.problem}"))
    refusals += check_disk(store, disk)
    figures = {
        "scans": len(found.scans),
        "missing": len(found.missing),
        "archive_bytes": total,
        "seconds": seconds,
        "disk_bytes": disk,
        "memory_bytes": _memory(processes),
    }
    lines = (
        f"scans: {quantity(len(found.scans), 'video')}, {size_text(total)};"
        f" {len(found.missing)} named in manifest.csv do not exist",
        printable(f"the first, '{first.path}': {what}"),
        f"memory: {size_text(_memory(processes))} of {size_text(total_memory_bytes())}, {_of_processes(processes)}",
        f"disk: {size_text(disk)}, {size_text(free_bytes(store))} free",
        f"time: about {duration_text(seconds)}, less for scans that are in the catalogue already",
    )
    return Preview("index", lines, figures, tuple(refusals))


def preview_prepare(store: str | Path, settings: PrepareSettings, *, workers: int | None = None) -> Preview:
    """Decode some frames of one scan, and return what `prepare_store` would do and need.

    Arguments are those of `prepare_store`. Nothing is written, and no lock is taken.

    Raises:
        DataError: if `store` is not a store, or its archive does not exist.
    """
    store = Path(store)
    archive = read_archive_path(store)
    catalogue, prepared = store.resolve() / CATALOGUE, store.resolve() / PREPARED
    rows = [row for row in read_rows(catalogue) if row["status"] == OK]
    new, unchanged, frames, speech_seconds = list[PrepareTask](), 0, 0, 0.0
    failing: list[str] = []
    for row in track(rows, "checking scans"):
        task = PrepareTask(archive, prepared, row, settings)
        try:
            check_source(task)
            check_gaze(settings, bool(row["gaze"]))
        except DataError as error:
            failing.append(printable(f"{row['path']}: {error}"))
            continue
        if is_up_to_date(task):
            unchanged += 1
            continue
        new.append(task)
        frames += int(str(row["frames"]))
        speech_seconds += float(str(row["duration_seconds"])) if row["sound"] != "none" else 0.0
    per_frame, frame_seconds = _sample(new[0], failing) if new else (0.0, 0.0)
    processes = count_workers(workers, len(new))
    disk = frames * (per_frame + BYTES_PER_FRAME) + 2 * settings.rate_hz * speech_seconds
    seconds = frames * frame_seconds / processes
    refusals: list[UsvsError] = [DataError(f"scan {reason}") for reason in failing[:MAX_LISTED]]
    if len(failing) > MAX_LISTED:
        refusals.append(DataError(f"{len(failing) - MAX_LISTED} more scans"))
    if not new and not unchanged:
        refusals.append(DataError(f"store '{store}': no scan can be prepared"))
    refusals += check_disk(store, disk)
    figures = {
        "scans": len(rows),
        "to_prepare": len(new),
        "unchanged": unchanged,
        "failing": len(failing),
        "frames": frames,
        "seconds": seconds,
        "disk_bytes": math.ceil(disk),
        "memory_bytes": _memory(processes),
    }
    lines = (
        f"scans: {len(new)} of {quantity(len(rows), 'scan')} to prepare ({frames} frames), {unchanged} unchanged,"
        f" {len(failing)} would fail",
        f"frames: {settings.frame_pixels} x {settings.frame_pixels} pixels, {settings.codec},"
        f" {size_text(per_frame)} a frame",
        f"memory: {size_text(_memory(processes))} of {size_text(total_memory_bytes())}, {_of_processes(processes)}",
        f"disk: {size_text(disk)}, {size_text(free_bytes(store))} free",
        f"time: about {duration_text(seconds)}, and the decoding of the sound",
    )
    return Preview("prepare", lines, figures, tuple(refusals))


def _sample(task: PrepareTask, failing: list[str]) -> tuple[float, float]:
    """Return bytes and seconds per frame of a scan's first frames; a scan that cannot be read is added to `failing`."""
    video = task.archive / str(task.row["path"])
    started, sizes = time.perf_counter(), list[int]()
    try:
        info, decoded = read_video_info(video), VideoDecodeStats()
        frames = iter_prepared_frames(video, info, decoded, task.settings, task.crop, task.geometry)
        for _, picture in islice(frames, SAMPLE_FRAMES):
            sizes.append(len(encode_frame(picture, task.settings)))
    except DataError as error:
        failing.append(printable(f"{task.row['path']}: {error}"))
    count = max(len(sizes), 1)
    return sum(sizes) / count, (time.perf_counter() - started) / count


def _of_processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _memory(processes: int) -> float:
    return peak_memory_bytes() + (processes - 1) * MEMORY_OF_PROCESS


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
