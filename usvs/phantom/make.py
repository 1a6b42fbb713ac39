"""Makes a phantom archive: many scans, several processes, the truth in a folder of its own."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from usvs.errors import ConfigError, DataError
from usvs.phantom.ground_truth import gather_ground_truth, ground_truth_folder, write_ground_truth
from usvs.phantom.media import write_gaze, write_planes, write_video
from usvs.phantom.scan import PhantomScan
from usvs.phantom.script import plane_rows
from usvs.phantom.settings import PhantomSettings
from usvs.phantom.voice import espeak_paths
from usvs.utils.process_pool import map_tasks
from usvs.utils.progress import track


@dataclass(frozen=True)
class PhantomSummary:
    """What was made: counts, seconds of video, bytes on disk, and the seconds it took."""

    patients: int
    scans: int
    frames: int
    video_seconds: float
    bytes: int
    elapsed_seconds: float


@dataclass(frozen=True)
class _Job:
    seed: int
    patient: int
    scan: int
    settings: PhantomSettings
    archive: Path
    truth: Path


def make_phantom(
    out: Path, patients: int, seed: int, settings: PhantomSettings | None = None, workers: int | None = None
) -> PhantomSummary:
    """Write a phantom archive to `out` and its truth to the folder `<out>.truth` beside it.

    Both appear at once, when all is written: an interrupted run leaves nothing behind under those names. The same seed
    gives the same pixels and samples before encoding, and a patient is the same however many are made.

    Args:
        out: folder that is made; it must not exist or be empty.
        patients: how many, at least one.
        seed: not negative.
        settings: defaults where left out.
        workers: processes; as many as there are cores where left out.

    Raises:
        ConfigError: for fewer than one patient, a negative seed, or fewer than one worker.
        DataError: where `out` or its truth folder holds something, or cannot be written.
        MissingDependencyError: without espeakng-loader.
    """
    started = time.monotonic()
    settings = settings or PhantomSettings()
    out = out.expanduser().absolute()
    _check(out, patients, seed, workers)
    espeak_paths()
    staging = _staging_folder(out)
    try:
        jobs = _jobs(staging, patients, seed, settings)
        frames = sum(track(_run(jobs, workers), "making phantom scans", len(jobs)))
        size = sum(file.stat().st_size for file in (staging / "archive").rglob("*") if file.is_file())
        _put_in_place(staging, out)
    except OSError as error:
        raise DataError(f"phantom: cannot write below '{out.parent}': {error.strerror or error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    video_seconds = frames / settings.frame_rate_hz
    return PhantomSummary(patients, len(jobs), frames, video_seconds, size, time.monotonic() - started)


def _jobs(staging: Path, patients: int, seed: int, settings: PhantomSettings) -> list[_Job]:
    return [
        _Job(seed, patient, scan, settings, staging / "archive", staging / "truth")
        for patient in range(1, patients + 1)
        for scan in range(1, settings.scans_per_patient + 1)
    ]


def _check(out: Path, patients: int, seed: int, workers: int | None) -> None:
    for name, value, least in (("patients", patients, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ConfigError(f"phantom: expected {name} of at least {least}, got {value}")
    for folder in (out, ground_truth_folder(out)):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"phantom: '{folder}' is a file, expected a folder that is empty or does not exist")
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"phantom: '{folder}' is not empty; name another folder or remove it first")


def _staging_folder(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"phantom: cannot write to '{out.parent}': {error.strerror}") from None


def _put_in_place(staging: Path, out: Path) -> None:
    for made, expected in ((staging / "truth", ground_truth_folder(out)), (staging / "archive", out)):
        if expected.is_dir():
            expected.rmdir()
        made.rename(expected)


def _run(jobs: list[_Job], workers: int | None) -> Iterator[int]:
    """Yield each scan's number of frames as it is done."""
    for _, frames in map_tasks(make_scan, jobs, workers):
        if isinstance(frames, DataError):
            raise DataError("phantom: a process that made a scan died, perhaps out of memory; try fewer workers")
        yield frames


def make_scan(job: _Job) -> int:
    """Write one scan and its truth; return its number of frames."""
    cv2.setNumThreads(1)  # each scan has a core of its own
    settings, name = job.settings, f"patient_{job.patient:03d}/scan_{job.scan}"
    scan = PhantomScan(job.seed, job.patient, job.scan, settings)
    media, truth = job.archive / name, job.truth / name
    media.parent.mkdir(parents=True, exist_ok=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    sounds, landmarks = scan.sounds(), scan.landmarks()
    gaze = scan.gaze(landmarks)
    write_gaze(media.with_suffix(".gaze.csv"), gaze)
    write_planes(media.with_suffix(".planes.csv"), plane_rows(scan.script, settings.frame_rate_hz))
    write_ground_truth(truth.with_suffix(".npz"), gather_ground_truth(scan, landmarks, gaze, sounds.narration))
    return write_video(
        media.with_suffix(".mp4"),
        scan.pictures(),
        settings.frame_rate_hz,
        settings.video_crf,
        sounds.recorded,
        settings.sound_rate_hz,
    )
