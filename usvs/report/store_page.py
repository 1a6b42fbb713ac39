"""The report of a store: its sectors, speech, spectrograms, labels, patients, and what is unusual about its scans."""

import logging
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import torch

from usvs.audio.settings import SpectrogramSettings
from usvs.audio.spectrogram import LogSpectrogram
from usvs.errors import DataError
from usvs.report.charts import bars_strip
from usvs.report.elements import Content, element, group, note, paragraph, table
from usvs.report.page import Page
from usvs.report.pictures import coloured, picture, spectrogram_pixels
from usvs.report.scan_labels import MAX_CLASSES, open_scan_labels
from usvs.report.scan_timeline import timeline, timeline_legend
from usvs.report.shown_scans import NO_SECTOR, without_names
from usvs.store.catalogue import OK, SKIPPED, Catalogue
from usvs.store.contact_sheet import LEGEND, TILE_SIZE, TileTask, draw_tile
from usvs.store.folder import PREPARED, read_archive_path
from usvs.store.label_summary import count_labels
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings
from usvs.utils.process_pool import map_tasks
from usvs.utils.progress import track
from usvs.utils.spacing import evenly_spaced
from usvs.utils.text import quantity

logger: logging.Logger = logging.getLogger(__name__)

TILES = 30
TIMELINES = 6
SPECTROGRAMS = 12
BARS = 24  # scans whose speech is drawn where nothing is prepared
PATIENT_ROWS = 40
NOT_PREPARED = "No scan is prepared yet ('usvs prepare STORE')"
NOT_READY = "Not all scans are prepared and up to date ('usvs prepare STORE')"
SPECTROGRAM_PIXELS = (160, 240)  # height, width
NOTES = ("time_note", "sector_note", "sound_note", "gaze_note", "planes_note", "file_note", "labels_note")
Rows = Sequence[dict[str, Any]]


def store_page(store: Path, names: bool = False, workers: int | None = None) -> Page:
    """Return the report of a store.

    Args:
        store: a folder made by `usvs.index_archive`, prepared or not.
        names: whether scans have the paths of their files beside their keys.
        workers: processes that read the pictures of the archive; None: one per core.

    Raises:
        DataError: where it is not a store, or its catalogue is damaged.
    """
    catalogue = Catalogue.load(store)
    rows: Rows = catalogue.scans.to_pylist()
    usable = [row for row in rows if row["status"] == OK]
    fractions = catalogue.clips["speech_fraction"].to_numpy()
    prepared = cache(lambda: _open(store))  # checks every scan, so once only
    why_not = NOT_READY if any(store.joinpath(PREPARED).glob("*")) else NOT_PREPARED
    page = Page(
        "usvs, report of a store", f"{quantity(len(usable), 'scan')} of {quantity(len(_patients(usable)), 'patient')}"
    )
    page.names = names
    page.verdict, page.tone = _verdict(rows, usable), "unknown"
    page.facts = _facts(rows, usable, fractions, catalogue.clip_settings)
    page.add("sectors", "Sectors, the least certain first", lambda: _sectors(store, usable, names, workers))
    page.add("speech", "Speech along the scans", lambda: _scans(prepared(), why_not, catalogue, usable, names))
    page.add("spectrograms", "Spectrograms with their frames", lambda: _spectrograms(prepared(), why_not))
    page.add("labels", "Labels", lambda: _labels(catalogue, usable))
    page.add("patients", "Patients", lambda: _patient_table(usable))
    page.add("notes", "Notes on the scans", lambda: _notes(rows, names))
    return page


def _verdict(rows: Rows, usable: Rows) -> list[str]:
    skipped = sum(row["status"] == SKIPPED for row in rows)
    unknown = sum(row["patient_key"] is None for row in usable)
    without = sum(row["sector_source"] == NO_SECTOR for row in usable)
    silent = sum(row["sound"] in (None, "none") for row in usable)
    found = [
        f"{quantity(skipped, 'scan')} skipped" if skipped else "",
        f"{quantity(without, 'scan')} without a sector" if without else "",
        f"{quantity(silent, 'scan')} without sound" if silent else "",
        f"{quantity(unknown, 'scan')} of an unknown patient" if unknown else "",
    ]
    listed = ", ".join(part for part in found if part)
    return [f"To look at: {listed}." if listed else "Every scan has a sector, sound and a patient; none was skipped."]


def _facts(rows: Rows, usable: Rows, fractions: Any, clips: ClipSettings) -> list[tuple[str, str]]:
    minutes = sum(row["duration_seconds"] or 0.0 for row in usable) / 60
    spoken = float(np.nansum(fractions, dtype=np.float64)) * clips.clip_seconds / 60
    with_speech = int(np.nansum(fractions >= clips.speech_fraction_high))
    return [
        ("usable scans", f"{len(usable):,} of {len(rows):,}"),
        ("patients", f"{len(_patients(usable)):,}"),
        ("minutes of video", f"{minutes:,.1f}"),
        ("minutes of speech", f"{spoken:,.1f}"),
        (f"clips of {clips.clip_seconds:g} s with {_enough_speech(clips)}", f"{with_speech:,} of {len(fractions):,}"),
        ("scans with gaze", f"{sum(bool(row['gaze']) for row in usable):,}"),
    ]


def _sectors(store: Path, usable: Rows, names: bool, workers: int | None) -> Iterator[Content]:
    yield (
        "A frame of each scan with the crop that is kept of it; what is outside is too coarse to be read. Look at the"
        " first ones: a wrong crop is corrected in manifest.csv."
    )
    chosen = sorted(usable, key=lambda row: float(row["sector_confidence"]))[:TILES]
    archive = read_archive_path(store)
    tasks = [TileTask(archive, row) for row in chosen]
    tiles = []
    for task, tile in track(map_tasks(draw_tile, tasks, workers), "drawing sectors", total=len(tasks)):
        if isinstance(tile, DataError):
            continue
        pixels = np.ascontiguousarray(tile[: TILE_SIZE[1], :, ::-1])
        tiles.append(_tile(task.row, picture(pixels, f"sector of scan {task.row['scan_key']}", 240), names))
    yield element("ul", {"class": "tiles"}, *tiles)
    if len(usable) > TILES:
        yield note(f"{TILES} of {len(usable):,} scans; 'usvs audit STORE --pictures OUT' draws all.")


def _tile(row: Mapping[str, Any], image: Element, names: bool) -> Element:
    name = element("strong", {}, _name(row, names))
    details = f"confidence {row['sector_confidence']:.2f}, {LEGEND[row['sector_source']]}"
    size = f"{row['width']} x {row['height']}, {row['duration_seconds']:.0f} s"
    return element("li", {}, image, element("p", {}, name), paragraph(details), paragraph(size))


def _scans(
    opened: PreparedStore | None, why_not: str, catalogue: Catalogue, usable: Rows, names: bool
) -> Iterator[Content]:
    """Timelines of prepared scans; without prepared scans the speech fraction alone."""
    row_of = {row["scan_key"]: row for row in usable}
    if opened is None:
        yield note(f"{why_not}, so there are no frames.")
        yield from _speech_alone(catalogue, names)
        return
    labels = open_scan_labels(opened)
    chosen = evenly_spaced(len(opened.scans), TIMELINES).tolist()
    yield (
        f"{quantity(len(chosen), 'scan')}, evenly spaced in the catalogue. Each bar is one clip of"
        f" {opened.clip_settings.clip_seconds:g} s, as high as the fraction of it that is speech."
    )
    yield timeline_legend(opened, chosen, labels)
    for number in chosen:
        row = row_of[opened.scans[number]]
        yield timeline(opened, number, f"{_name(row, names)}, patient {row['patient_key'] or 'unknown'}", labels)


def _speech_alone(catalogue: Catalogue, names: bool) -> Iterator[Content]:
    numbers, starts, fractions = (
        catalogue.clips[name].to_numpy() for name in ("scan", "start_seconds", "speech_fraction")
    )
    rows = catalogue.scans.to_pylist()
    with_clips = np.unique(numbers)
    tracks: list[Content] = []
    for position in evenly_spaced(len(with_clips), BARS):
        row, own = rows[with_clips[position]], numbers == with_clips[position]
        length = catalogue.clip_settings.clip_seconds
        tracks.append(element("span", {"class": "track-name"}, _name(row, names)))
        tracks.append(bars_strip(starts[own], length, fractions[own], row["duration_seconds"]))
    yield group("tracks", tracks)


def _spectrograms(opened: PreparedStore | None, why_not: str) -> Iterator[Content]:
    if opened is None:
        yield note(f"{why_not}.")
        return
    clips = opened.clips
    rows = np.flatnonzero(np.nan_to_num(clips.speech_fraction) >= opened.clip_settings.speech_fraction_high)
    if not len(rows):
        yield note(f"No clip has {_enough_speech(opened.clip_settings)}.")
        return
    seconds = opened.clip_settings.clip_seconds
    yield (
        f"What pretraining matches: the middle frame of a clip, and {seconds:g} s of speech (time to the right, 0 to"
        " 12 kHz upwards, logarithmic power)."
    )
    transform = LogSpectrogram(SpectrogramSettings())
    tiles = []
    for row in rows[evenly_spaced(len(rows), SPECTROGRAMS)].tolist():
        scan, start = opened.scan(int(clips.scan[row])), float(clips.start_seconds[row])
        speech = scan.speech(start, round(seconds * scan.rate_hz)).astype(np.float32) / 32768
        with torch.inference_mode():
            power = transform(torch.from_numpy(speech)[None])[0, 0].numpy()
        frame = scan.frames(scan.nearest_frames(np.array([start + seconds / 2])))[0]
        place = f"scan {scan.scan_key[:6]}, {start:.0f} s"
        pictures = [
            picture(frame, f"frame of {place}"),
            picture(coloured(spectrogram_pixels(power), *SPECTROGRAM_PIXELS), f"spectrogram of {place}", 240),
        ]
        text = f"{place}, {100 * float(clips.speech_fraction[row]):.0f} % speech"
        tiles.append(element("li", {}, group("both", pictures), paragraph(text)))
    yield element("ul", {"class": "tiles pairs"}, *tiles)


def _labels(catalogue: Catalogue, usable: Rows) -> Iterator[Content]:
    counts = count_labels(usable, catalogue.class_rules)
    if not counts:
        yield note("This archive has no labels. Pretraining needs none.")
        return
    for column, classes in counts.items():
        if len(classes) > MAX_CLASSES:
            yield note(f"A label column has {len(classes)} different values, too many to be classes; it is not shown.")
            continue
        rows = [
            [name, f"{count.files:,}", f"{count.patients:,}", f"{count.seconds:,.1f}"]
            for name, count in classes.items()
        ]
        yield table(f"Column '{column}'", ["class", "scans", "patients", "seconds"], rows)


def _patient_table(usable: Rows) -> Iterator[Content]:
    scans = _patients(usable)
    if not scans:
        yield note("No patient is known; each scan counts as a patient of its own in pretraining.")
        return
    counts = [len(found) for found in scans.values()]
    each = f"{quantity(counts[0], 'scan')} each"
    if min(counts) < max(counts):
        each = f"{min(counts)} to {max(counts)} scans, median {statistics.median(counts):g}"
    yield (f"{quantity(len(scans), 'patient')} with {each}. Folds and splits never separate the scans of a patient.")
    ordered = sorted(scans.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [
        [
            key,
            f"{len(found):,}",
            f"{sum(row['duration_seconds'] or 0.0 for row in found):,.0f}",
            f"{_spoken(found):,}",
        ]
        for key, found in ordered[:PATIENT_ROWS]
    ]
    yield table("Patients by number of scans", ["patient", "scans", "seconds", "clips with speech"], rows)
    if len(ordered) > PATIENT_ROWS:
        yield note(f"{PATIENT_ROWS} of {len(ordered):,} patients.")


def _notes(rows: Rows, names: bool) -> Iterator[Content]:
    counted: Counter[str] = Counter()
    listed: list[list[str | Element]] = []
    for row in rows:
        texts = [f"skipped: {row['reason']}"] if row["status"] == SKIPPED else []
        texts += [str(row[column]) for column in NOTES if row[column]]
        for text in texts:
            counted[text if names else without_names(text, row)] += 1
            listed.append([_name(row, names), text])
    if not counted:
        yield note("Nothing unusual was found in any scan.")
        return
    by_number: list[list[str | Element]] = [[text, f"{count:,}"] for text, count in counted.most_common()]
    yield table("What was found, and in how many scans", ["note", "scans"], by_number)
    if names:
        yield table("By file", ["file", "note"], listed, numbers=False)


def _open(store: Path) -> PreparedStore | None:
    try:
        return PreparedStore(store)
    except DataError as error:
        logger.info(f"report: {error}")
        return None


def _enough_speech(clips: ClipSettings) -> str:
    return f"{100 * clips.speech_fraction_high:.0f} % speech or more, enough for pairs"


def _name(row: Mapping[str, Any], names: bool) -> str:
    return f"{row['path']} ({row['scan_key']})" if names else f"scan {row['scan_key']}"


def _patients(usable: Rows) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in usable:
        if row["patient_key"] is not None:
            found.setdefault(row["patient_key"], []).append(row)
    return found


def _spoken(rows: Rows) -> int:
    return sum(int(row["high_affinity_clips"] or 0) for row in rows)
