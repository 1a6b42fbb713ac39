"""Figures from plain values: confusion matrices, bars, loss curves, saliency maps and label-efficiency curves.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and to no global state; `save_figure`
writes it as PNG. Nothing here sets a matplotlib backend or changes its settings.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.experiments.rows import ROWS
from usvs.utils.atomic_files import write_durably, writing
from usvs.utils.private_files import make_private_folder
from usvs.utils.text import printable

DOTS_PER_INCH = 130
COLOURS = {**{key: row.colour for key, row in ROWS.items() if row.colour is not None}, "ceiling": "#4f9a5b"}
OTHER_COLOURS = ("#2a6fa8", "#d08a2c", "#7a5aa6", "#4f9a5b", "#b5494b")
SPLITS: dict[str, tuple[str, str, str | None]] = {
    "train": ("training", "#9db7cf", None),
    "validation": ("validation", "#2a6fa8", "o"),
}  # label, colour, marker
MAX_NAME_LETTERS = 32  # of a class
SMALLEST_SHOWN_FRACTION = 0.005  # of a row of a confusion matrix


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure as PNG, without the name of the program in it; return the file.

    Raises:
        ResourceError: where it cannot be written; an older file is unchanged.
    """
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})  # type: ignore[no-untyped-call]
    with writing(f"'{file}'"):
        make_private_folder(file.parent)
        write_durably(file, content.getvalue())
    return file


def plot_text(name: str, letters: int = MAX_NAME_LETTERS) -> str:
    """Return a name of the user's as it is drawn: one short line, without control characters and formulas."""
    shown = printable(name)
    shown = shown if len(shown) <= letters else f"{shown[: letters - 3]}..."
    return shown.replace("$", r"\$")  # two dollars would begin and end a formula


def confusion_figure(confusions: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side, in percent of each true class.

    Args:
        confusions: matrices [C, C] by title; see `draw_confusion`.
        names: the C class names.
    """
    figure = new_figure(6.8 * len(confusions) + 0.4, 6.8)
    for axes, (title, confusion) in zip(
        figure.subplots(1, len(confusions), squeeze=False)[0], confusions.items(), strict=True
    ):
        draw_confusion(axes, confusion, names, title)
    return figure


def draw_confusion(axes: Axes, confusion: NDArray[Any], names: Sequence[str], title: str) -> None:
    """Draw a confusion matrix in percent of each true class.

    Args:
        axes: what to draw on.
        confusion: [C, C] counts, row = true class, column = predicted class; a row without frames stays empty.
        names: the C class names.
        title: of the axes.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    axes.imshow(np.ma.masked_invalid(fractions), cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(fractions >= SMALLEST_SHOWN_FRACTION):
        fraction = fractions[row, column]
        colour = "white" if fraction > 0.6 else "black"
        axes.text(column, row, f"{100 * fraction:.0f}", ha="center", va="center", fontsize=7, color=colour)
    shown = [plot_text(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), shown, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)


def loss_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the records of a pretraining: one panel for each quantity with a chance level, training beside validation.

    Args:
        records: of ``metrics.jsonl``, each with ``step``, ``split`` and values; NAME is drawn where NAME_chance exists.

    Raises:
        DataError: where no quantity has a chance level.
    """
    seen = dict.fromkeys(key for record in records for key in record)
    names = [name for name in seen if f"{name}_chance" in seen]
    if not names:
        raise DataError("records: expected a quantity with a chance level (NAME and NAME_chance), got none")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(4.2 * columns, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        _draw_loss(axes, records, name)
    panels[0].legend(fontsize=8, frameon=False)
    return figure


def bar_figure(groups: Mapping[str, Mapping[str, Sequence[float]]], chance: float, title: str) -> Figure:
    """Draw macro F1 as bars of means, with every value as a point and a line at the chance level.

    Args:
        groups: evaluation -> init -> values, 0 to 1.
        chance: macro F1 of a random choice, 0 to 1.
        title: what one point is.
    """
    bars = sum(len(inits) for inits in groups.values())
    figure = new_figure(max(4.5, 0.8 * bars + 1.6), 4.2)
    axes = figure.subplots()
    position, ticks = 0.0, []
    for evaluation, inits in groups.items():
        first = position
        for init, values in inits.items():
            _draw_bar(axes, position, init, 100 * np.asarray(values))
            position += 1.0
        ticks.append(((first + position - 1.0) / 2, evaluation))
        position += 0.7
    axes.axhline(100 * chance, color="black", linewidth=1, linestyle=":", zorder=0)
    axes.text(1.01, chance, "chance", transform=axes.transAxes, va="center", fontsize=8)
    axes.set_xticks([tick for tick, _ in ticks], [evaluation for _, evaluation in ticks])
    axes.tick_params(axis="x", length=0, pad=34)
    axes.set_ylabel("macro F1, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure


def saliency_figure(frames: NDArray[Any], maps: Mapping[str, NDArray[Any]]) -> Figure:
    """Draw one frame a row: the frame, then each saliency map over it, scaled to its own maximum.

    Args:
        frames: [n, P, P], of any scale.
        maps: densities [n, P, P] by title.
    """
    rows, columns = len(frames), 1 + len(maps)
    figure = new_figure(1.6 * columns, 1.6 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, frame in enumerate(frames):
        grid[row, 0].imshow(frame, cmap="gray")
        for axes, densities in zip(grid[row, 1:], maps.values(), strict=True):
            axes.imshow(frame, cmap="gray", alpha=0.45)
            axes.imshow(densities[row], cmap="inferno", alpha=0.75, vmin=0.0)
    for axes, title in zip(grid[0], ("frame", *maps), strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def curve_figure(panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], chance: float) -> Figure:
    """Draw macro F1 against the number of labelled patients, one panel for each evaluation protocol.

    Args:
        panels: title -> init -> number of patients -> values, 0 to 1; means are lines, values are points.
        chance: macro F1 of a random choice, 0 to 1.
    """
    figure = new_figure(4.2 * len(panels), 3.8)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, inits) in zip(all_axes, panels.items(), strict=True):
        for number, (init, values) in enumerate(inits.items()):
            colour = COLOURS.get(init, OTHER_COLOURS[number % len(OTHER_COLOURS)])
            _draw_curve(axes, init, {count: 100 * np.asarray(of_count) for count, of_count in values.items()}, colour)
        axes.set_title(title, fontsize=10)
        axes.axhline(100 * chance, color="black", linewidth=1, linestyle=":", label="chance")
    all_axes[0].set_ylabel("macro F1, %")
    all_axes[0].legend(fontsize=8, frameon=False)
    return figure


def _draw_loss(axes: Axes, records: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draw one quantity over updates; each split has the chance level of its own batch size."""
    for split, (label, colour, marker) in SPLITS.items():
        chosen = [record for record in records if record["split"] == split and name in record]
        steps = [record["step"] for record in chosen]
        axes.plot(steps, [record[name] for record in chosen], color=colour, marker=marker, markersize=3, label=label)
        chance = [record.get(f"{name}_chance", np.nan) for record in chosen]
        chance_label = "chance" if split == "train" else None
        axes.plot(steps, chance, color="black", linewidth=1, linestyle=":", label=chance_label)
    axes.set_title(name.replace("_", " "), fontsize=10)
    axes.set_xlabel("updates", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bar(axes: Axes, position: float, init: str, values: NDArray[np.float64]) -> None:
    mean = values.mean()
    number = int(position) % len(OTHER_COLOURS)
    axes.bar(position, mean, width=0.8, color=COLOURS.get(init, OTHER_COLOURS[number]), alpha=0.85)
    offsets = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(position + offsets, values, s=10, color="black", linewidths=0, zorder=3)
    axes.text(position, min(max(values.max(), mean) + 1.5, 96), f"{mean:.1f}", ha="center", fontsize=8)
    axes.annotate(
        init, (position, 0), xytext=(0, -5), textcoords="offset points", ha="right", va="top", rotation=30, fontsize=8
    )


def _draw_curve(axes: Axes, init: str, values: Mapping[int, NDArray[np.float64]], colour: str) -> None:
    counts = list(values)
    axes.plot(counts, [of_count.mean() for of_count in values.values()], color=colour, marker="o", label=init)
    for count, of_count in values.items():
        axes.scatter([count] * len(of_count), of_count, s=8, color=colour, alpha=0.5, linewidths=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labelled patients", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
