"""Pictures of the reproduction, drawn from its stored results: Figures 3 and 4 of the paper, and low-label curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.report.plots import (
    COLOURS,
    DOTS_PER_INCH,
    OTHER_COLOURS,
    draw_confusion,
    read_examples,
    read_results,
    save_figure,
    save_saliency_examples,
)

SHOWN_MAPS = ("random", "video", "joint", "sononet")  # of Fig. 4, where they were run
TITLES = {"finetune": "fine-tuned", "probe": "frozen linear probe", "knn": "frozen kNN"}


def save_reproduction_figures(out: Path) -> list[Path]:
    """Draw Figure 3 (confusion of Video beside Ours) and Figure 4 (frame, truth, predictions) of a reproduction.

    Returns:
        The files written, ``OUT/figure_3.png`` and ``OUT/figure_4.png``, each where it has something to show.

    Raises:
        DataError: where `out` holds no results of that kind.
    """
    results = read_results(out, "reproduce")
    saved = []
    planes = results["measured"]["planes"]
    if "video" in planes and "joint" in planes:
        saved.append(save_confusion_pair(planes, results["classes"], out / "figure_3.png"))
    files = {row: out / "run" / "examples" / f"{row}_seed_{results['seeds'][0]}.npz" for row in SHOWN_MAPS}
    examples: dict[str, NDArray[Any]] = {}
    for row, file in files.items():
        if file.exists() and row in results["measured"]["gaze"]:
            examples |= read_examples(file)
    if examples:
        saved.append(save_saliency_examples(examples, out / "figure_4.png"))
    return saved


def save_confusion_pair(planes: Mapping[str, Any], names: list[str], file: Path) -> Path:
    """Draw the confusion matrices of Video and of Ours, all cells added up, each true class's row in percent."""
    figure = Figure(figsize=(13.6, 6.6), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, (row, title) in zip(figure.subplots(1, 2), (("video", "Video"), ("joint", "Ours")), strict=True):
        confusion = np.sum([cell["confusion"] for cell in planes[row]], axis=0)
        f1 = [100 * cell["f1"] for cell in planes[row]]
        draw_confusion(axes, confusion, names, f"{title}: macro F1 {np.mean(f1):.1f} % over {len(f1)} cells")
    return save_figure(figure, file)


def save_curves(out: Path) -> Path:
    """Draw macro F1 against the number of labelled patients, a panel a reading, every cell as a point.

    Returns:
        ``OUT/curves.png``.

    Raises:
        DataError: where `out` holds no results of that kind.
    """
    results = read_results(out, "curves")
    readings = {name: inits for name, inits in results["measured"].items() if inits}
    if not readings:
        raise DataError(f"'{out}': its curves have no cell, so there is nothing to draw")
    figure = Figure(figsize=(4.2 * len(readings), 3.8), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(readings), squeeze=False, sharey=True)[0]
    for axes, (reading, inits) in zip(panels, readings.items(), strict=True):
        _curve_panel(axes, inits)
        axes.set_title(TITLES[reading], fontsize=10)
        axes.axhline(100 * results["chance_f1"], color="black", linewidth=1, linestyle=":", label="chance")
    panels[0].set_ylabel("macro F1, %")
    panels[0].legend(fontsize=8, frameon=False)
    return save_figure(figure, out / "curves.png")


def _curve_panel(axes: Axes, inits: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> None:
    for number, (init, cells) in enumerate(inits.items()):
        colour = COLOURS.get(init, OTHER_COLOURS[number % len(OTHER_COLOURS)])
        counts = [int(count) for count in cells]
        values = [[100 * cell["f1"] for cell in cells[str(count)]] for count in counts]
        axes.plot(counts, [np.mean(of_count) for of_count in values], color=colour, marker="o", label=init)
        for count, of_count in zip(counts, values, strict=True):
            axes.scatter([count] * len(of_count), of_count, s=8, color=colour, alpha=0.5, linewidths=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labelled patients", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
