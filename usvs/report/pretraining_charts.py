"""The charts of a pretraining run: losses beside chance, learning rate, throughput, rank and spread of embeddings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from usvs.report.charts import Line, legend, line_chart, line_mark
from usvs.report.elements import Content, disclosure, figure, group, note, number_cell, short, table
from usvs.report.stored_json import group_of
from usvs.tasks.diagnosis.losses import LOSS_LABELS
from usvs.tasks.pretraining.result import LABELS
from usvs.tasks.pretraining.validation import STREAM_NAMES
from usvs.utils.spacing import evenly_spaced
from usvs.utils.text import quantity

MAX_DRAWN = 500  # records of each split
MAX_LISTED = 60
TITLES = {**LABELS, **LOSS_LABELS, "pool_top1_speech_to_video": "retrieval, speech to frame"}
TITLES |= {"pool_top1_video_to_speech": "retrieval, frame to speech", "total": "total loss (weighted sum)"}
HIDDEN = {"retrieval_top1", "retrieval_top1_speech_to_video"}  # of one batch: the pool's are shown instead
FIRST = ("contrastive", "reverse", "pool_top1_speech_to_video", "pool_top1_video_to_speech")
TRAINING, UNSEEN = "train", "validation"
Records = Sequence[Mapping[str, Any]]


def losses_section(records: Records, torn: int) -> Iterator[Content]:
    """Yield a chart of every quantity with a chance level, and its values as tables.

    Args:
        records: of ``metrics.jsonl``.
        torn: number of its lines that are no record.
    """
    if not records:
        yield note("There is no record yet.")
        return
    names = [name for name in dict.fromkeys(key for record in records for key in record) if _is_shown(name, records)]
    names.sort(key=_order)
    yield (
        "Each loss and accuracy on the batches of training, and on fixed batches of patients that the run never trains"
        " on, beside what guessing gives. A loss that leaves chance in training only has been learnt by heart."
    )
    yield legend([
        ("training patients", line_mark("training")),
        ("unseen patients", line_mark("unseen")),
        ("chance", line_mark("chance")),
    ])  # fmt: skip
    drawn = {
        split: _thinned([record for record in records if record["split"] == split]) for split in (TRAINING, UNSEEN)
    }
    yield group("charts", (_loss_chart(name, drawn) for name in names))
    if torn:
        yield note(
            f"{quantity(torn, 'line')} of metrics.jsonl {'was' if torn == 1 else 'were'} incomplete, as after a crash,"
            " and left out."
        )
    longest = max(sum(record["split"] == split for record in records) for split in drawn)
    if longest > MAX_DRAWN:
        yield note(f"Of {longest:,} records, {MAX_DRAWN} evenly spaced ones are drawn.")
    shown = [*names, "total"]
    columns = ["step", *(TITLES.get(name, name.replace("_", " ")) for name in shown)]
    for split, title in (
        (UNSEEN, "Values on unseen patients"),
        (TRAINING, "Values on training patients, last records"),
    ):
        chosen = [record for record in records if record["split"] == split][-MAX_LISTED:]
        if chosen:
            rows: list[list[str | Element]] = [
                [f"{record['step']:,}", *(number_cell(record.get(name)) for name in shown)] for record in chosen
            ]
            yield disclosure(title, table(f"{title}, as in metrics.jsonl", columns, rows))


def _loss_chart(name: str, drawn: Mapping[str, Records]) -> Element:
    title, lines, last = TITLES.get(name, name.replace("_", " ")), [], []
    for split, kind, label in ((TRAINING, "training", "training"), (UNSEEN, "unseen", "unseen")):
        chosen = [record for record in drawn[split] if name in record]
        if not chosen:
            continue
        steps = [record["step"] for record in chosen]
        chance = [float(record.get(f"{name}_chance", math.nan)) for record in chosen]
        lines.append(Line(f"chance of {label}", "chance", steps, chance))
        lines.append(Line(label, kind, steps, [float(record[name]) for record in chosen], split == UNSEEN))
        last.append(f"{label} {short(chosen[-1][name])}, chance {short(chance[-1])}")
    lines.sort(key=lambda line: line.kind != "chance")
    caption = "; ".join(last)
    return figure(title, line_chart(lines, f"{title} over updates: {caption}"), caption)


def training_section(records: Records, config: Mapping[str, Any]) -> Iterator[Content]:
    """Yield charts of learning rate, gradient norm, pairs and clips per second; `config` has the settings."""
    chosen = [record for record in records if record["split"] == TRAINING]
    charts = []
    for name, title, zero in (
        ("learning_rate", "learning rate", True),
        ("gradient_norm", "norm of the gradient", True),
        ("valid_pairs", "pairs of a batch", True),
    ):
        some = _thinned([record for record in chosen if name in record])
        if some:
            values = [float(record[name]) for record in some]
            line = Line(title, "unseen", [record["step"] for record in some], values)
            caption = f"last {short(values[-1])}"
            charts.append(figure(title, line_chart([line], f"{title} over updates, {caption}", zero), caption))
    clips = clips_per_second(records, config)
    if clips:
        some_clips = _thinned(clips)
        rate = Line("clips per second", "unseen", [step for step, _ in some_clips], [value for _, value in some_clips])
        waits = [(record["wait_seconds"], record["step_seconds"]) for record in chosen if "wait_seconds" in record]
        waited = sum(wait for wait, _ in waits) / max(sum(wait + busy for wait, busy in waits), 1e-12)
        median = float(np.median([value for _, value in clips]))
        caption = f"median {short(median)}; {100 * waited:.0f} % of the time waiting for data"
        charts.append(
            figure("clips per second", line_chart([rate], f"clips per second over updates, {caption}", True), caption)
        )
    if charts:
        yield group("charts", charts)
    else:
        yield note("There is no record yet.")


def embeddings_section(records: Records) -> Iterator[Content]:
    """Yield charts of rank and spread of the embeddings of both streams."""
    chosen = [record for record in records if record["split"] == UNSEEN]
    charts = []
    for statistic, title in (("rank", "effective rank"), ("spread", "spread, 1 minus mean cosine")):
        lines, last = [], []
        for stream, kind in zip(STREAM_NAMES, ("unseen", "second"), strict=True):
            some = [record for record in chosen if f"{stream}_{statistic}" in record]
            if some:
                values = [float(record[f"{stream}_{statistic}"]) for record in some]
                lines.append(Line(stream, kind, [record["step"] for record in some], values, True))
                last.append(f"{stream} {short(values[-1])}")
        if lines:
            caption = ", ".join(last)
            charts.append(figure(title, line_chart(lines, f"{title} over updates: {caption}", True), caption))
    if not charts:
        yield note("Rank and spread are measured at each validation of a run whose loss compares embeddings; none yet.")
        return
    yield (
        "How many directions the embeddings of unseen patients use, and how far apart they are. Near 1 and near 0 they"
        " have collapsed: all frames, or all speech, look alike."
    )
    yield legend([("frames", line_mark("unseen")), ("speech", line_mark("second"))])
    yield group("charts", charts)


def last_record(records: Records, split: str) -> Mapping[str, Any]:
    """Return the last record of a split; empty without one."""
    return next((record for record in reversed(records) if record["split"] == split), {})


def beside_chance(record: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return name, value and chance level of the quantities that have one."""
    return [
        (name, float(record[name]), float(record[f"{name}_chance"]))
        for name in TITLES
        if name in record and f"{name}_chance" in record
    ]


def _is_shown(name: str, records: Records) -> bool:
    return name not in HIDDEN and any(f"{name}_chance" in record for record in records)


def _order(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def clips_per_second(records: Records, config: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return step and clips per second of each record with its time; empty where the batch size is not known."""
    batch = group_of(config, "optimiser").get("batch_clips")
    if not isinstance(batch, int):
        return []
    timed = [
        (record["step"], record["step_seconds"] + record.get("wait_seconds", 0.0))
        for record in records
        if "step_seconds" in record
    ]
    return [(step, batch / seconds) for step, seconds in timed if seconds > 0]


def _thinned(records: Sequence[Any]) -> list[Any]:
    """Return at most `MAX_DRAWN` records, evenly spaced, the last one among them."""
    return [records[number] for number in evenly_spaced(len(records), MAX_DRAWN)]
