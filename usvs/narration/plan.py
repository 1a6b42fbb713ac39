"""Which clips each scan of a narrated archive shows, and when."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from usvs.narration.labelled_videos import LabelledVideo
from usvs.narration.settings import NarrateSettings
from usvs.utils.seeds import between, stream

Item = TypeVar("Item")

JOINED_SECONDS = 120.0
VARIATION = (0.8, 1.2)  # of the time for which a clip is played
MIN_LAST_SECONDS = 1.0  # a shorter rest at the end of a scan continues the clip before


@dataclass(frozen=True)
class Played:
    """A video played to and fro for the frames `start` to `stop` (exclusive).

    `phase` is where it begins: between 0 and 1 on the way to and back.
    """

    video: LabelledVideo
    start: int
    stop: int
    phase: float


@dataclass(frozen=True)
class ScanPlan:
    """One scan.

    Attributes:
        folder: of the patient in the archive.
        name: of the scan's files, without suffix.
        played: clips in order, without gaps.
    """

    folder: str
    name: str
    played: tuple[Played, ...]


def plan_scans(videos: Sequence[LabelledVideo], seed: int, settings: NarrateSettings) -> list[ScanPlan]:
    """Draw the scans of an archive.

    Args:
        videos: at least one.
        seed: of the archive.
        settings: `scans` decides whether scans join clips of all patients.
    """
    if settings.scans is not None:
        return list(_plan_joined(videos, settings.scans, seed, settings))
    videos_of: dict[str, list[LabelledVideo]] = defaultdict(list)
    for video in videos:
        videos_of[video.patient].append(video)
    folders = folder_names(videos_of)
    return [
        _plan_scan(folders[patient], f"scan_{scan}", _shuffled_rounds(own, rng), len(own), rng, settings)
        for patient, own in videos_of.items()
        for scan in range(1, settings.scans_per_patient + 1)
        for rng in [stream(seed, "patient", patient, "scan", scan, "plan")]
    ]


def folder_names(patients: Iterable[str]) -> dict[str, str]:
    """Return a folder name for each patient: its name, with a number where two would have the same folder."""
    names: dict[str, str] = {}
    for patient in patients:
        plain = re.sub(r"[^\w.+-]+", "_", patient).strip("._") or "patient"
        name, number = plain, 1
        while name.lower() in {taken.lower() for taken in names.values()}:
            number += 1
            name = f"{plain}_{number}"
        names[patient] = name
    return names


def _plan_joined(
    videos: Sequence[LabelledVideo], scans: int, seed: int, settings: NarrateSettings
) -> Iterator[ScanPlan]:
    """Join clips of all patients; every class is shown about equally often, and so is every clip of a class.

    Where kinds of examination are known, a scan is of one kind, and each kind has scans in proportion to its classes.
    """
    rng = stream(seed, "joined")
    videos_of: dict[str, dict[int, list[LabelledVideo]]] = defaultdict(lambda: defaultdict(list))
    for video in videos:
        videos_of[video.exam][video.topic].append(video)
    clips = {exam: _deal_classes(own, rng) for exam, own in videos_of.items()}
    exams = [exam for exam, own in videos_of.items() for _ in own]
    digits = max(3, len(str(scans)))
    for scan, exam in zip(range(1, scans + 1), _shuffled_rounds(exams, rng), strict=False):
        yield _plan_scan(f"joined_{scan:0{digits}d}", "scan_1", clips[exam], None, rng, settings)


def _deal_classes(videos_of: dict[int, list[LabelledVideo]], rng: np.random.Generator) -> Iterator[LabelledVideo]:
    decks = {topic: _shuffled_rounds(own, rng) for topic, own in videos_of.items()}
    return (next(decks[topic]) for topic in _shuffled_rounds(sorted(decks), rng))


def _shuffled_rounds(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    """Yield every item once in random order before any occurs again, without end."""
    while True:
        for index in rng.permutation(len(items)).tolist():
            yield items[index]


def _plan_scan(
    folder: str,
    name: str,
    clips: Iterator[LabelledVideo],
    count: int | None,
    rng: np.random.Generator,
    settings: NarrateSettings,
) -> ScanPlan:
    """Draw the clips of one scan: for `scan_seconds`, or `count` of them."""
    until = settings.scan_seconds or (JOINED_SECONDS if count is None else math.inf)
    rate, seconds = settings.frame_rate_hz, 0.0
    played: list[Played] = []
    while seconds < until and (count is None or settings.scan_seconds is not None or len(played) < count):
        video, length = next(clips), settings.clip_seconds * between(rng, VARIATION)
        stop = min(seconds + length, until)
        if until - stop < MIN_LAST_SECONDS:
            stop = until
        played.append(Played(video, round(seconds * rate), round(stop * rate), between(rng, (0.0, 1.0))))
        seconds = stop
    return ScanPlan(folder, name, tuple(played))
