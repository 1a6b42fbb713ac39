"""The evidence as text: what each init scores, by how much they differ, and what the pretraining losses say."""

import logging
from typing import Any

from usvs.evaluation.metrics import Spread

logger = logging.getLogger(__name__)

TEST = "two-sided sign-flip permutation test over seed x fold"


def evidence_table(results: dict[str, Any]) -> str:
    """Return the table of a ``results.json`` of kind evidence."""
    return "\n".join([*_scores(results), "", *_differences(results), "", *_held_out(results)])


def _scores(results: dict[str, Any]) -> list[str]:
    seeds, folds, people = len(results["seeds"]), results["folds"], results["patients"]
    few = results["settings"]["few_patients"]
    lines = [
        f"macro F1 in %, mean ± sample standard deviation over {seeds} seeds x {folds} patient folds "
        f"({len(people['pretraining'])} patients pretrained on, {len(people['downstream'])} others read; "
        f"few labels: {few} patients)",
        f"{'reading':<26}" + "".join(f"{init:>16}" for init in ("random", "shuffled", "joint")),
    ]
    for name, inits in results["readings"].items():
        cells = [
            str(Spread.of(cell["f1"] for cell in inits[init])) if init in inits else ""
            for init in ("random", "shuffled", "joint")
        ]
        lines.append(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))
    chance = 100 * results["chance_f1"]
    return [*lines, f"chance {chance:.1f}; probes of random have batch-norm statistics of the labelled frames"]


def _differences(results: dict[str, Any]) -> list[str]:
    lines = [f"differences in points of macro F1, paired; p: {TEST}"]
    for name, pairs in results["differences"].items():
        for pair, found in pairs.items():
            ahead = f"ahead in {found['wins']} of {len(found['values'])}"
            lines.append(f"{name:<26}{pair:<20}{100 * found['mean']:>+7.1f}   {ahead:<18}p = {found['p_value']:.4f}")
    return lines


def _held_out(results: dict[str, Any]) -> list[str]:
    """One line a quantity that has a chance line, the mean over seeds of its last value on held-out patients."""
    records = {init: [cell["held_out"] for cell in cells] for init, cells in results["pretraining"].items()}
    if not all(record for cells in records.values() for record in cells):
        return ["pretraining held no patients out, so it has no held-out losses"]
    first = next(iter(records.values()))[0]
    lines = [f"{'pretraining, held-out patients':<34}{'chance':>10}" + "".join(f"{init:>12}" for init in records)]
    for name in (name for name in first if f"{name}_chance" in first):
        means = "".join(f"{_mean(cells, name):>12.3f}" for cells in records.values())
        lines.append(f"{name.replace('_', ' '):<34}{first[f'{name}_chance']:>10.3f}{means}")
    return lines


def _mean(records: list[dict[str, Any]], name: str) -> float:
    return Spread.of(record[name] for record in records).mean
