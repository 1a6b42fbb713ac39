"""The results of several inits on the same folds, also as a table in text."""

from collections.abc import Sequence
from dataclasses import dataclass

from usvs.evaluation.metrics import Spread
from usvs.tasks.cross_validation import FROZEN, InitResult
from usvs.tasks.registry import AnyTask
from usvs.tasks.task import EvaluationProtocol, Reference, ScoreColumn

COLUMN_TITLES: dict[EvaluationProtocol, str] = {"finetune": "fine-tuned", "probe": "frozen probe", "knn": "frozen kNN"}
NAME_WIDTH, WIDTH, FROZEN_WIDTH = 24, 14, 18


@dataclass(frozen=True)
class FinetuneResult:
    """Every init by every protocol on the same folds; as text, the results table.

    Attributes:
        task: what was learnt.
        results: one for each init and protocol.
        reference: scores of chance or of a uniform prediction.
        best: name of the init with the best main score by the first protocol; its models are what `load_model` takes.
        patients: the folds and their patients, in a few words.
    """

    task: AnyTask
    results: tuple[InitResult, ...]
    reference: Reference
    best: str
    patients: str

    def __str__(self) -> str:
        return results_table(self.task, self.patients, self.results, self.reference)

    def result_for(self, init: str, protocol: EvaluationProtocol = "finetune") -> InitResult:
        """Return the result of one init by one protocol.

        Raises:
            KeyError: where it was not measured.
        """
        found = [one for one in self.results if (one.init, one.protocol) == (init, protocol)]
        if not found:
            raise KeyError(f"{init}, {protocol}: not among {[(one.init, one.protocol) for one in self.results]}")
        return found[0]


def best_init(task: AnyTask, results: Sequence[InitResult]) -> str:
    """Return the name of the init with the best mean of the task's main score, by the first protocol."""
    means = {one.init: one.spread(task.main_score).mean for one in results if one.protocol == results[0].protocol}
    return (max if task.higher_is_better else min)(means, key=means.__getitem__)


def results_table(task: AnyTask, patients: str, results: Sequence[InitResult], reference: Reference) -> str:
    """Return a line per init: the scores of fine-tuning, then the main score of each frozen protocol.

    Args:
        task: names the columns.
        patients: the folds and their patients, in a few words.
        results: of every init and protocol.
        reference: scores of chance or of a uniform prediction, and notes.
    """
    by_init: dict[str, dict[EvaluationProtocol, InitResult]] = {}
    for result in results:
        by_init.setdefault(result.init, {})[result.protocol] = result
    tuned = any("finetune" in protocols for protocols in by_init.values())
    columns = list(task.columns) if tuned else []
    frozen = [name for name in FROZEN if any(name in protocols for protocols in by_init.values())]
    main = next(column for column in task.columns if column.score == task.main_score)
    titles = [f"{column.title:>{WIDTH}}" for column in columns]
    titles += [f"{f'{COLUMN_TITLES[name]} {main.title}':>{FROZEN_WIDTH}}" for name in frozen]
    lines = [
        f"{task.title}: {patients}; mean ± sample standard deviation over folds",
        f"{'init':<{NAME_WIDTH}}" + "".join(titles),
    ]
    calibrated = False
    for init, protocols in by_init.items():
        columns_text = [f"{formatted_spread(protocols['finetune'].spread(c.score), c):>{WIDTH}}" for c in columns]
        for protocol in frozen:
            mark = " *" if protocols[protocol].folds[0]["calibrated"] else "  "
            calibrated = calibrated or mark == " *"
            text = formatted_spread(protocols[protocol].spread(main.score), main) + mark
            columns_text.append(f"{text:>{FROZEN_WIDTH}}")
        lines.append(f"{init:<{NAME_WIDTH}}" + "".join(columns_text))
    for name, values in reference.rows:
        columns_text = [_formatted(value, column) for value, column in zip(values, columns, strict=False)]
        lines.append(f"{name:<{NAME_WIDTH}}" + "".join(f"{text:>{WIDTH}}" for text in columns_text))
    notes = [
        *reference.notes,
        *(["* with batch-norm statistics computed on the labelled frames"] if calibrated else []),
    ]
    return "\n".join([*lines, "; ".join(notes)])


def formatted_spread(spread: Spread, column: ScoreColumn) -> str:
    """Return a score over folds as the paper prints it: percent with one decimal, or plain with two."""
    return str(spread) if column.percent else spread.plain()


def _formatted(value: float | None, column: ScoreColumn) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}" if column.percent else f"{value:.2f}"
