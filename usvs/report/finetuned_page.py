"""The report of a fine-tuning: drawn from the results in its folder, of as many folds as there are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from usvs.evaluation.metrics import Spread
from usvs.evaluation.significance import paired_difference
from usvs.report.charts import legend, line_mark, score_chart
from usvs.report.confusion import confusion_table
from usvs.report.elements import NO_VALUE, Content, disclosure, element, figure, note, number_cell, table
from usvs.report.finetuned_results import FinetunedRun
from usvs.report.finetuned_timelines import finetuned_timelines
from usvs.report.page import Page, Tone
from usvs.report.pictures import gray_levels, overlay, picture
from usvs.report.runs import PROTOCOL_TITLES
from usvs.report.stored_json import group_of, nested_rows
from usvs.report.stored_results import example_maps, read_examples
from usvs.tasks.comparison import EXAMPLES
from usvs.tasks.diagnosis.losses import half_width
from usvs.tasks.saliency.task import SaliencyTask
from usvs.tasks.task import ScoreColumn

KIND = "usvs, report of a fine-tuning"
MAX_MATRIX_CLASSES, MAX_MATRICES = 60, 6


def finetuned_page(run: Path, store: Path | None = None, names: bool = False) -> Page:
    """Return the report of a fine-tuning.

    Args:
        run: its folder.
        store: that it was trained on, for timelines of test scans; None: without them.
        names: whether scans have the paths of their files beside their keys.

    Raises:
        DataError: where the folder has no results of a fine-tuning.
    """
    found = FinetunedRun(run)
    title = found.results.get("title") or group_of(found.plan, "task").get("title") or "frames"
    page = Page(KIND, f"Fine-tuning: {title if not found.is_gaze else SaliencyTask.title}", names=names)
    page.tone, page.verdict = _verdict(found)
    page.facts = _facts(found)
    page.add("scores", "Scores", lambda: _scores(found))
    if not found.is_gaze:
        page.add("confusion", "Confusion", lambda: _confusions(found))
    else:
        page.add("saliency", "Saliency", lambda: _saliency(run))
    page.add("timelines", "Test scans over time", lambda: finetuned_timelines(run, found, store, names))
    page.add("folds", "Folds and patients", lambda: _folds(found))
    page.add("settings", "Settings", lambda: _settings(found))
    page.add("environment", "Environment", lambda: _environment(found))
    return page


def _verdict(run: FinetunedRun) -> tuple[Tone, list[str]]:
    best, rows, main = run.best, run.rows(), run.main
    if best is None or not rows:
        return "unknown", ["No fold is measured yet."]
    protocol = rows[0][1]
    values = run.values(best, protocol, main.score)
    text = [
        f"{_title(protocol).capitalize()} from '{best}' reaches {_name(run)} {_spread(values, main)} on patients that"
        f" it was not trained on{_chance_text(run)}."
    ]
    others = [init for init, other in rows if other == protocol and init != best]
    for other in others[:2]:
        compared = run.values(other, protocol, main.score)
        if len(compared) == len(values) > 0:
            difference = paired_difference(*((compared, values) if run.is_gaze else (values, compared)))
            lead = f"{100 * abs(difference.mean):.1f} points" if main.percent else f"{abs(difference.mean):.2f}"
            by = "by less than the last digit" if float(lead.split()[0]) == 0 else f"by {lead}"
            text.append(
                f"Ahead of '{other}' ({_spread(compared, main)}) {by}, in {difference.wins} of {len(values)} folds."
            )
    overlap = group_of(run.results, "pretraining_overlap")
    if shared := [name for name, state in overlap.items() if state != "disjoint"]:
        text.append(
            f"Test patients may be among those of the pretraining of {', '.join(shared)}: its scores may be too good."
        )
    if run.done < run.expected:
        text.append(f"{run.done} of {run.expected} measurements are done.")
    chance = run.results.get("chance_f1")
    if run.is_gaze:
        chance = group_of(run.results, "uniform").get(main.score)
    if run.done < run.expected or chance is None or len(values) < 2:
        return "unknown", text
    gain = float(np.mean(values)) - chance if not run.is_gaze else chance - float(np.mean(values))
    if gain > half_width(np.array(values)):
        return "good", text
    text.insert(1, "That is not clearly better than guessing; more labelled patients help most.")
    return "bad", text


def _facts(run: FinetunedRun) -> list[tuple[str, str]]:
    facts = []
    for init, protocol in run.rows()[:4]:
        values = run.values(init, protocol, run.main.score)
        if values:
            mean = f"{100 * np.mean(values):.1f} %" if run.main.percent else f"{np.mean(values):.2f}"
            facts.append((f"{_name(run)}, {init}, {_title(protocol)}", mean))
    if (chance := run.results.get("chance_f1")) is not None:
        facts.append((f"{_name(run)} of guessing", f"{100 * chance:.1f} %"))
    facts.append(("folds by patient", f"{len(run.plan.get('folds', ())) or run.settings.get('folds', 0)}"))
    return facts


def _scores(run: FinetunedRun) -> Iterator[Content]:
    rows, main = run.rows(), run.main
    if not rows:
        yield note("No fold is measured yet.")
        return
    if main.percent:
        chart_rows = [
            (f"{init}, {_title(protocol)}", run.values(init, protocol, main.score)) for init, protocol in rows
        ]
        chart = score_chart(chart_rows, run.results.get("chance_f1"), f"{_name(run)} of each init and protocol")
        yield figure(_name(run), chart, "mean as a bar, one dot for each fold of test patients", "narrow")
        yield legend([("guessing", line_mark("chance"))])
    columns = ["init and protocol", *(column.title for column in run.columns), f"95 % interval of {main.title}"]
    lines: list[list[str | Element]] = []
    for init, protocol in rows:
        cells: list[str | Element] = [f"{init}, {_title(protocol)}"]
        for column in run.columns:
            values = run.values(init, protocol, column.score)
            cells.append(number_cell(float(np.mean(values)), _spread(values, column)) if values else NO_VALUE)
        cells.append(_interval(run.values(init, protocol, main.score), main))
        lines.append(cells)
    if uniform := group_of(run.results, "uniform"):
        lines.append(["uniform map", *(number_cell(uniform.get(column.score)) for column in run.columns), NO_VALUE])
    yield table("Mean ± sample standard deviation over folds of test patients", columns, lines)
    yield note(
        "The interval is Student's, over folds; folds share training patients, so it is somewhat too narrow."
        + (" Lower KL is better." if run.is_gaze else "")
    )
    if not run.is_gaze and run.best is not None and (matrix := _confusion(run, run.best, rows[0][1])) is not None:
        yield disclosure(f"Scores of each class, {run.best}", _class_table(run.classes, matrix))


def _class_table(classes: Sequence[str], matrix: NDArray[np.int64]) -> Element:
    rows: list[list[str | Element]] = []
    for number, name in enumerate(classes):
        own, truth, predicted = matrix[number, number], matrix[number].sum(), matrix[:, number].sum()
        recall, precision = own / truth if truth else None, own / predicted if predicted else None
        f1 = 2 * own / (truth + predicted) if truth + predicted else None
        cells = [number_cell(None if value is None else float(value)) for value in (precision, recall, f1)]
        rows.append([name, *cells, f"{int(truth):,}"])
    return table("All test frames of all folds", ["class", "precision", "recall", "F1", "frames"], rows)


def _confusion(run: FinetunedRun, init: str, protocol: str) -> NDArray[np.int64] | None:
    found = [fold["confusion"] for fold in run.measured.get(init, {}).get(protocol, ()) if "confusion" in fold]
    return np.sum(found, axis=0, dtype=np.int64) if found else None


def _confusions(run: FinetunedRun) -> Iterator[Content]:
    if len(run.classes) > MAX_MATRIX_CLASSES:
        yield note(f"{len(run.classes)} classes are too many for a matrix on a page.")
        return
    ordered = sorted(run.rows(), key=lambda pair: (pair[1] != run.rows()[0][1], pair[0] != run.best))
    shown = 0
    for init, protocol in ordered[:MAX_MATRICES]:
        matrix = _confusion(run, init, protocol)
        if matrix is None or matrix.shape != (len(run.classes), len(run.classes)):
            continue
        title = (
            f"{init}, {_title(protocol)}: percent of the frames of each true class (rows) by predicted class (columns)"
        )
        drawn = confusion_table(matrix, run.classes, title)
        yield drawn if not shown else disclosure(f"{init}, {_title(protocol)}", drawn)
        shown += 1
    if not shown:
        yield note("No fold is measured yet.")


def _saliency(run: Path) -> Iterator[Content]:
    file = run / "examples.npz"
    stored = {"": read_examples(file)} if file.exists() else _examples_so_far(run)
    if not stored:
        yield note("No example is stored yet.")
        return
    yield "Where people looked (ground truth), and where each model expects it, on test frames of the first fold."
    for title, examples in stored.items():
        maps = example_maps(examples)
        rows = []
        for number, frame in enumerate(examples["frames"]):
            cells = [element("td", {}, picture(gray_levels(frame), f"frame {number + 1}"))]
            cells += [
                element("td", {}, picture(overlay(frame, densities[number]), f"{name} on frame {number + 1}"))
                for name, densities in maps.items()
            ]
            rows.append(element("tr", {}, *cells))
        heads = [element("th", {"scope": "col"}, name) for name in ("frame", *maps)]
        caption = element("caption", {}, f"Densities over frames{f', {title}' if title else ''}")
        made = element("table", {"class": "overlays"}, caption, element("thead", {}, element("tr", {}, *heads)))
        made.append(element("tbody", {}, *rows))
        yield element("div", {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": "saliency"}, made)


def _examples_so_far(run: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the examples of each init of an unfinished run."""
    found = {}
    for file in sorted((run / EXAMPLES).glob("*.npz")):
        examples = read_examples(file)
        found[file.stem] = {("predicted_model" if name == "predicted" else name): one for name, one in examples.items()}
    return found


def _folds(run: FinetunedRun) -> Iterator[Content]:
    rows = []
    for init, protocol in run.rows():
        for fold in run.measured[init][protocol]:
            counts = [len(fold.get("train_patients", ())), len(fold.get("test_patients", ()))]
            frames = [int(fold.get("train_frames", 0)), int(fold.get("test_frames", 0))]
            score = number_cell(float(fold[run.main.score])) if run.main.score in fold else NO_VALUE
            name = f"{init}, {_title(protocol)}, fold {int(fold.get('fold', 0)) + 1}"
            rows.append([name, score, *(f"{value:,}" for value in (*counts, *frames))])
    columns = ["fold", run.main.title, "labelled patients", "test patients", "labelled frames", "test frames"]
    yield table("No patient is on both sides of a fold", columns, rows)
    patients = [
        [f"fold {number + 1}", ", ".join(fold.get("train", ())), ", ".join(fold.get("test", ()))]
        for number, fold in enumerate(run.folds)
    ]
    if patients:
        columns = ["fold", "labelled patients", "test patients"]
        yield disclosure("Keys of the patients", table("Keys of the patients", columns, patients, numbers=False))


def _settings(run: FinetunedRun) -> Iterator[Content]:
    rows = nested_rows(run.settings)
    yield disclosure(
        f"All {len(rows)} settings", table("Settings of the run", ["setting", "value"], rows, numbers=False)
    )


def _environment(run: FinetunedRun) -> Iterator[Content]:
    environment = group_of(run.results, "environment")
    if not environment:
        yield note("Written when the run is complete.")
        return
    made = table("Machine and packages", ["what", "value"], nested_rows(environment), numbers=False)
    yield disclosure("Machine and packages", made)


def _name(run: FinetunedRun) -> str:
    return "KL" if run.is_gaze else "macro F1"


def _title(protocol: str) -> str:
    return PROTOCOL_TITLES.get(protocol, protocol)


def _spread(values: Sequence[float], column: ScoreColumn) -> str:
    spread = Spread.of(values)
    return f"{spread} %" if column.percent else spread.plain()


def _interval(values: Sequence[float], column: ScoreColumn) -> str:
    if len(values) < 2:
        return NO_VALUE
    mean, half = float(np.mean(values)), half_width(np.array(values))
    low, high = mean - half, mean + half
    if column.percent:  # no such score is outside of 0 .. 100 %
        return f"{100 * max(low, 0.0):.1f} to {100 * min(high, 1.0):.1f} %"
    return f"{low:.2f} to {high:.2f}"


def _chance_text(run: FinetunedRun) -> str:
    chance, uniform = run.results.get("chance_f1"), group_of(run.results, "uniform")
    if chance is not None:
        return f" (guessing {100 * chance:.1f} %)"
    return f" (uniform map {uniform[run.main.score]:.2f})" if run.main.score in uniform else ""
