"""The report of a pretraining run: drawn from the files in its folder, whichever are there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from usvs.errors import DataError
from usvs.report.elements import Content, disclosure, note, short, table
from usvs.report.page import Page, Tone, first_sentences
from usvs.report.pretraining_charts import (
    TITLES,
    TRAINING,
    UNSEEN,
    Records,
    beside_chance,
    clips_per_second,
    embeddings_section,
    last_record,
    losses_section,
    training_section,
)
from usvs.report.pretraining_samples import RunSamples, read_samples
from usvs.report.retrieval import map_section, retrieval_section
from usvs.report.stored_json import group_of, nested_rows, optional_json
from usvs.training.checkpoint import newest_checkpoint_folder
from usvs.training.metrics_log import read_metrics_so_far
from usvs.training.run_folder import CONFIG, ENVIRONMENT, MODEL_CARD, PATIENTS
from usvs.utils.regular_files import read_json_object
from usvs.utils.text import quantity

KIND = "usvs, report of a pretraining run"


def pretraining_page(run: Path, total_steps: int | None = None, names: bool = False) -> Page:
    """Return the report of a run, of the state in which its folder is.

    Args:
        run: the folder; of its files any may be missing or damaged.
        total_steps: updates of the complete run, where that is known.
        names: whether the reason why a section cannot be drawn may name files.
    """
    records, torn = _read_records(run)
    config = optional_json(run / CONFIG)
    samples, problem = _read_samples(run)
    total = total_steps or _total_steps(run)
    step = max((int(record["step"]) for record in records), default=0)
    page = Page(KIND, _title(config, step, total), names=names)
    page.tone, page.verdict = _verdict(samples, records, step, total)
    page.facts = _facts(records, config, step, total)
    page.add("losses", "Losses beside chance", lambda: losses_section(records, torn))
    page.add("training", "Learning rate and throughput", lambda: training_section(records, config))
    page.add("embeddings", "Embeddings", lambda: embeddings_section(records))
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
    records = []
    for record in found:
        numbers = {name: value for name, value in record.items() if _is_number(value)}
        if record.get("split") in (TRAINING, UNSEEN) and "step" in numbers:
            records.append({**numbers, "split": record["split"]})
    return records, torn


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < 2**53


def _read_samples(run: Path) -> tuple[RunSamples | None, str]:
    try:
        return read_samples(run), ""
    except DataError:
        return (
            None,
            "The measured pictures in this folder are damaged; 'usvs report RUN --store STORE' makes them again.",
        )


def _how_to_measure() -> str:
    return (
        "Retrieval, the map of the embeddings and the verdict are measured with the store, at the end of"
        " 'usvs pretrain' or by 'usvs report RUN --store STORE'."
    )


def _total_steps(run: Path) -> int | None:
    """Return the number of updates of the complete run, as its newest checkpoint states it."""
    try:
        return int(read_json_object(newest_checkpoint_folder(run) / "state.json")["total_steps"])
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


def _title(config: Mapping[str, Any], step: int, total: int | None) -> str:
    profile, seed = config.get("profile"), group_of(config, "run").get("seed")
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
    return ("warn" if {"memorising", "too certain"} & set(verdicts) else "bad" if verdicts else "unknown"), text


def _state(records: Records, step: int, total: int | None) -> list[str]:
    if not records:
        return ["There is no record yet: the first is written after the first few steps."]
    of_total = f" of {total:,}" if total else ""
    state = "the run is not finished" if total is None or step < total else "the run is finished"
    text = [f"Step {step:,}{of_total}; {state}, and no verdict has been given."]
    last = last_record(records, UNSEEN)
    known = [f"{TITLES[name]} {value:.3f} (chance {chance:.3f})" for name, value, chance in beside_chance(last)]
    if known:
        text.append(f"On unseen patients after step {last['step']:,}: {', '.join(known)}.")
    return text


def _facts(records: Records, config: Mapping[str, Any], step: int, total: int | None) -> list[tuple[str, str]]:
    facts = [("steps", f"{step:,}" + (f" of {total:,}" if total and step < total else ""))]
    last = last_record(records, UNSEEN)
    for name, value, chance in beside_chance(last):
        if name in ("contrastive", "reverse"):
            facts.append((f"{TITLES[name]} of unseen patients, chance {chance:.2f}", f"{value:.2f}"))
        elif name.startswith("pool_top1"):
            facts.append((f"{TITLES[name]}, chance {100 * chance:.1f} %", f"{100 * value:.1f} %"))
    if clips := clips_per_second(records, config):
        facts.append(("clips per second, median", short(float(np.median([value for _, value in clips])))))
    return facts


def _settings(run: Path, config: Mapping[str, Any]) -> Iterator[Content]:
    if not config:
        yield note(f"{CONFIG} is missing or damaged.")
        return
    rows = nested_rows(config)
    card = optional_json(run / MODEL_CARD)
    if card.get("init"):
        rows += [(f"init.{name}", text) for name, text in nested_rows({"init": _without_patients(card["init"])})]
    yield disclosure(
        f"All {len(rows)} settings", table("Settings of the run", ["setting", "value"], rows, numbers=False)
    )


def _without_patients(init: Any) -> Any:
    return {name: value for name, value in init.items() if name != "name"} if isinstance(init, dict) else init


def _environment(run: Path) -> Iterator[Content]:
    patients = optional_json(run / PATIENTS)
    if patients:
        trained, unseen = len(patients.get("trained", ())), len(patients.get("validation", ()))
        store = patients.get("store") or "without an id"
        yield f"{quantity(trained, 'training patient')} and {unseen} unseen; store {store}."
    environment = optional_json(run / ENVIRONMENT)
    if environment:
        made = table("Machine and packages", ["what", "value"], nested_rows(environment), numbers=False)
        yield disclosure("Machine and packages", made)
    if not patients and not environment:
        yield note(f"{ENVIRONMENT} and {PATIENTS} are missing or damaged.")
