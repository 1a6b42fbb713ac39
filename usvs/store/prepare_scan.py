"""Preparation of one scan: decode the video, convert sound, gaze and labels, and write them to the store."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import Alignment
from usvs.archive.gaze import average_gaze_per_frame, read_gaze
from usvs.archive.labels import read_plane_labels
from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.box import Box
from usvs.media.sector_geometry import SectorGeometry
from usvs.media.video import read_video_info
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.store.crops import check_gaze, iter_prepared_frames, shown_box
from usvs.store.prepared_manifest import FileState, PreparedManifest
from usvs.store.scan_task import ScanTask
from usvs.store.settings import PrepareSettings
from usvs.store.staleness import catalogue_alignment, catalogue_source, changed_file, stale_reason
from usvs.store.writer import write_prepared_scan
from usvs.utils.hashing import file_sha256
from usvs.utils.regular_files import check_regular

STORE_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # every scan that follows would fail too
LARGE_FILES = frozenset({"frames.bin", "speech.npy"})
MAX_LOST_FRACTION = 0.05  # of the frames, missing or damaged; a scan that loses more is not prepared


@dataclass(frozen=True, repr=False)  # no repr: names of the archive must not appear in the logs of a cluster
class PrepareTask(ScanTask):
    """One scan to prepare.

    Attributes:
        settings: of the prepared scans.
        verify: hash all files of an earlier preparation; False: compare sizes, and hash all but frames and speech.
    """

    settings: PrepareSettings
    verify: bool = True

    @property
    def crop(self) -> Box:
        """The inscribed crop of the sector."""
        return Box(*(int(self.row[f"sector_{side}"]) for side in ("left", "top", "right", "bottom")))

    @property
    def geometry(self) -> SectorGeometry | None:
        """Edges and curves of the sector; None if unknown."""
        text = self.row["sector_geometry"]
        return None if text is None else SectorGeometry.from_json(text)

    def shown(self, info: VideoInfo) -> Box:
        """Return the part of the picture that the prepared frames show."""
        return shown_box(self.settings, self.crop, self.geometry, info)

    @property
    def alignment(self) -> Alignment:
        """Alignment of sound and gaze with the video."""
        return catalogue_alignment(self.row)

    def companion(self, kind: str) -> Path | None:
        """Return the companion file of a kind (sound, gaze, planes), if there is a usable one."""
        is_used = self.row["sound"] == "beside" if kind == "sound" else bool(self.row[kind])
        return self.archive / str(self.row[f"{kind}_path"]) if is_used else None

    def names(self, kind: str) -> tuple[str, str]:
        """Return the paths in the archive of the video and of a companion file, by which rows of tables are chosen."""
        return str(self.row["path"]), str(self.row[f"{kind}_path"])


@dataclass(frozen=True)
class PrepareResult:
    """The result of one scan.

    Attributes:
        frames: number of frames written.
        seconds: duration written.
        is_unchanged: the scan was prepared already and is up to date.
        repaired: the file that was damaged or missing, for which a scan that is otherwise up to date was written again.
        failure: why it could not be prepared.
        is_store_full: whether every other scan would fail in the same way.
        difference: how decoding differed from the catalogue.
    """

    frames: int = 0
    seconds: float = 0.0
    is_unchanged: bool = False
    repaired: str | None = None
    failure: str | None = None
    is_store_full: bool = False
    difference: str | None = None


def prepare_scan(task: PrepareTask) -> PrepareResult:
    """Prepare one scan; an error is the `failure` of the result, never an exception."""
    try:
        return _prepare(task)
    except DataError as error:
        return PrepareResult(failure=str(error))
    except OSError as error:
        if error.errno in STORE_FULL_ERRORS:
            return PrepareResult(failure=f"cannot be written: {error.strerror}", is_store_full=True)
        return PrepareResult(failure=f"cannot be read or written: {error.strerror}")
    except Exception as error:
        # one scan must not end the work on the others; the text of the exception may contain a path
        return PrepareResult(failure=f"unexpected {type(error).__name__}")


def _prepare(task: PrepareTask) -> PrepareResult:
    video, row = task.archive / str(task.row["path"]), task.row
    source = check_source(task)
    previous = _up_to_date(task)
    damaged = None if previous is None else damaged_file(task.folder, previous, task.verify)
    if previous is not None and damaged is None:
        return PrepareResult(is_unchanged=True)
    info, decoded = read_video_info(video), VideoDecodeStats()
    manifest = write_prepared_scan(
        task.folder,
        scan_key=row["scan_key"],
        patient_key=row["patient_key"],
        frames=_iter_checked_frames(video, info, task, decoded, source),
        speech=_read_speech(task, video, info),
        gaze=_read_gaze_track(task, info),
        planes=_read_plane_track(task, info),
        settings=task.settings,
        sector=task.crop,
        geometry=row["sector_geometry"],
        source=source,
        duration_seconds=info.timing.duration_seconds,
        alignment=task.alignment,
        gaze_degree=_gaze_degree(task, info),
        source_sha256=file_sha256(video),
    )
    return PrepareResult(
        manifest.frames,
        manifest.duration_seconds,
        repaired=damaged,
        difference=_difference(row["frames"], decoded),
    )


def check_source(task: PrepareTask) -> FileState:
    """Return the state of a scan's files, which must be that of the catalogue.

    Raises:
        DataError: naming the file that has changed or does not exist.
    """
    source = _source_state(task, task.archive / str(task.row["path"]))
    if kind := changed_file(catalogue_source(task.row), source):
        raise DataError(f"the {kind} has changed since 'usvs index': index the archive again")
    return source


def is_up_to_date(task: PrepareTask) -> bool:
    """Return whether a scan is prepared from the same files and settings, by the sizes of what was written."""
    manifest = _up_to_date(task)
    return manifest is not None and damaged_file(task.folder, manifest, verify=False) is None


def _iter_checked_frames(
    video: Path, info: VideoInfo, task: PrepareTask, decoded: VideoDecodeStats, source: FileState
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    yield from iter_prepared_frames(video, info, decoded, task.settings, task.crop, task.geometry)
    if _source_state(task, video) != source:
        raise DataError("a file of the scan has changed while it was prepared: index the archive again")
    # raised while the writer iterates, so that it removes what it has written of the scan
    lost = abs(int(task.row["frames"]) - decoded.frames) + decoded.damaged_frames
    if lost > MAX_LOST_FRACTION * task.row["frames"]:
        raise DataError(str(_difference(task.row["frames"], decoded)))


def _difference(expected: int, decoded: VideoDecodeStats) -> str | None:
    if decoded == VideoDecodeStats(frames=expected):
        return None
    return (
        f"expected {expected} frames, decoded {decoded.frames}, of which {decoded.damaged_frames} are damaged; "
        f"{decoded.misplaced_frames} frames out of order were dropped, {decoded.damaged_packets} packets not decoded"
    )


def _read_speech(task: PrepareTask, video: Path, info: VideoInfo) -> NDArray[np.int16] | None:
    if task.row["sound"] == "none":
        return None
    rate = task.settings.rate_hz
    waveform = read_audio(
        video,
        task.companion("sound"),
        rate,
        info.timing.start_seconds,
        offset_seconds=task.alignment.sound_offset_seconds,
        drift_ppm=task.alignment.sound_drift_ppm,
        max_seconds=info.timing.duration_seconds,
    )
    samples = np.zeros(int(np.ceil(info.timing.duration_seconds * rate)), np.int16)
    kept = waveform[: len(samples)]
    samples[: len(kept)] = np.clip(np.round(kept * 32768.0), -32768, 32767)
    return samples


def _read_gaze_track(task: PrepareTask, info: VideoInfo) -> Any:
    path = task.companion("gaze")
    if path is None:
        return None
    check_gaze(task.settings, has_gaze=True)
    samples, shown = read_gaze(path, task.alignment.gaze, task.names("gaze")), task.shown(info)
    return lambda seconds: average_gaze_per_frame(samples, seconds, shown, info.width, info.height)


def _gaze_degree(task: PrepareTask, info: VideoInfo) -> tuple[float, float] | None:
    if not task.row["gaze"]:
        return None
    across, down = task.alignment.gaze.degree_size
    shown = task.shown(info)
    return across * info.width / shown.width, down * info.height / shown.height


def _read_plane_track(task: PrepareTask, info: VideoInfo) -> Any:
    path = task.companion("planes")
    if path is None:
        return None
    names = task.names("planes")
    if info.container == "dicom":  # frames are numbered in the file, whether they can be decoded or not
        return read_plane_labels(path, info.timing.seconds, names).at
    return lambda seconds: read_plane_labels(path, _number_frames(seconds, info), names).at(seconds)


def _number_frames(shown: NDArray[np.float64], info: VideoInfo) -> NDArray[np.float64]:
    """Return the times of the frames that labels count: those that were decoded, then times after the last one."""
    missing = info.frames - len(shown)
    return np.concatenate([shown, shown[-1] + np.arange(1, missing + 1) / info.timing.rate_hz])


def _source_state(task: PrepareTask, video: Path) -> FileState:
    paths = {"video": video} | {kind: task.companion(kind) for kind in ("sound", "gaze", "planes")}
    states: dict[str, tuple[int, int]] = {}
    for kind, path in paths.items():
        try:
            if path is not None:
                status = path.stat()
                states[kind] = status.st_size, status.st_mtime_ns
        except FileNotFoundError:
            name = kind if kind == "video" else f"{kind} file"
            raise DataError(f"the {name} does not exist in the archive any more: index the archive again") from None
    size, modified = states.pop("video")
    return FileState(bytes=size, modified_ns=modified, beside=states)


def _up_to_date(task: PrepareTask) -> PreparedManifest | None:
    """Return the manifest of an earlier preparation from the same files with the same settings."""
    try:
        manifest = PreparedManifest.load(task.folder)
    except DataError:
        return None
    is_current = manifest.settings == task.settings and stale_reason(manifest, task.row) is None
    return manifest if is_current else None


def damaged_file(folder: Path, manifest: PreparedManifest, verify: bool) -> str | None:
    """Return the first file of a prepared scan that is missing or differs from its manifest.

    Args:
        folder: of the prepared scan.
        manifest: of the scan.
        verify: hash all files; False: frames and speech are compared by their sizes only.
    """
    for name, digest in manifest.sha256.items():
        path = folder / name
        try:
            if check_regular(path) != manifest.bytes.get(name):
                return name
            if (verify or name not in LARGE_FILES) and file_sha256(path) != digest:
                return name
        except OSError:
            return name
    return None
