"""Writing of a phantom archive by several processes, with its ground truth in a folder of its own."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from usvs.config import override_settings
from usvs.errors import ConfigError
from usvs.narration.media import write_video
from usvs.narration.new_archive import StagingFolders, check_new_archive, ground_truth_folder, new_archive
from usvs.narration.voice import espeak_paths
from usvs.phantom.ground_truth import collect_ground_truth, write_ground_truth
from usvs.phantom.media import write_gaze, write_planes
from usvs.phantom.scan import PhantomScan
from usvs.phantom.script import plane_rows
from usvs.phantom.settings import PhantomSettings
from usvs.utils.process_pool import map_or_raise
from usvs.utils.progress import track
from usvs.utils.text import printable, quantity


@dataclass(frozen=True)
class PhantomSummary:
    """What `make_phantom` wrote.

    Attributes:
        archive: folder of the archive.
        patients: number of patients.
        scans: number of scans.
        frames: number of frames of all scans.
        video_seconds: duration of all scans.
        bytes: size of the archive on disk.
        elapsed_seconds: time that it took.
    """

    archive: Path
    patients: int
    scans: int
    frames: int
    video_seconds: float
    bytes: int
    elapsed_seconds: float

    def __str__(self) -> str:
        """Return the lines for a terminal."""
        return (
            f"phantom: {quantity(self.scans, 'scan')} of {quantity(self.patients, 'patient')}, "
            f"{self.video_seconds / 60:.1f} minutes of video ({self.frames} frames), "
            f"{self.bytes / 1e6:.1f} MB, made in {self.elapsed_seconds:.0f} s\n"
            f"  archive: {printable(str(self.archive))}\n"
            f"  ground truth: {printable(str(ground_truth_folder(self.archive)))}"
        )


@dataclass(frozen=True)
class ScanTask:
    """One scan to make."""

    seed: int
    patient: int
    scan: int
    settings: PhantomSettings
    archive: Path
    ground_truth: Path


def make_phantom(
    out: str | Path,
    *,
    patients: int = 20,
    seed: int = 0,
    settings: PhantomSettings | None = None,
    workers: int | None = None,
    **overrides: Any,
) -> PhantomSummary:
    """Write a phantom archive to `out` and its ground truth to the folder ``<out>.ground_truth``.

    Both appear when they are complete: an interrupted run leaves neither. The same seed gives the same archive, and a
    patient is the same for any number of patients.

    Args:
        out: a folder that does not exist or is empty.
        patients: number of patients, at least one.
        seed: not negative.
        settings: of the archive; None: the defaults.
        workers: number of processes; None is one per core.
        **overrides: settings by name, for example ``scan_seconds=30``.

    Raises:
        ConfigError: for a number or a setting that is unknown or out of range.
        DataError: if `out` or its ground truth folder contains something.
        ResourceError: if `out` cannot be written.
        MissingDependencyError: if the package espeakng-loader is missing.
    """
    started = time.monotonic()
    settings = override_settings(settings or PhantomSettings(), **overrides)
    out = Path(out).expanduser().absolute()
    _check(out, patients, seed, workers)
    check_new_archive(out, "phantom")
    espeak_paths()
    with new_archive(out, "phantom") as staging:
        tasks = _scan_tasks(staging, patients, seed, settings)
        frames = sum(track(map_or_raise(make_scan, tasks, workers, "phantom"), "making phantom scans", len(tasks)))
        size = staging.archive_bytes()
    video_seconds = frames / settings.frame_rate_hz
    return PhantomSummary(out, patients, len(tasks), frames, video_seconds, size, time.monotonic() - started)


def _scan_tasks(staging: StagingFolders, patients: int, seed: int, settings: PhantomSettings) -> list[ScanTask]:
    return [
        ScanTask(seed, patient, scan, settings, staging.archive, staging.ground_truth)
        for patient in range(1, patients + 1)
        for scan in range(1, settings.scans_per_patient + 1)
    ]


def _check(out: Path, patients: int, seed: int, workers: int | None) -> None:
    for name, value, least in (("patients", patients, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ConfigError(f"phantom: expected {name} of at least {least}, got {value}")


def make_scan(task: ScanTask) -> int:
    """Write one scan and its ground truth; return its number of frames."""
    cv2.setNumThreads(1)  # one process per core already
    settings, name = task.settings, f"patient_{task.patient:03d}/scan_{task.scan}"
    scan = PhantomScan(task.seed, task.patient, task.scan, settings)
    media, ground_truth = task.archive / name, task.ground_truth / name
    media.parent.mkdir(parents=True, exist_ok=True)
    ground_truth.parent.mkdir(parents=True, exist_ok=True)
    sounds, landmarks = scan.sounds(), scan.landmarks()
    gaze = scan.gaze(landmarks)
    write_gaze(media.with_suffix(".gaze.csv"), gaze)
    write_planes(media.with_suffix(".planes.csv"), plane_rows(scan.script, settings.frame_rate_hz))
    write_ground_truth(ground_truth.with_suffix(".npz"), collect_ground_truth(scan, landmarks, gaze, sounds.narration))
    return write_video(
        media.with_suffix(".mp4"),
        scan.pictures(),
        settings.frame_rate_hz,
        settings.video_crf,
        sounds.recorded,
        settings.sound_rate_hz,
    )
