"""Draws how pretraining runs left chance, or did not: L_cont beside chance and the rank of both streams over the steps.

    python -m tests.tasks.run_curves TITLE=RUN [TITLE=RUN ...] --out docs/learning_real.png

Beside the picture a file of the same name with the suffix ``.json`` under docs/results has the points, the settings
that differ from each run's profile and its environment with revision.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.tasks.run_results import run_results
from usvs.report.plots import new_figure, save_figure

STEPS_A_POINT = 50  # training records are averaged over so many steps
LINES = {"train": ("training patients", "#9db7cf"), "validation": ("unseen patients", "#2a6fa8")}
RANKS = {"video_rank": ("video", "#d08a2c"), "speech_rank": ("speech", "#7a5aa6")}


def run_curves(run: Path) -> dict[str, Any]:
    """Return the points [step, value] of a run's curves, beside `run_results` without its last values."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = {split: _points([r for r in records if r["split"] == split], _gain) for split in LINES}
    unseen = [r for r in records if r["split"] == "validation"]
    curves |= {rank: _points(unseen, lambda record, rank=rank: record[rank]) for rank in RANKS}
    about = {key: value for key, value in run_results(run).items() if key not in ("training", "validation")}
    return {**about, "curves": curves}


def draw(runs: dict[str, dict[str, Any]], file: Path) -> None:
    """Draw two panels of each run, one above the other."""
    figure = new_figure(3.4 * len(runs), 4.8)
    panels = figure.subplots(2, len(runs), squeeze=False, sharey="row", sharex="col")
    for (title, run), losses, ranks in zip(runs.items(), *panels, strict=True):
        losses.set_title(title, fontsize=9)
        losses.axhline(0, color="black", linewidth=0.8, linestyle=":")
        _draw_lines(losses, run["curves"], LINES)
        _draw_lines(ranks, run["curves"], RANKS)
        ranks.set_yscale("log")
        ranks.set_xlabel("step", fontsize=8)
    panels[0][0].set_ylabel("L_cont - chance, nats", fontsize=8)
    panels[1][0].set_ylabel("effective rank of the embeddings", fontsize=8)
    save_figure(figure, file)


def _gain(record: dict[str, Any]) -> float:
    return float(record["contrastive"] - record["contrastive_chance"])


def _points(records: list[dict[str, Any]], value: Any) -> list[tuple[int, float]]:
    groups: dict[int, list[tuple[int, float]]] = {}
    for record in records:
        groups.setdefault(-(-record["step"] // STEPS_A_POINT), []).append((record["step"], value(record)))
    return [(group[-1][0], round(fmean(one for _, one in group), 4)) for group in groups.values()]


def _draw_lines(axes: Any, curves: dict[str, Any], lines: dict[str, tuple[str, str]]) -> None:
    for name, (label, colour) in lines.items():
        steps, values = zip(*curves[name], strict=True)
        axes.plot(steps, values, color=colour, label=label, marker="o" if len(steps) < 12 else None, markersize=3)
    axes.legend(fontsize=7, frameon=False)
    axes.tick_params(labelsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="TITLE=RUN")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = {title: run_curves(Path(run)) for title, _, run in (text.rpartition("=") for text in options.runs)}
    draw(runs, options.out)
    results = options.out.parent / "results" / options.out.with_suffix(".json").name
    results.write_text(json.dumps(runs) + "\n")


if __name__ == "__main__":
    main()
