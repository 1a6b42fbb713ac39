"""What a model card says of a run: data, settings and measured figures, read from the run's own files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from usvs.inference.export.source import ExportSource
from usvs.tasks.provenance import RESULTS_FILE
from usvs.tasks.trained_patients import trained_patients
from usvs.training.checkpoint import newest_checkpoint_folder, step_of
from usvs.training.metrics_log import METRICS, read_metrics
from usvs.training.run_folder import CONFIG, ENVIRONMENT, PATIENTS
from usvs.utils.regular_files import read_json_object
from usvs.utils.text import quantity

CHANCE = "_chance"
FOLD = "fold_"


class RunFacts(NamedTuple):
    """Lines of a model card.

    Attributes:
        data: sentences on what it was trained on.
        settings: name and value of each setting.
        figures: rows of a table: measure, value, chance or spread; texts.
        columns: titles of that table.
        measured: a sentence on how the figures were measured; empty where there are none.
        made_with: versions, device and revision, by name.
    """

    data: tuple[str, ...]
    settings: dict[str, Any]
    figures: tuple[tuple[str, str, str], ...]
    columns: tuple[str, str, str]
    measured: str
    made_with: dict[str, str]


NOTHING = RunFacts(
    ("The folder of its training was not at hand: nothing is known of its data.",), {}, (), ("", "", ""), "", {}
)


def read_facts(source: ExportSource) -> RunFacts:
    """Return what the files of the run say; nothing where the run's folder is not at hand.

    Raises:
        DataError: for a file that is damaged.
    """
    if source.run is None:
        settings = source.models[0].settings.model_dump(mode="json") if source.models else {}
        return NOTHING._replace(settings=_flat(settings))
    return _pretraining(source, source.run) if source.kind == "encoder" else _fine_tuning(source, source.run)


def _pretraining(source: ExportSource, run: Path) -> RunFacts:
    step, metrics = _validation(source, run)
    rows = tuple(
        (name, f"{value:.4g}", f"{metrics[name + CHANCE]:.4g}")
        for name, value in metrics.items()
        if name + CHANCE in metrics
    )
    measured = f"Validation after {step} updates, on patients that the run was not trained on." if rows else ""
    return RunFacts(
        _patients(run),
        _flat(read_json_object(run / CONFIG)),
        rows,
        ("measure", "value", "chance"),
        measured,
        _made_with(run),
    )


def _validation(source: ExportSource, run: Path) -> tuple[int, dict[str, float]]:
    """Return the last validation up to the exported checkpoint: updates and values; empty where there is none."""
    if not (run / METRICS).is_file():  # an encoder on its own
        return 0, {}
    step = step_of(newest_checkpoint_folder(source.path))
    records = [one for one in read_metrics(run) if one["split"] == "validation" and one["step"] <= step]
    if not records:
        return 0, {}
    return records[-1]["step"], {name: value for name, value in records[-1].items() if name not in ("step", "split")}


def _fine_tuning(source: ExportSource, run: Path) -> RunFacts:
    results = read_json_object(run / RESULTS_FILE)
    init, fold = _init_and_fold(source, results)
    columns = source.models[0].task.columns
    scores = results.get("inits", {}).get(init, {}).get("finetune", {})
    rows = []
    for column in columns:
        score = scores.get(column.score)
        if not isinstance(score, dict):
            continue
        factor, digits = (100, 1) if column.percent else (1, 2)
        values = score["values"] if fold is None else [score["values"][fold]]
        mean, spread = sum(values) / len(values), "" if fold is not None else f"{score['std'] * factor:.{digits}f}"
        unit = " %" if column.percent else ""
        rows.append((f"{column.title}", f"{mean * factor:.{digits}f}{unit}", spread))
    settings = results.get("settings", {})
    labelled = settings.get("labelled_patients")
    data = [
        f"Fine-tuned on labelled frames of {'all' if labelled is None else labelled} training patients of each of"
        f" {quantity(int(settings.get('folds', 0)), 'fold')}, from the initial encoder '{init}'.",
        f"Folds are divided by {results.get('group_by', 'patient')}.",
    ]
    overlap = results.get("pretraining_overlap", {}).get(init)
    if overlap is not None:
        data.append(f"Overlap of the patients of the encoder's pretraining with the test patients: {overlap}.")
    measured = (
        "Mean and sample standard deviation over the folds, each model on the test patients of its own fold. The mean"
        " of several models, which is exported here, was not measured: every patient trained some of them."
        if fold is None
        else f"Of fold {fold} on its test patients."
    )
    chance = results.get("chance_f1")
    if isinstance(chance, float):
        measured += f" F1 of a fair draw among the classes: {100 * chance:.1f} %."
    made = _environment(results.get("environment", {}))
    return RunFacts(
        tuple(data), _flat(settings), tuple(rows), ("measure", "value", "± over folds"), measured if rows else "", made
    )


def _init_and_fold(source: ExportSource, results: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the init of the exported models, and the number of the fold where it is one fold's."""
    path = source.path.resolve()
    if path.name.startswith(FOLD) and path.name.removeprefix(FOLD).isdigit():
        return path.parent.name, int(path.name.removeprefix(FOLD))
    inits = list(results.get("inits", {}))
    return (path.name if path.name in inits else str(results.get("best_init"))), None


def _patients(run: Path) -> tuple[str, ...]:
    trained = trained_patients(run) or {}
    count = sum(map(len, trained.values()))
    listing = run / PATIENTS
    validation = len(read_json_object(listing).get("validation", [])) if listing.is_file() else 0
    where = "" if len(trained) < 2 else f" of {len(trained)} stores"
    return (
        f"Trained on video and speech of {quantity(count, 'patient')}{where}, without labels; {validation} further"
        " patients were kept for validation.",
    )


def _made_with(run: Path) -> dict[str, str]:
    file = run / ENVIRONMENT
    return _environment(read_json_object(file)) if file.is_file() else {}


def _environment(found: Mapping[str, Any]) -> dict[str, str]:
    versions = {name: str(found["packages"][name]) for name in ("usvs", "torch") if name in found.get("packages", {})}
    rest = {name: str(found[name]) for name in ("python", "system", "device", "git_revision") if found.get(name)}
    return {**versions, **rest}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
