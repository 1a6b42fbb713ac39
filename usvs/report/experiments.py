"""Figures of experiments, drawn from their stored results: Figures 3 and 4 of the paper, evidence, and curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.experiments.rows import ROWS
from usvs.report.plots import bar_figure, confusion_figure, curve_figure, saliency_figure, save_figure
from usvs.report.runs import PROTOCOL_TITLES
from usvs.report.stored_results import example_maps, read_examples, read_results

FIGURE_3 = {init: ROWS[init].title for init in ("video", "joint")}
FIGURE_4 = ("random", "video", "joint", "sononet")


def save_reproduction_figures(out: Path) -> list[Path]:
    """Draw the figures of a reproduction: Figures 3 and 4 of the paper, or with the preset ``evidence`` its bars.

    Returns:
        The files: ``OUT/figure_3.png`` and ``OUT/figure_4.png``, each where its rows were run, or ``OUT/evidence.png``.

    Raises:
        DataError: where `out` has no results of that kind.
    """
    results = read_results(out, "reproduce")
    measured = results["measured"]
    if results["settings"]["preset"] == "evidence":
        seeds, folds = len(results["seeds"]), results["settings"]["planes"]["folds"]
        bars = {name: {init: _f1(of_init) for init, of_init in inits.items()} for name, inits in measured.items()}
        title = f"one point for each seed and patient fold ({seeds} x {folds})"
        return [save_figure(bar_figure(bars, results["chance_f1"], title), out / "evidence.png")]
    saved = []
    if set(FIGURE_3) <= set(measured["planes"]):
        figure = confusion_figure(_summed_confusions(measured["planes"]), results["classes"])
        saved.append(save_figure(figure, out / "figure_3.png"))
    examples: dict[str, NDArray[Any]] = {}
    for row in FIGURE_4:
        file = out / "run" / "examples" / f"{row}_seed_{results['seeds'][0]}.npz"
        if row in measured["gaze"] and file.exists():
            stored = read_examples(file)
            examples |= {"frames": stored["frames"], "truth": stored["truth"], f"predicted_{row}": stored["predicted"]}
    if examples:
        figure = saliency_figure(examples["frames"], example_maps(examples))
        saved.append(save_figure(figure, out / "figure_4.png"))
    return saved


def save_curves_figure(out: Path) -> Path:
    """Draw macro F1 against the number of labelled patients, one panel for each evaluation protocol.

    Returns:
        ``OUT/curves.png``.

    Raises:
        DataError: where `out` has no results of that kind, or none at all.
    """
    results = read_results(out, "curves")
    panels = {
        PROTOCOL_TITLES[protocol]: {
            init: {int(count): _f1(of_count) for count, of_count in counts.items()} for init, counts in inits.items()
        }
        for protocol, inits in results["measured"].items()
        if inits
    }
    if not panels:
        raise DataError(f"'{out}': expected results to draw, got none")
    return save_figure(curve_figure(panels, results["chance_f1"]), out / "curves.png")


def _summed_confusions(planes: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the confusion matrices of Figure 3, summed over seeds and folds, by title."""
    confusions = {}
    for row, name in FIGURE_3.items():
        f1 = _f1(planes[row])
        title = f"{name}: macro F1 {100 * np.mean(f1):.1f} % over {len(f1)} seeds and folds"
        confusions[title] = np.sum([result["confusion"] for result in planes[row]], axis=0)
    return confusions


def _f1(measured: Sequence[Mapping[str, Any]]) -> list[float]:
    return [result["f1"] for result in measured]
