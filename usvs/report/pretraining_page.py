"""The report of a pretraining run: drawn from the files in its folder, whichever are there."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from usvs.errors import DataError
from usvs.report.charts import Line, legend, line_chart, line_mark
from usvs.report.elements import Content, disclosure, figure, group, note, number_cell, short, table
from usvs.report.page import Page, Tone, first_sentences
from usvs.report.pretraining_samples import RunSamples, read_samples
from usvs.report.retrieval import map_section, retrieval_section
from usvs.report.stored_json import nested_rows, read_json
from usvs.tasks.diagnosis.losses import LOSS_LABELS
from usvs.tasks.pretraining.result import LABELS
from usvs.training.checkpoint import newest_checkpoint_folder
from usvs.training.metrics_log import read_metrics_so_far
from usvs.training.run_folder import CONFIG, ENVIRONMENT, MODEL_CARD, PATIENTS
from usvs.utils.text import quantity

MAX_DRAWN = 500  # records of each split
KIND = "usvs, report of a pretraining run"
TITLES = {**LABELS, **LOSS_LABELS, "pool_top1_speech_to_video": "retrieval, speech to frame"}
TITLES |= {"pool_top1_video_to_speech": "retrieval, frame to speech", "total": "total loss (weighted sum)"}
HIDDEN = {"retrieval_top1", "retrieval_top1_speech_to_video"}  # of one batch: the pool's are shown instead
STREAMS = ("video", "speech")
TRAINING, UNSEEN = "train", "validation"
Records = Sequence[Mapping[str, Any]]


def pretraining_page(run: Path, total_steps: int | None = None) -> Page:
    """Return the report of a run, of the state in which its folder is.

    Args:
        run: the folder; of its files any may be missing or damaged.
        total_steps: updates of the complete run, where that is known.
    """
    records, torn = _read_records(run)
    config = _read(run / CONFIG)
    samples, problem = _read_samples(run)
    total = total_steps or _total_steps(run)
    step = max((int(record["step"]) for record in records), default=0)
    page = Page(KIND, _title(config, step, total))
    page.tone, page.verdict = _verdict(samples, records, step, total)
    page.facts = _facts(records, config, step, total)
    page.add("losses", "Losses beside chance", lambda: _losses(records, torn))
    page.add("training", "Learning rate and throughput", lambda: _training(records, config))
    page.add("embeddings", "Embeddings", lambda: _embeddings(records))
    if samples is not None:
        found = samples
        page.add("retrieval", "Retrieval", lambda: retrieval_section(found))
        page.add("map", "Map of the embeddings", lambda: map_section(found))
    else:
        page.add("retrieval", "Retrieval", lambda: [note(problem or _how_to_measure())])
    page.add("settings", "Settings", lambda: _settings(run, config))
    page.add("environment", "Environment and patients", lambda: _environment(run))
    return page


def _read_records(run: Path) -> tuple[Records, int]:
    try:
        found, torn = read_metrics_so_far(run)
    except DataError:
        return [], 0
    return [record for record in found if record.get("split") in (TRAINING, UNSEEN)], torn


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file)
    except DataError:
        return {}


def _read_samples(run: Path) -> tuple[RunSamples | None, str]:
    try:
        return read_samples(run), ""
    except DataError:
        return None, "The measured pictures in this folder are damaged; 'usvs report RUN --store STORE' makes them again."


def _how_to_measure() -> str:
    return (
        "Retrieval, the map of the embeddings and the verdict are measured with the store, at the end of 'usvs pretrain' "
        "or by 'usvs report RUN --store STORE'."
    )


def _total_steps(run: Path) -> int | None:
    """Return the number of updates of the complete run, as its newest checkpoint states it."""
    try:
        state = json.loads((newest_checkpoint_folder(run) / "state.json").read_text("utf-8"))
        return int(state["total_steps"])
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


def _title(config: Mapping[str, Any], step: int, total: int | None) -> str:
    profile, seed = config.get("profile"), config.get("run", {}).get("seed")
    of_total = f" of {total:,}" if total and step < total else ""
    parts = [f"{step:,}{of_total} steps"]
    parts += [] if profile is None else [f"profile {profile}"]
    parts += [] if seed is None else [f"seed {seed}"]
    return f"Pretraining: {', '.join(parts)}"


def _verdict(samples: RunSamples | None, records: Records, step: int, total: int | None) -> tuple[Tone, list[str]]:
    if samples is None or not samples.description.get("verdict"):
        return "unknown", _state(records, step, total)
    measured = int(samples.description.get("step", step))
    text = first_sentences(str(samples.description["verdict"]))
    if measured < step:
        text.append(f"Measured after {measured:,} steps; the run has made {step - measured:,} more since.")
    matching = set(samples.description.get("matching", ()))
    verdicts = [loss["verdict"] for loss in samples.description.get("losses", ()) if loss["name"] in matching]
    if "learning" in verdicts:
        return "good", text
    return ("warn" if "memorising" in verdicts else "bad" if verdicts else "unknown"), text


def _state(records: Records, step: int, total: int | None) -> list[str]:
    if not records:
        return ["There is no record yet: the first is written after the first few steps."]
    of_total = f" of {total:,}" if total else ""
    state = "the run is not finished" if total is None or step < total else "the run is finished"
    text = [f"Step {step:,}{of_total}; {state}, and no verdict has been given."]
    last = _last(records, UNSEEN)
    known = [f"{TITLES[name]} {value:.3f} (chance {chance:.3f})" for name, value, chance in _beside_chance(last)]
    if known:
        text.append(f"On unseen patients after step {last['step']:,}: {', '.join(known)}.")
    return text


def _facts(records: Records, config: Mapping[str, Any], step: int, total: int | None) -> list[tuple[str, str]]:
    facts = [("steps", f"{step:,}" + (f" of {total:,}" if total and step < total else ""))]
    last = _last(records, UNSEEN)
    for name, value, chance in _beside_chance(last):
        if name in ("contrastive", "reverse"):
            facts.append((f"{TITLES[name]} of unseen patients, chance {chance:.2f}", f"{value:.2f}"))
        elif name.startswith("pool_top1"):
            facts.append((f"{TITLES[name]}, chance {100 * chance:.1f} %", f"{100 * value:.1f} %"))
    if clips := _clips_per_second(records, config):
        facts.append(("clips per second, median", short(float(np.median([value for _, value in clips])))))
    return facts


def _losses(records: Records, torn: int) -> Iterator[Content]:
    if not records:
        yield note("There is no record yet.")
        return
    names = [name for name in dict.fromkeys(key for record in records for key in record) if _is_shown(name, records)]
    names.sort(key=_order)
    yield (
        "Each loss and accuracy on the batches of training and on fixed batches of patients that the run never trains on,"
        " beside what guessing gives. A loss that leaves chance in training only has been learnt by heart."
    )
    yield legend([
        ("training patients", line_mark("training")),
        ("unseen patients", line_mark("unseen")),
        ("chance", line_mark("chance")),
    ])  # fmt: skip
    drawn = {split: _thinned([record for record in records if record["split"] == split]) for split in (TRAINING, UNSEEN)}
    yield group("charts", (_loss_chart(name, drawn) for name in names))
    if torn:
        yield note(f"{quantity(torn, 'line')} of metrics.jsonl {'was' if torn == 1 else 'were'} incomplete, as after a crash, and left out.")
    longest = max(sum(record["split"] == split for record in records) for split in drawn)
    if longest > MAX_DRAWN:
        yield note(f"Of {longest:,} records, {MAX_DRAWN} evenly spaced ones are drawn.")
    shown = [*names, "total"]
    columns = ["step", *(TITLES.get(name, name.replace("_", " ")) for name in shown)]
    for split, title in ((UNSEEN, "Values on unseen patients"), (TRAINING, "Values on training patients, last records")):
        chosen = [record for record in records if record["split"] == split][-60:]
        if chosen:
            rows = [[f"{record['step']:,}", *(number_cell(record.get(name)) for name in shown)] for record in chosen]
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


def _training(records: Records, config: Mapping[str, Any]) -> Iterator[Content]:
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
    clips = _clips_per_second(records, config)
    if clips:
        some_clips = _thinned(clips)
        rate = Line("clips per second", "unseen", [step for step, _ in some_clips], [value for _, value in some_clips])
        waits = [(record["wait_seconds"], record["step_seconds"]) for record in chosen if "wait_seconds" in record]
        waited = sum(wait for wait, _ in waits) / max(sum(wait + busy for wait, busy in waits), 1e-12)
        median = float(np.median([value for _, value in clips]))
        caption = f"median {short(median)}; {100 * waited:.0f} % of the time waiting for data"
        charts.append(figure("clips per second", line_chart([rate], f"clips per second over updates, {caption}", True), caption))
    if charts:
        yield group("charts", charts)
    else:
        yield note("There is no record yet.")


def _embeddings(records: Records) -> Iterator[Content]:
    chosen = [record for record in records if record["split"] == UNSEEN]
    charts = []
    for statistic, title in (("rank", "effective rank"), ("spread", "spread, 1 minus mean cosine")):
        lines, last = [], []
        for stream, kind in zip(STREAMS, ("unseen", "second"), strict=True):
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
    yield "How many directions the embeddings of unseen patients use, and how far apart they are. Near 1 and near 0 they have collapsed: all frames, or all speech, look alike."
    yield legend([("frames", line_mark("unseen")), ("speech", line_mark("second"))])
    yield group("charts", charts)


def _settings(run: Path, config: Mapping[str, Any]) -> Iterator[Content]:
    if not config:
        yield note(f"{CONFIG} is missing or damaged.")
        return
    rows = nested_rows(config)
    card = _read(run / MODEL_CARD)
    if card.get("init"):
        rows += [(f"init.{name}", text) for name, text in nested_rows({"init": _without_patients(card["init"])})]
    yield disclosure(f"All {len(rows)} settings", table("Settings of the run", ["setting", "value"], rows, numbers=False))


def _without_patients(init: Any) -> Any:
    return {name: value for name, value in init.items() if name != "name"} if isinstance(init, dict) else init


def _environment(run: Path) -> Iterator[Content]:
    patients = _read(run / PATIENTS)
    if patients:
        trained, unseen = len(patients.get("trained", ())), len(patients.get("validation", ()))
        yield f"{quantity(trained, 'training patient')} and {unseen} unseen; store {patients.get('store') or 'without an id'}."
    environment = _read(run / ENVIRONMENT)
    if environment:
        yield table("Machine and packages", ["what", "value"], nested_rows(environment), numbers=False)
    if not patients and not environment:
        yield note(f"{ENVIRONMENT} and {PATIENTS} are missing or damaged.")


def _last(records: Records, split: str) -> Mapping[str, Any]:
    return next((record for record in reversed(records) if record["split"] == split), {})


def _beside_chance(record: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    return [
        (name, float(record[name]), float(record[f"{name}_chance"]))
        for name in TITLES
        if name in record and f"{name}_chance" in record
    ]


def _is_shown(name: str, records: Records) -> bool:
    return name not in HIDDEN and any(f"{name}_chance" in record for record in records)


def _order(name: str) -> int:
    known = ["contrastive", "reverse", "pool_top1_speech_to_video", "pool_top1_video_to_speech"]
    return known.index(name) if name in known else len(known)


def _clips_per_second(records: Records, config: Mapping[str, Any]) -> list[tuple[int, float]]:
    batch = config.get("optimiser", {}).get("batch_clips")
    if not isinstance(batch, int):
        return []
    timed = [(record["step"], record["step_seconds"] + record.get("wait_seconds", 0.0)) for record in records if "step_seconds" in record]
    return [(step, batch / seconds) for step, seconds in timed if seconds > 0]


def _thinned(records: Sequence[Any]) -> list[Any]:
    """Return at most `MAX_DRAWN` records, evenly spaced, the last one among them."""
    if len(records) <= MAX_DRAWN:
        return list(records)
    return [records[number] for number in np.linspace(0, len(records) - 1, MAX_DRAWN).round().astype(int)]
