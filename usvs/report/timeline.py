"""Timeline of a scan: the probability of each class over time, the predicted class, and the label if there is one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from usvs.archive.class_list import ClassList
from usvs.inference.predict import PredictionTable
from usvs.report.plots import new_figure, plot_text, save_figure
from usvs.utils.progress import track

NO_LABEL = "#e4e4e4"
SMALLEST_SHOWN = 0.02  # of a class in the legend, its largest probability
MAX_TITLE_LETTERS = 80
LEGEND_COLUMN = 22  # classes


def timeline_figure(
    title: str, seconds: ArrayLike, probabilities: ArrayLike, classes: ClassList, known: Sequence[str | None] = ()
) -> Figure:
    """Draw the predictions of one scan.

    Args:
        title: of the figure.
        seconds: increasing times [n], n >= 1.
        probabilities: of the classes [n, C].
        classes: names and colours.
        known: name of the labelled class of each frame [n]; empty without labels.
    """
    times, values = np.asarray(seconds, np.float64), np.asarray(probabilities, np.float64)
    has_labels = any(known)
    figure = new_figure(9.5, 3.4 + 0.35 * has_labels)
    heights = [6, 1, 1] if has_labels else [6, 1]
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    edges = _edges(times)
    # each frame holds for its own interval, so that a single frame has a width too
    panels[0].stackplot(np.repeat(edges, 2)[1:-1], np.repeat(values, 2, axis=0).T, colors=classes.colours, linewidth=0)
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("probability", fontsize=8)
    panels[0].set_title(title, fontsize=10)
    shown: list[str | None] = [classes.names[number] for number in values.argmax(axis=1).tolist()]
    _draw_strip(panels[1], edges, shown, classes, "predicted")
    if has_labels:
        _draw_strip(panels[2], edges, known, classes, "labelled")
    panels[-1].set_xlabel("seconds", fontsize=8)
    panels[-1].set_xlim(edges[0], edges[-1])
    visible = values.max(axis=0) >= SMALLEST_SHOWN
    present = [number for number, name in enumerate(classes.names) if visible[number] or name in {*shown, *known}]
    handles = [Patch(color=classes.colours[number], label=plot_text(classes.names[number])) for number in present]
    columns = 1 + len(present) // LEGEND_COLUMN
    figure.legend(handles=handles, loc="outside right upper", fontsize=7, frameon=False, ncols=columns)
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_timelines(found: PredictionTable, folder: Path) -> list[Path]:
    """Draw a timeline of each video and scan among some predictions; images have none.

    Returns:
        The files, ``FOLDER/NAME.png``. Of files of one name, NAME has the folders that tell them apart, joined by
        underscores; a number is added where that is not enough.
    """
    saved: list[Path] = []
    videos = {file: rows for file, rows in found.of_files.items() if rows[0].seconds is not None}
    names = _distinct_names(list(videos))
    for (file, rows), name in track(list(zip(videos.items(), names, strict=True)), "drawing timelines", len(videos)):
        times = [row.seconds or 0.0 for row in rows]
        known = [row.known for row in rows]
        title = plot_text("/".join((*name.folders, file.name)), MAX_TITLE_LETTERS)
        figure = timeline_figure(title, times, [row.probabilities for row in rows], found.classes, known)
        saved.append(save_figure(figure, folder / f"{name.stem}.png"))
    return saved


class _Name(NamedTuple):
    """Stem of a picture's file, and the folders that tell its video from others of its name."""

    stem: str
    folders: tuple[str, ...]


def _distinct_names(files: Sequence[Path]) -> list[_Name]:
    """Return a different name for each file, without regard to capitals."""
    alike: dict[str, list[Path]] = {}
    for file in files:
        alike.setdefault(file.stem.casefold(), []).append(file.absolute().parent)
    used: set[str] = set()
    names = []
    for file in files:
        parents = alike[file.stem.casefold()]
        common = os.path.commonpath(parents)
        folders = file.absolute().parent.relative_to(common).parts if len(parents) > 1 else ()
        base = stem = "_".join((*folders, file.stem))
        number = 1
        while stem.casefold() in used:
            number += 1
            stem = f"{base}_{number}"
        used.add(stem.casefold())
        names.append(_Name(stem, folders))
    return names


def _edges(times: np.ndarray) -> np.ndarray:
    """Return where each frame begins and the last one ends [n + 1]: a frame holds until the next one."""
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return np.concatenate([times, [times[-1] + interval]])


def _draw_strip(axes: Axes, edges: np.ndarray, names: Sequence[str | None], classes: ClassList, title: str) -> None:
    colour_of = dict(zip(classes.names, classes.colours, strict=True))
    colours = [NO_LABEL if name is None else colour_of[name] for name in names]
    axes.bar(edges[:-1], 1.0, np.diff(edges), align="edge", color=colours, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
