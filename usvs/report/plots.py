"""Pictures of results: drawn with plain values from what a run stored, never with names of an archive."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.training.metrics_log import read_metrics

matplotlib.use("Agg")  # no display is needed anywhere
DOTS_PER_INCH = 130
COLOURS = {"random": "#8a8a8a", "shuffled": "#d08a2c", "joint": "#2a6fa8", "ceiling": "#4f9a5b"}
OTHER_COLOURS = ("#2a6fa8", "#d08a2c", "#7a5aa6", "#4f9a5b", "#b5494b")


def draw_confusion(axes: Axes, confusion: NDArray[Any], names: Sequence[str], title: str) -> None:
    """Draw a confusion matrix with each true class's row summing to 100 %.

    Args:
        axes: where to.
        confusion: [C, C] counts, row = truth, column = prediction; an empty row stays blank.
        names: the C class names.
        title: what was measured.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.full_like(counts, np.nan), where=rows > 0)
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share > 0.6 else "black",
        )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)


def save_loss_curves(run: Path) -> Path:
    """Draw a pretraining run's records: a panel per quantity with a chance line, training beside held-out patients.

    Returns:
        ``RUN/plots/losses.png``.

    Raises:
        DataError: where the run has no records, or none with a chance line.
    """
    records = read_metrics(run)
    seen = dict.fromkeys(key for record in records for key in record)
    names = [name for name in seen if f"{name}_chance" in seen]
    if not names:
        raise DataError(f"'{run}': no record has a quantity with a chance line, so there is nothing to draw")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        _curve(axes, records, name)
    panels[0].legend(fontsize=8, frameon=False)
    return save_figure(figure, run / "plots" / "losses.png")


def _curve(axes: Axes, records: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draw one quantity over updates; both splits have the chance of their own batch size."""
    for split, colour in (("train", "#9db7cf"), ("validation", "#2a6fa8")):
        chosen = [record for record in records if record["split"] == split and name in record]
        steps = [record["step"] for record in chosen]
        mark = "o" if split == "validation" else None
        label = split.replace("_", "-")
        axes.plot(steps, [record[name] for record in chosen], color=colour, marker=mark, markersize=3, label=label)
        chance = [record.get(f"{name}_chance", np.nan) for record in chosen]
        axes.plot(
            steps, chance, color="black", linewidth=1, linestyle=":", label="chance" if split == "train" else None
        )
    axes.set_title(name.replace("_", " "), fontsize=10)
    axes.set_xlabel("updates", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def save_confusion(confusion: NDArray[Any], names: Sequence[str], title: str, file: Path) -> Path:
    """Draw one confusion matrix, in percent of each true class, to a PNG file."""
    figure = Figure(figsize=(7.2, 6.8), dpi=DOTS_PER_INCH, layout="constrained")
    draw_confusion(figure.subplots(), confusion, names, title)
    return save_figure(figure, file)


def save_planes_pictures(run: Path) -> list[Path]:
    """Draw what a plane-detection run stored: a confusion matrix per init, and their scores as bars.

    Returns:
        The files written, all in ``RUN/plots``.

    Raises:
        DataError: where `run` holds no results of that kind.
    """
    results = read_results(run, "planes")
    names, saved = results["classes"], []
    bars: dict[str, dict[str, list[float]]] = {}
    for init, readings in results["inits"].items():
        for mode, reading in readings.items():
            said = "fine-tuned" if mode == "finetune" else "frozen probe"
            title = f"{init}, {said}: macro F1 {100 * reading['f1']['mean']:.1f} ± {100 * reading['f1']['std']:.1f} %"
            saved.append(
                save_confusion(
                    np.array(reading["confusion"]), names, title, run / "plots" / f"confusion_{init}_{mode}.png"
                )
            )
            bars.setdefault(said, {})[init] = reading["f1"]["values"]
    saved.append(save_bars(bars, results["chance_f1"], "held-out patients, one point a fold", run / "plots" / "f1.png"))
    return saved


def save_evidence_picture(out: Path) -> Path:
    """Draw the macro-F1 of every init and reading of an evidence run, one point per seed and fold.

    Raises:
        DataError: where `out` holds no results of that kind.
    """
    results = read_results(out, "evidence")
    bars = {
        reading: {init: [cell["f1"] for cell in cells] for init, cells in inits.items()}
        for reading, inits in results["readings"].items()
    }
    title = f"one point per seed and patient fold ({len(results['seeds'])} x {results['folds']})"
    return save_bars(bars, results["chance_f1"], title, out / "evidence.png")


def save_gaze_picture(run: Path) -> Path:
    """Draw what a gaze run stored of its examples (Fig. 4): frame, truth and every init's prediction, a frame a row.

    Returns:
        ``RUN/plots/saliency.png``.

    Raises:
        DataError: where `run` holds no examples.
    """
    return save_saliency_examples(read_examples(run / "examples.npz"), run / "plots" / "saliency.png")


def read_examples(file: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of stored examples: frames, truth, and predicted_NAME [n, P, P].

    Raises:
        DataError: where there are none.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected stored examples to draw, got {error}") from None


def save_saliency_examples(examples: Mapping[str, NDArray[Any]], file: Path) -> Path:
    """Draw a frame a row: itself, where people looked, and where each init says they do; every map to its own maximum.

    Args:
        examples: frames [n, P, P] of any scale; truth and predicted_NAME [n, P, P] densities.
        file: the PNG to write.
    """
    maps = {"ground truth": examples["truth"]}
    maps |= {name.removeprefix("predicted_"): examples[name] for name in examples if name.startswith("predicted_")}
    rows, columns = len(examples["frames"]), 1 + len(maps)
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows + 0.3), dpi=DOTS_PER_INCH, layout="constrained")
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for row, frame in enumerate(examples["frames"]):
        grid[row, 0].imshow(frame, cmap="gray")
        for axes, (name, densities) in zip(grid[row, 1:], maps.items(), strict=True):
            axes.imshow(frame, cmap="gray", alpha=0.45)
            axes.imshow(densities[row], cmap="inferno", alpha=0.75, vmin=0.0)
            if row == 0:
                axes.set_title(name, fontsize=9)
    grid[0, 0].set_title("frame", fontsize=9)
    return save_figure(figure, file)


def save_bars(groups: Mapping[str, Mapping[str, Sequence[float]]], chance: float, title: str, file: Path) -> Path:
    """Draw macro F1 as bars of means with every value as a point, beside a line for chance.

    Args:
        groups: reading -> init -> values in 0..1.
        chance: what a fair draw scores, 0..1.
        title: what one point is.
        file: the PNG to write.
    """
    bars = sum(len(inits) for inits in groups.values())
    figure = Figure(figsize=(max(4.5, 0.8 * bars + 1.6), 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    position, ticks = 0.0, []
    for reading, inits in groups.items():
        first = position
        for init, values in inits.items():
            _bar(axes, position, init, 100 * np.asarray(values))
            position += 1.0
        ticks.append(((first + position - 1.0) / 2, reading))
        position += 0.7
    axes.axhline(100 * chance, color="black", linewidth=1, linestyle=":", zorder=0)
    axes.text(1.01, chance, "chance", transform=axes.transAxes, va="center", fontsize=8)
    axes.set_xticks([tick for tick, _ in ticks], [reading for _, reading in ticks])
    axes.tick_params(axis="x", length=0, pad=34)
    axes.set_ylabel("macro F1, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    return save_figure(figure, file)


def _bar(axes: Axes, position: float, init: str, values: NDArray[np.float64]) -> None:
    number = int(position) % len(OTHER_COLOURS)
    axes.bar(position, values.mean(), width=0.8, color=COLOURS.get(init, OTHER_COLOURS[number]), alpha=0.85)
    spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(position + spread, values, s=10, color="black", linewidths=0, zorder=3)
    axes.text(
        position, min(max(values.max(), values.mean()) + 1.5, 96), f"{values.mean():.1f}", ha="center", fontsize=8
    )
    axes.annotate(
        init, (position, 0), xytext=(0, -5), textcoords="offset points", ha="right", va="top", rotation=30, fontsize=8
    )


def save_frame_grid(frames: NDArray[np.uint8], captions: Sequence[str], file: Path, columns: int = 8) -> Path:
    """Draw gray frames with a line under each, for example truth and prediction.

    Args:
        frames: uint8 [n, P, P].
        captions: n lines.
        file: the PNG to write.
        columns: frames a row.
    """
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, frame, caption in zip(grid.flat, frames, captions, strict=False):
        axes.imshow(frame, cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=7)
    return save_figure(figure, file)


def read_results(run: Path, kind: str) -> dict[str, Any]:
    """Return what a run stored in ``results.json``.

    Raises:
        DataError: where there is nothing of that kind.
    """
    file = run / "results.json"
    try:
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected stored results to draw from, got {error}") from None
    if results.get("kind") != kind:
        raise DataError(f"'{file}': expected results of kind '{kind}', got '{results.get('kind')}'")
    return results


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure as PNG, without a mark of the program; returns the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})
    return file
