"""Ground truth of narrated scans, in a folder that neither indexing nor training reads."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usvs.narration.labelled_videos import LabelledVideo
from usvs.narration.narration import CHATTER, Narration, Remark
from usvs.narration.plan import Played, ScanPlan

INTERVALS = ("start_seconds", "end_seconds", "label", "file", "patient")
REMARKS = ("start_seconds", "end_seconds", "text", "topic", "shown", "on_topic", "voice")
LABELS = INTERVALS[:3]
SOURCES = ("file", "label", "patient", "exam", "scans")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def interval_rows(plan: ScanPlan, names: Sequence[str], rate_hz: int) -> list[tuple[str, str, str, str, str]]:
    """Return what is shown when, a row per clip: see `INTERVALS`."""
    return [
        (
            f"{part.start / rate_hz:.4f}",
            f"{part.stop / rate_hz:.4f}",
            names[part.video.topic],
            part.video.file,
            part.video.patient,
        )
        for part in plan.played
    ]


def write_scan_truth(path: Path, plan: ScanPlan, narration: Narration, names: Sequence[str], rate_hz: int) -> None:
    """Write ``<path>.intervals.csv``, ``<path>.remarks.csv`` and ``<path>.npz``.

    The last has the arrays frame_seconds [n], shown [n] (index of the class), speech [m] and topic [m] at 100 Hz as in
    `Narration`, and names (of the classes).

    Args:
        path: without suffix.
        plan: of the scan.
        narration: of the scan.
        names: of the classes, in the order of the topics.
        rate_hz: frame rate of the scan.
    """
    write_csv(path.with_name(f"{path.name}.intervals.csv"), INTERVALS, interval_rows(plan, names, rate_hz))
    write_csv(path.with_name(f"{path.name}.remarks.csv"), REMARKS, _remark_rows(plan, narration, names, rate_hz))
    np.savez_compressed(
        path.with_name(f"{path.name}.npz"),
        frame_seconds=np.arange(plan.played[-1].stop) / rate_hz,
        shown=np.concatenate([np.full(part.stop - part.start, part.video.topic, np.int16) for part in plan.played]),
        speech=narration.speech,
        topic=narration.topic,
        names=np.array(names),
    )


def is_on_topic(remark: Remark, plan: ScanPlan, rate_hz: int) -> bool:
    """Return whether a remark names the class that is shown in the middle of the remark."""
    return remark.topic == _shown_at((remark.start + remark.stop) / 2 * rate_hz, plan.played)


def _remark_rows(plan: ScanPlan, narration: Narration, names: Sequence[str], rate_hz: int) -> list[tuple[Any, ...]]:
    rows = []
    for remark in narration.remarks:
        shown = names[_shown_at((remark.start + remark.stop) / 2 * rate_hz, plan.played)]
        topic = "" if remark.topic == CHATTER else names[remark.topic]
        on_topic = "yes" if is_on_topic(remark, plan, rate_hz) else "no"
        times = (f"{remark.start:.3f}", f"{remark.stop:.3f}")
        rows.append((*times, remark.text, topic, shown, on_topic, remark.speaker))
    return rows


def _shown_at(frame: float, played: Sequence[Played]) -> int:
    return next((part.video.topic for part in played if frame < part.stop), played[-1].video.topic)


def write_archive_truth(
    folder: Path,
    plans: Sequence[ScanPlan],
    videos: Sequence[LabelledVideo],
    names: Sequence[str],
    made_from: dict[str, Any],
) -> None:
    """Write ``sources.csv``, all videos and the scans that show each, and ``archive.json``, how the archive was made.

    Args:
        folder: of the ground truth.
        plans: of the scans.
        videos: of the table, also those of the other part, which no scan shows.
        names: of the classes, in the order of the topics.
        made_from: settings, voices, lexicon.
    """
    scans_of: dict[str, list[str]] = {video.file: [] for video in videos}
    for plan in plans:
        for file in dict.fromkeys(part.video.file for part in plan.played):
            scans_of[file].append(f"{plan.folder}/{plan.name}")
    rows = [(v.file, names[v.topic], v.patient, v.exam, " ".join(scans_of[v.file])) for v in videos]
    write_csv(folder / "sources.csv", SOURCES, rows)
    (folder / "archive.json").write_text(json.dumps(made_from, indent=1, ensure_ascii=False), encoding="utf-8")
