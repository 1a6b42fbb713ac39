"""From the archive to the prepared store, once for each scan."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import Alignment
from usvs.archive.gaze import average_gaze_per_frame, read_gaze
from usvs.archive.labels import read_plane_labels
from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.box import Box
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.store.catalogue import OK
from usvs.store.dask_cluster import Cluster
from usvs.store.folder import CATALOGUE, PREPARED, archive_of, locked
from usvs.store.prepared_manifest import FileState, PreparedManifest
from usvs.store.settings import PrepareSettings
from usvs.store.tables import read_rows, read_scans
from usvs.store.writer import remove_partial, write_prepared_scan
from usvs.utils.hashing import file_sha256
from usvs.utils.process_pool import run_each, run_each_on
from usvs.utils.progress import track

STORE_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # it would be so for every scan that follows
LOST_SHARE = 0.05  # of the frames, missing or damaged; a scan that loses more is not prepared


@dataclass(frozen=True, repr=False)  # names of the archive are in it, and a cluster's log is no place for them
class PrepareTask:
    """One scan to prepare: its row of the catalogue and where things lie."""

    archive: Path
    prepared: Path
    row: dict[str, Any]
    settings: PrepareSettings

    @property
    def folder(self) -> Path:
        """Where the prepared scan lies."""
        return self.prepared / str(self.row["scan_key"])

    @property
    def box(self) -> Box:
        """The inner box of the fan."""
        return Box(*(int(self.row[f"sector_{side}"]) for side in ("left", "top", "right", "bottom")))

    @property
    def alignment(self) -> Alignment:
        """How sound and gaze are brought onto the video's clock and picture."""
        return Alignment.model_validate_json(self.row["alignment"])

    def beside(self, kind: str) -> Path | None:
        """Return the file beside the video that the catalogue found usable."""
        used = self.row["sound"] == "beside" if kind == "sound" else bool(self.row[kind])
        return self.archive / str(self.row[f"{kind}_path"]) if used else None


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        failure: why it is not prepared.
        is_store_full: whether that will be so for every other scan.
        difference: how it is not as the catalogue says.
    """

    frames: int = 0
    seconds: float = 0.0
    skipped: bool = False
    failure: str | None = None
    is_store_full: bool = False
    difference: str | None = None


@dataclass
class PrepareSummary:
    """What `usvs prepare` did; scans are named by their keys.

    Attributes:
        reasons: why a scan is not prepared, by scan key.
        differences: where decoding gave other than the catalogue says, in scans prepared all the same, by scan key.
    """

    found: int = 0
    prepared: int = 0
    skipped: int = 0
    failed: int = 0
    frames: int = 0
    seconds_of_video: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)

    def count(self, scan_key: str, outcome: Outcome) -> None:
        """Add what became of a scan."""
        if outcome.failure:
            self.failed += 1
            self.reasons[scan_key] = outcome.failure
            return
        self.skipped += outcome.skipped
        self.prepared += not outcome.skipped
        self.frames += outcome.frames
        self.seconds_of_video += outcome.seconds
        if outcome.difference:
            self.differences[scan_key] = outcome.difference

    def __str__(self) -> str:
        """Return a few lines for a terminal."""
        lines = [
            f"prepare: {self.prepared} scans prepared, {self.frames} frames, {self.seconds_of_video / 60:.1f} minutes; "
            f"{self.skipped} were ready, {self.failed} failed"
        ]
        lines += [f"  not prepared: scan {key}: {reason}" for key, reason in self.reasons.items()]
        lines += [f"  note: scan {key}: {difference}" for key, difference in self.differences.items()]
        return "\n".join(lines)


def prepare_store(
    store: Path, settings: PrepareSettings, workers: int | None = None, cluster: Cluster | None = None
) -> PrepareSummary:
    """Prepare every usable scan of a store's catalogue that is not ready yet.

    Args:
        store: made by `index_archive`.
        settings: size and coding of frames, rate of speech.
        workers: processes; None is one a core.
        cluster: where to work instead, see `dask_cluster`.

    Raises:
        DataError: where `store` is no store, its archive is gone, it cannot be written, or no scan can be prepared.
    """
    archive = archive_of(store)
    catalogue, prepared = store.resolve() / CATALOGUE, store.resolve() / PREPARED
    usable = read_scans(catalogue, ["status"])["status"].to_pylist().count(OK)
    rows = (row for row in read_rows(catalogue) if row["status"] == OK)
    tasks = (PrepareTask(archive, prepared, row, settings) for row in rows)
    with locked(store):
        remove_partial(prepared)
        results = (
            run_each_on(cluster.executor, prepare_scan, tasks, cluster.workers)
            if cluster
            else run_each(prepare_scan, tasks, min(workers or os.cpu_count() or 1, max(1, usable)))
        )
        summary = PrepareSummary(found=usable)
        for task, result in track(results, "preparing scans", total=usable):
            summary.count(
                str(task.row["scan_key"]), result if isinstance(result, Outcome) else Outcome(failure=str(result))
            )
            if isinstance(result, Outcome) and result.is_store_full:
                remove_partial(prepared)
                done = summary.prepared + summary.skipped
                raise DataError(
                    f"store '{store}' {result.failure}; {done} of {usable} scans are ready, the same command goes on"
                )
        remove_partial(prepared)  # what a worker left that died
    if not summary.prepared + summary.skipped:
        first = next(iter(summary.reasons.items()), ("", "the catalogue has no usable scan"))
        raise DataError(f"no scan of store '{store}' could be prepared, the first because: {' '.join(first).strip()}")
    return summary


def prepare_scan(task: PrepareTask) -> Outcome:
    """Prepare one scan; what is wrong with it is the outcome's `failure`, never an exception."""
    try:
        return _prepare(task)
    except DataError as error:
        return Outcome(failure=str(error))
    except OSError as error:
        if error.errno in STORE_FULL:
            return Outcome(failure=f"cannot be written: {error.strerror}", is_store_full=True)
        return Outcome(failure=f"cannot be read or written: {error.strerror}")
    except Exception as error:
        # one scan's surprise must not end the work on the others; its kind and no text, which may hold a path
        return Outcome(failure=f"unexpected {type(error).__name__}")


def _prepare(task: PrepareTask) -> Outcome:
    video, row = task.archive / str(task.row["path"]), task.row
    source = _source(task, video)
    if (source.bytes, source.modified_ns) != (row["bytes"], row["modified_ns"]):
        raise DataError("the video has changed since 'usvs index'; index the archive again")
    if _is_ready(task, source):
        return Outcome(skipped=True)
    info, decoded = read_video_info(video), VideoDecodeStats()
    manifest = write_prepared_scan(
        task.folder,
        scan_key=row["scan_key"],
        patient_key=row["patient_key"],
        frames=_checked_frames(video, info, task, decoded, source),
        speech=_speech(task, video, info),
        gaze=_gaze(task, info),
        planes=_planes(task, info),
        settings=task.settings,
        sector=task.box,
        source=source,
        duration_seconds=info.timing.duration_seconds,
        alignment=task.alignment,
        gaze_degree=_gaze_degree(task, info),
        source_sha256=file_sha256(video),
    )
    return Outcome(manifest.frames, manifest.duration_seconds, difference=_difference(row["frames"], decoded))


def _checked_frames(
    video: Path, info: VideoInfo, task: PrepareTask, decoded: VideoDecodeStats, source: FileState
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    side = task.settings.frame_pixels
    for seconds, inner in iter_gray_frames(video, info, decoded, task.box):
        yield seconds, cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[misc]
    if _source(task, video) != source:
        raise DataError("a file of it has changed while it was prepared; index the archive again")
    # raised inside of the writer, so that nothing of such a scan is left in the store
    lost = abs(int(task.row["frames"]) - decoded.frames) + decoded.damaged_frames
    if lost > LOST_SHARE * task.row["frames"]:
        raise DataError(str(_difference(task.row["frames"], decoded)))


def _difference(expected: int, decoded: VideoDecodeStats) -> str | None:
    if decoded == VideoDecodeStats(frames=expected):
        return None
    return (
        f"{decoded.frames} frames decoded of {expected} in the catalogue, {decoded.damaged_frames} of them damaged; "
        f"{decoded.misplaced_frames} out of order left out, {decoded.damaged_packets} packets not decodable"
    )


def _speech(task: PrepareTask, video: Path, info: VideoInfo) -> NDArray[np.int16] | None:
    if task.row["sound"] == "none":
        return None
    rate = task.settings.rate_hz
    waveform = read_audio(
        video,
        task.beside("sound"),
        rate,
        info.timing.start_seconds,
        offset_seconds=task.alignment.sound_offset_seconds,
        drift_ppm=task.alignment.sound_drift_ppm,
    )
    samples = np.zeros(int(np.ceil(info.timing.duration_seconds * rate)), np.int16)
    kept = waveform[: len(samples)]
    samples[: len(kept)] = np.clip(np.round(kept * 32768.0), -32768, 32767)
    return samples


def _gaze(task: PrepareTask, info: VideoInfo) -> Any:
    path = task.beside("gaze")
    if path is None:
        return None
    samples = read_gaze(path, task.alignment.gaze)
    return lambda seconds: average_gaze_per_frame(samples, seconds, task.box, info.width, info.height)


def _gaze_degree(task: PrepareTask, info: VideoInfo) -> tuple[float, float] | None:
    if not task.row["gaze"]:
        return None
    across, down = task.alignment.gaze.degree_size
    return across * info.width / task.box.width, down * info.height / task.box.height


def _planes(task: PrepareTask, info: VideoInfo) -> Any:
    path = task.beside("planes")
    return None if path is None else read_plane_labels(path, info.timing.seconds).at


def _source(task: PrepareTask, video: Path) -> FileState:
    paths = {"video": video} | {kind: task.beside(kind) for kind in ("sound", "gaze", "planes")}
    states: dict[str, tuple[int, int]] = {}
    for kind, path in paths.items():
        try:
            if path is not None:
                status = path.stat()
                states[kind] = status.st_size, status.st_mtime_ns
        except FileNotFoundError:
            what = kind if kind == "video" else f"{kind} file"
            raise DataError(f"the {what} is not in the archive any more; index the archive again") from None
    size, modified = states.pop("video")
    return FileState(bytes=size, modified_ns=modified, beside=states)


def _is_ready(task: PrepareTask, source: FileState) -> bool:
    try:
        manifest = PreparedManifest.load(task.folder)
    except DataError:
        return False
    box = task.box
    return (
        manifest.source == source
        and "frame_crc32.npy" in manifest.sha256  # earlier versions wrote none, and DALI reads no frame without
        and manifest.settings == task.settings
        and manifest.sector == (box.left, box.top, box.right, box.bottom)
        and manifest.patient_key == task.row["patient_key"]
        and manifest.alignment == task.alignment
    )
