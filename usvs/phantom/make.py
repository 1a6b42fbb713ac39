"""Makes a phantom archive: many scans, several processes, the truth in a folder of its own."""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from usvs.config import PhantomSettings
from usvs.errors import ConfigError, DataError
from usvs.phantom.media import write_gaze, write_planes, write_video
from usvs.phantom.scan import PhantomScan
from usvs.phantom.script import plane_rows
from usvs.phantom.truth import gather_truth, truth_folder, write_truth
from usvs.phantom.voice import espeak_paths
from usvs.progress import track

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
        jobs = [
            _Job(seed, patient, scan, settings, staging / "archive", staging / "truth")
            for patient in range(1, patients + 1)
            for scan in range(1, settings.scans_per_patient + 1)
        ]
        frames = sum(track(_run(jobs, workers), "making phantom scans", len(jobs)))
        size = sum(file.stat().st_size for file in (staging / "archive").rglob("*") if file.is_file())
        _put_in_place(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return PhantomSummary(
        patients, len(jobs), frames, frames / settings.frame_rate_hz, size, time.monotonic() - started
    )


def _check(out: Path, patients: int, seed: int, workers: int | None) -> None:
    for name, value, least in (("patients", patients, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ConfigError(f"phantom: wanted {name} of at least {least}, got {value}")
    for folder in (out, truth_folder(out)):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"phantom: '{folder}' is a file, wanted a folder that is empty or does not exist")
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"phantom: '{folder}' is not empty; name another folder or remove it first")


def _staging_folder(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"phantom: cannot write to '{out.parent}': {error.strerror}") from None


def _put_in_place(staging: Path, out: Path) -> None:
    for made, wanted in ((staging / "truth", truth_folder(out)), (staging / "archive", out)):
        if wanted.is_dir():
            wanted.rmdir()
        made.rename(wanted)


def _run(jobs: list[_Job], workers: int | None) -> Iterator[int]:
    """Yield each scan's number of frames as it is done."""
    count = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if count == 1:
        yield from map(make_scan, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_pin_threads) as pool:
        futures = [pool.submit(make_scan, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _pin_threads() -> None:
    import cv2

    cv2.setNumThreads(1)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def make_scan(job: _Job) -> int:
    """Write one scan and its truth; return its number of frames."""
    settings, name = job.settings, f"patient_{job.patient:03d}/scan_{job.scan}"
    scan = PhantomScan(job.seed, job.patient, job.scan, settings)
    media, truth = job.archive / name, job.truth / name
    media.parent.mkdir(parents=True, exist_ok=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    sounds, landmarks = scan.sounds(), scan.landmarks()
    gaze = scan.gaze(landmarks)
    write_gaze(media.with_suffix(".gaze.csv"), gaze)
    write_planes(media.with_suffix(".planes.csv"), plane_rows(scan.script, settings.frame_rate_hz))
    write_truth(truth.with_suffix(".npz"), gather_truth(scan, landmarks, gaze, sounds.narration))
    return write_video(
        media.with_suffix(".mp4"),
        scan.pictures(),
        settings.frame_rate_hz,
        settings.video_crf,
        sounds.recorded,
        settings.sound_rate_hz,
    )
