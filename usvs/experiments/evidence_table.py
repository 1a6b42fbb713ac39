"""The results of the preset ``evidence`` as text: scores of each init, paired differences, validation losses."""

from collections.abc import Mapping, Sequence
from typing import Any

from usvs.evaluation.metrics import Spread
from usvs.evaluation.significance import PairedDifference, paired_difference
from usvs.experiments.rows import ROWS

TEST = "two-sided sign-flip permutation test over seed x fold"
INITS = ("random", "shuffled", "joint")
INIT_TITLES = {init: ROWS[init].short_title for init in INITS}
PAIRS = (("joint", "random"), ("joint", "shuffled"), ("shuffled", "random"))


def evidence_table(results: dict[str, Any]) -> str:
    """Return the tables of a ``results.json`` of the preset ``evidence``."""
    return "\n".join([*_scores(results), "", *_differences(results), "", *_validation(results)])


def evidence_differences(results: Mapping[str, Any]) -> dict[str, dict[tuple[str, str], PairedDifference]]:
    """Return the paired differences in macro F1 of every evaluation: evaluation -> (first, second) -> difference."""
    compared: dict[str, dict[tuple[str, str], PairedDifference]] = {}
    for name, inits in results["measured"].items():
        scores = {init: [result["f1"] for result in measured] for init, measured in inits.items()}
        for first, second in PAIRS:
            if first in scores and second in scores:
                compared.setdefault(name, {})[first, second] = paired_difference(scores[first], scores[second])
    return compared


def _scores(results: dict[str, Any]) -> list[str]:
    settings, patients = results["settings"], results["patients"]
    lines = [
        f"macro F1 in %, mean ± standard deviation over {len(results['seeds'])} seeds x {settings['planes']['folds']}"
        f" patient folds ({len(patients['pretraining'])} patients for pretraining, {len(patients['downstream'])} others"
        f" for labels and tests; few labels: {settings['few_patients']} patients)",
        f"{'evaluation':<26}" + "".join(f"{INIT_TITLES[init]:>16}" for init in INITS),
    ]
    for name, inits in results["measured"].items():
        spreads = [str(Spread.of(one["f1"] for one in inits[init])) if init in inits else "" for init in INITS]
        lines.append(f"{name:<26}" + "".join(f"{spread:>16}" for spread in spreads))
    chance = 100 * results["chance_f1"]
    return [*lines, f"chance {chance:.1f}; probe of Rand: batch-norm statistics of the labelled frames"]


def _differences(results: dict[str, Any]) -> list[str]:
    lines = [f"paired differences in macro F1, percentage points; p: {TEST}"]
    for name, pairs in evidence_differences(results).items():
        for (first, second), found in pairs.items():
            pair, wins = (
                f"{INIT_TITLES[first]} - {INIT_TITLES[second]}",
                f"higher in {found.wins} of {len(found.values)}",
            )
            lines.append(f"{name:<26}{pair:<20}{100 * found.mean:>+7.1f}   {wins:<18}p = {found.p_value:.4f}")
    return lines


def _validation(results: dict[str, Any]) -> list[str]:
    """Return a line for each quantity with a chance level: its last value on validation patients, mean over seeds."""
    records = {init: [one["validation"] for one in measured] for init, measured in results["pretraining"].items()}
    if not all(record for of_init in records.values() for record in of_init):
        return ["pretraining without validation patients: no validation losses"]
    first = next(iter(records.values()))[0]
    lines = [
        f"{'pretraining, validation patients':<34}{'chance':>10}"
        + "".join(f"{INIT_TITLES[init]:>12}" for init in records)
    ]
    for name in (name for name in first if f"{name}_chance" in first):
        means = "".join(f"{_mean(of_init, name):>12.3f}" for of_init in records.values())
        lines.append(f"{name.replace('_', ' '):<34}{first[f'{name}_chance']:>10.3f}{means}")
    return lines


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> float:
    return Spread.of(record[name] for record in records).mean
