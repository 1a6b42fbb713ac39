"""A scan over its time: frames, speech, labels, predicted classes and gaze, one track each, on one axis."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED
from usvs.report.charts import bars_strip, blocks_strip, colour_mark, legend, line_mark, lines_strip
from usvs.report.elements import element, group
from usvs.report.pictures import picture
from usvs.report.scan_labels import ScanLabels, runs_of
from usvs.store.prepared import PreparedStore

FILM_FRAMES = 12
FILM_SIDE = 72  # px
LABEL_STEP_SECONDS = 0.125
MAX_POINTS = 600  # of a line


class Predicted(NamedTuple):
    """What a model predicts of a scan.

    Attributes:
        names: of the classes.
        colours: of the classes.
        seconds: [n] times of the frames whose classes are predicted.
        classes: [n] class numbers.
        film: [`FILM_FRAMES`, h, w, 3] frames at `film_seconds` with the predicted density of gaze; None: without.
    """

    names: Sequence[str] = ()
    colours: Sequence[str] = ()
    seconds: NDArray[np.float64] = np.zeros(0)
    classes: NDArray[np.int64] = np.zeros(0, np.int64)
    film: NDArray[np.uint8] | None = None


def timeline(
    store: PreparedStore, number: int, title: str, labels: ScanLabels | None, predicted: Predicted | None = None
) -> Element:
    """Draw a prepared scan; its colours are explained by `timeline_legend`.

    Args:
        store: the prepared scans.
        number: of the scan.
        title: above the tracks.
        labels: of the store; None: no track of labels.
        predicted: by a model; None: no such track.
    """
    scan = store.scan(number)
    seconds = max(scan.duration_seconds, float(scan.frame_seconds[-1]), 1e-3)
    tracks = [_track("frames", _film(store, number, predicted))]
    if predicted is not None and len(predicted.classes):
        runs = runs_of(predicted.classes, predicted.seconds, seconds)
        tracks.append(_class_track("predicted", runs, predicted.names, predicted.colours, seconds))
    if labels is not None:
        times = np.arange(0.0, seconds, LABEL_STEP_SECONDS)
        runs = runs_of(labels.at(number, times), times, seconds)
        if any(code != UNLABELLED for _, _, code in runs):
            tracks.append(_class_track("labelled", runs, labels.names, labels.colours, seconds))
    rows = store.clips.scan == number
    fractions = store.clips.speech_fraction[rows]
    if np.isfinite(fractions).any():
        starts, length = store.clips.start_seconds[rows], store.clip_settings.clip_seconds
        tracks.append(_track("speech", bars_strip(starts, length, fractions, seconds)))
    if np.isfinite(scan.gaze).any():
        kept = np.arange(0, len(scan.gaze), max(1, len(scan.gaze) // MAX_POINTS))
        x, y = scan.gaze[kept].T
        tracks.append(_track("gaze", lines_strip(scan.frame_seconds[kept], [("unseen", x), ("second", y)], seconds)))
    axis = element("div", {"class": "axis"}, *(element("span", {}, f"{at * seconds:.0f} s") for at in (0, 0.5, 1)))
    parts = [part for track in [*tracks, _track("", axis)] for part in track]
    return element("figure", {"class": "figure block"}, element("figcaption", {}, title), group("tracks", parts))


def timeline_legend(store: PreparedStore, numbers: Iterable[int], labels: ScanLabels | None) -> Element | None:
    """Return the legend of the timelines of some scans: their classes, and the two lines of gaze where there is any.

    Args:
        store: the prepared scans.
        numbers: of the scans.
        labels: as of `timeline`.
    """
    entries = (
        []
        if labels is None
        else [(name, colour_mark(colour)) for name, colour in zip(labels.names, labels.colours, strict=True)]
    )
    if any(np.isfinite(store.scan(number).gaze).any() for number in numbers):
        entries += [("gaze, left to right", line_mark("unseen")), ("gaze, top to bottom", line_mark("second"))]
    return legend(entries) if entries else None


def film_seconds(seconds: float) -> NDArray[np.float64]:
    """Return the times of the frames that are shown of a scan, evenly spaced."""
    return (np.arange(FILM_FRAMES) + 0.5) / FILM_FRAMES * seconds


def _track(name: str, strip: Element) -> tuple[Element, Element]:
    return element("span", {"class": "track-name"}, name), strip


def _class_track(
    name: str, runs: Sequence[tuple[float, float, int]], names: Sequence[str], colours: Sequence[str], seconds: float
) -> tuple[Element, Element]:
    edges = np.array([[start, end] for start, end, _ in runs])
    fills = [None if code == UNLABELLED else colours[code] for _, _, code in runs]
    texts = ["no label" if code == UNLABELLED else str(names[code]) for _, _, code in runs]
    return _track(name, blocks_strip(edges, fills, texts, seconds))


def _film(store: PreparedStore, number: int, predicted: Predicted | None) -> Element:
    scan = store.scan(number)
    times = film_seconds(scan.duration_seconds)
    if predicted is not None and predicted.film is not None:
        frames: NDArray[np.uint8] = predicted.film
    else:
        frames = scan.frames(scan.nearest_frames(times))
    texts = [f"frame at {at:.0f} s" for at in times.tolist()]
    return group("film", [picture(frame, text, FILM_SIDE) for frame, text in zip(frames, texts, strict=True)])
