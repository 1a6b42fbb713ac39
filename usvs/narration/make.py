"""Writing of a narrated archive by several processes, with its ground truth in a folder of its own."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2

from usvs.config import override_settings
from usvs.errors import ConfigError, DataError
from usvs.narration.ground_truth import (
    LABELS,
    interval_rows,
    is_on_topic,
    write_archive_truth,
    write_csv,
    write_scan_truth,
)
from usvs.narration.labelled_videos import LabelledVideo, TableColumns, choose_part, read_labelled_videos
from usvs.narration.lexicon import Lexicon
from usvs.narration.lexicon_file import read_lexicon
from usvs.narration.media import write_video
from usvs.narration.narration import Pace, Shown, narrate
from usvs.narration.new_archive import StagingFolders, check_new_archive, ground_truth_folder, new_archive
from usvs.narration.pictures import Canvas, canvas_size, iter_pictures
from usvs.narration.plan import ScanPlan, plan_scans
from usvs.narration.settings import NarrateSettings
from usvs.narration.sound import record_sound
from usvs.narration.voice import Speakers, Voice, draw_voice
from usvs.utils.process_pool import map_or_raise
from usvs.utils.progress import track
from usvs.utils.seeds import stream
from usvs.utils.text import printable, quantity


@dataclass(frozen=True)
class NarrateSummary:
    """What `narrate_videos` wrote.

    Attributes:
        archive: folder of the archive.
        scans: number of scans.
        patients: number of patients or sources of the videos.
        videos_of_class: number of videos of each class of the lexicon.
        video_seconds: duration of all scans.
        remarks: number of remarks.
        on_topic: number of remarks that name what is shown.
        notes: what was left out or assumed.
        elapsed_seconds: time that it took.
    """

    archive: Path
    scans: int
    patients: int
    videos_of_class: dict[str, int]
    video_seconds: float
    remarks: int
    on_topic: int
    notes: tuple[str, ...]
    elapsed_seconds: float

    def __str__(self) -> str:
        """Return the lines for a terminal."""
        classes = ", ".join(f"{name} {count}" for name, count in self.videos_of_class.items())
        share = self.on_topic / max(1, self.remarks)
        lines = [
            f"narrate: {quantity(self.scans, 'scan')} of {quantity(self.patients, 'patient')}, "
            f"{self.video_seconds / 60:.1f} minutes, made in {self.elapsed_seconds:.0f} s",
            f"  videos of each class: {classes}",
            f"  {quantity(self.remarks, 'remark')}, {share:.0%} of them about what is shown",
            *(f"  {note}" for note in self.notes),
            f"  archive: {self.archive}",
            f"  ground truth: {ground_truth_folder(self.archive)}",
        ]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True)
class NarrateTask:
    """One scan to make."""

    plan: ScanPlan
    seed: int
    lexicon: Lexicon
    voices: tuple[Voice, ...]
    settings: NarrateSettings
    folders: StagingFolders
    write_labels: bool


@dataclass(frozen=True)
class NarratedScan:
    """Counts of a scan that was made."""

    frames: int
    remarks: int
    on_topic: int


def narrate_videos(
    videos: str | Path,
    out: str | Path,
    *,
    labels: str | Path,
    lexicon: str | Path | Lexicon,
    columns: TableColumns | None = None,
    part: Literal["train", "test"] | None = None,
    seed: int = 0,
    write_labels: bool = False,
    settings: NarrateSettings | None = None,
    workers: int | None = None,
    **overrides: Any,
) -> NarrateSummary:
    """Write an archive in which synthetic voices talk over silent videos, and its ground truth beside it.

    Both appear when they are complete: an interrupted run leaves neither. The same seed gives the same archive.

    Args:
        videos: folder of the videos; never written to.
        out: a folder that does not exist or is empty.
        labels: a csv with a column ``file`` (relative to `videos`) and one of labels.
        lexicon: what is said about each class: a file as of `read_lexicon`, or a lexicon.
        columns: names of the columns of labels, patients and kinds of examination; None: ``label``, ``patient``, none.
        part: the videos of which patients to use; the division is the same for both parts. None: all.
        seed: not negative.
        write_labels: also write what is shown to ``<scan>.labels.csv`` in the archive.
        settings: of the archive; None: the defaults.
        workers: number of processes; None is one per core.
        **overrides: settings by name, for example ``clip_seconds=8``.

    Raises:
        ConfigError: for a setting or a lexicon that is not valid.
        DataError: if the table or a video is not valid, or `out` contains something.
        ResourceError: if `out` cannot be written.
        MissingDependencyError: if the package espeakng-loader is missing.
    """
    started = time.monotonic()
    columns = columns or TableColumns()
    settings = override_settings(settings or NarrateSettings(), **overrides)
    for name, value, least in (("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ConfigError(f"narrate: expected {name} of at least {least}, got {value}")
    folder, out = Path(videos).expanduser().absolute(), Path(out).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"narrate: expected a folder of videos, got '{folder}'")
    check_new_archive(out, "narrate")
    words = lexicon if isinstance(lexicon, Lexicon) else read_lexicon(lexicon)
    _check_words(words, draw_voice(seed, 0))
    table = read_labelled_videos(folder, Path(labels), words.names, columns)
    chosen = table.videos
    if part is not None:
        chosen = choose_part(chosen, part, settings.test_fraction)
    if not chosen:
        raise DataError(f"narrate: part '{part}' has no videos: expected two or more patients of a class")
    plans = plan_scans(chosen, seed, settings)
    voices = tuple(draw_voice(seed, number) for number in range(settings.voices))
    with new_archive(out, "narrate") as folders:
        tasks = [NarrateTask(plan, seed, words, voices, settings, folders, write_labels) for plan in plans]
        made = list(track(map_or_raise(make_scan, tasks, workers, "narrate"), "narrating scans", len(tasks)))
        made_from = {
            "seed": seed,
            "part": part,
            "columns": asdict(columns),
            "settings": settings.model_dump(mode="json"),
            "voices": [asdict(voice) for voice in voices],
            "lexicon": asdict(words),
        }
        write_archive_truth(folders.ground_truth, plans, table.videos, words.names, made_from)
    notes = []
    if table.unlabelled:
        notes.append(f"{quantity(table.unlabelled, 'row')} without a label left out")
    if not table.has_patients:
        notes.append("the table names no patients: each video is a patient of its own")
    return NarrateSummary(
        archive=out,
        scans=len(plans),
        patients=len({video.patient for video in chosen}),
        videos_of_class=_count_classes(chosen, words.names),
        video_seconds=sum(scan.frames for scan in made) / settings.frame_rate_hz,
        remarks=sum(scan.remarks for scan in made),
        on_topic=sum(scan.on_topic for scan in made),
        notes=tuple(notes),
        elapsed_seconds=time.monotonic() - started,
    )


def _check_words(words: Lexicon, voice: Voice) -> None:
    with Speakers((voice,)) as speakers:
        for text in words.texts:
            if not len(speakers.synthesize(text)):
                raise ConfigError(f"lexicon: expected texts that can be spoken, got '{text}', which has no sound")


def _count_classes(videos: tuple[LabelledVideo, ...], names: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(video.topic for video in videos)
    return {names[topic]: counts[topic] for topic in sorted(counts)}


def make_scan(task: NarrateTask) -> NarratedScan:
    """Write one scan and its ground truth."""
    cv2.setNumThreads(1)  # one process per core already
    plan, settings, names = task.plan, task.settings, task.lexicon.names
    rate, frames = settings.frame_rate_hz, plan.played[-1].stop
    media, truth = (folder / plan.folder / plan.name for folder in (task.folders.archive, task.folders.ground_truth))
    for path in (media, truth):
        path.parent.mkdir(parents=True, exist_ok=True)
    pace = Pace(1 - settings.silent_fraction, 1 - settings.on_topic_fraction, 0.0, settings.delay_seconds)
    shown = [Shown(part.video.topic, part.start / rate, part.stop / rate) for part in plan.played]
    names_of_streams = ("patient", plan.folder, "scan", plan.name)
    with Speakers(task.voices) as speakers:
        rng = stream(task.seed, *names_of_streams, "narration")
        narration = narrate(rng, speakers, shown, task.lexicon, pace, frames / rate, settings.sound_rate_hz)
    noise = stream(task.seed, *names_of_streams, "noise")
    recorded = record_sound(task.seed, noise, narration, settings.noise_db)
    write_scan_truth(truth, plan, narration, names, rate)
    if task.write_labels:
        rows = [row[: len(LABELS)] for row in interval_rows(plan, names, rate)]
        write_csv(media.with_name(f"{media.name}.labels.csv"), LABELS, rows)
    is_cropped = settings.scans is not None if settings.crop_to_sector is None else settings.crop_to_sector
    canvas = Canvas(*canvas_size(plan.played, settings.frame_pixels), rate, is_cropped)
    pictures = iter_pictures(plan.played, canvas)
    write_video(
        media.with_name(f"{media.name}.mp4"), pictures, rate, settings.video_crf, recorded, settings.sound_rate_hz
    )
    return NarratedScan(
        frames=frames,
        remarks=len(narration.remarks),
        on_topic=sum(is_on_topic(remark, plan, rate) for remark in narration.remarks),
    )
