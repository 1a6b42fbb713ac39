"""What the folder of a fine-tuning says, complete or not: for its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usvs.errors import DataError
from usvs.report.runs import PROTOCOL_TITLES
from usvs.report.stored_json import group_of, optional_json
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.provenance import RESULTS_FILE
from usvs.tasks.saliency.task import SaliencyTask
from usvs.tasks.task import ScoreColumn

FINETUNE_FILE, RESULTS_FOLDER = "finetune.json", "results"
Measured = dict[str, dict[str, list[Mapping[str, Any]]]]  # folds by init and protocol


class FinetunedRun:
    """What the folder of a fine-tuning says, complete or not.

    Args:
        run: the folder.

    Attributes:
        folder: the folder.
        results: content of ``results.json``; empty while folds are missing.
        plan: content of ``finetune.json``, with inits, protocols and folds.
        measured: what is stored of each fold, by init and protocol.

    Raises:
        DataError: where neither file can be read.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run
        self.plan: Mapping[str, Any] = optional_json(run / FINETUNE_FILE)
        self.results: Mapping[str, Any] = optional_json(run / RESULTS_FILE)
        if not self.plan and not self.results:
            raise DataError(f"'{run}': expected {FINETUNE_FILE} or {RESULTS_FILE} of 'usvs finetune', got neither")
        self.measured: Measured = self._from_results() or self._from_folds()

    @property
    def is_gaze(self) -> bool:
        """Whether gaze is predicted; otherwise classes are."""
        kind = group_of(self.plan, "task").get("kind")
        return bool(kind == SaliencyTask.kind if kind else self.results.get("kind") == SaliencyTask.name)

    @property
    def columns(self) -> Sequence[ScoreColumn]:
        """The scores of the task."""
        return SaliencyTask.columns if self.is_gaze else ClassificationTask.columns

    @property
    def main(self) -> ScoreColumn:
        """The score by which inits are compared."""
        name = SaliencyTask.main_score if self.is_gaze else ClassificationTask.main_score
        return next(column for column in self.columns if column.score == name)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        found = _list_of(self.results, "classes") or _list_of(group_of(self.plan, "task"), "classes")
        return tuple(map(str, found))

    @property
    def folds(self) -> list[Mapping[str, Any]]:
        """Training and test patients of each fold."""
        return [fold for fold in _list_of(self.plan, "folds") if isinstance(fold, Mapping)]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the run."""
        return group_of(self.results, "settings") or group_of(self.plan, "settings")

    @property
    def expected(self) -> int:
        """Number of measurements of the complete run."""
        return len(group_of(self.plan, "inits")) * len(_list_of(self.plan, "protocols")) * len(self.folds)

    @property
    def done(self) -> int:
        """Number of measurements so far."""
        return sum(len(folds) for protocols in self.measured.values() for folds in protocols.values())

    def values(self, init: str, protocol: str, score: str) -> list[float]:
        """Return a score of each measured fold."""
        return [float(fold[score]) for fold in self.measured.get(init, {}).get(protocol, ()) if score in fold]

    def rows(self) -> list[tuple[str, str]]:
        """Return init and protocol of everything that is measured, fine-tuning first."""
        pairs = [(init, protocol) for init, protocols in self.measured.items() for protocol in protocols]
        order = list(PROTOCOL_TITLES)
        return sorted(pairs, key=lambda pair: order.index(pair[1]) if pair[1] in order else len(order))

    @property
    def best(self) -> str | None:
        """Name of the init with the best main score by the first protocol; None without any."""
        if stored := self.results.get("best_init"):
            return str(stored)
        if not self.rows():
            return None
        first = self.rows()[0][1]
        means = {
            init: float(np.mean(self.values(init, protocol, self.main.score)))
            for init, protocol in self.rows()
            if protocol == first
        }
        return (min if self.is_gaze else max)(means, key=means.__getitem__)

    def _from_results(self) -> Measured:
        inits = group_of(self.results, "inits")
        try:
            return {
                init: {protocol: [dict(fold) for fold in found["folds"]] for protocol, found in protocols.items()}
                for init, protocols in inits.items()
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            return {}  # of another version, or damaged

    def _from_folds(self) -> Measured:
        found: Measured = {}
        for init in group_of(self.plan, "inits"):
            for protocol in map(str, _list_of(self.plan, "protocols")):
                files = [
                    self.folder / RESULTS_FOLDER / f"{protocol}_{init}_fold_{number}.json"
                    for number in range(len(self.folds))
                ]
                folds = [content for content in map(optional_json, files) if content]
                if folds:
                    found.setdefault(init, {})[protocol] = folds
        return found


def _list_of(values: Mapping[str, Any], name: str) -> list[Any]:
    found = values.get(name)
    return found if isinstance(found, list) else []
