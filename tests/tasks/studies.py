"""Studies of pretraining on an archive with labels: how much archive it needs, what the speech detector costs, and what
of the recipe is necessary.

    python -m tests.tasks.studies archive-size OUT --store STORE --labels COLUMN --patients 5 11 22 [--seeds 0 1] [...]
    python -m tests.tasks.studies affinity OUT --store STORE --labels COLUMN --archive ARCHIVE [--seeds 0 1] [...]
    python -m tests.tasks.studies recipe OUT --store STORE --labels COLUMN [--rows NAME ...] [...]

40 % of the patients, the same for every run, are never shown: their labels are read by a linear classifier on frozen
features (three folds by patient), and the losses are measured on them.

archive-size: the first N of the other patients, with the same number of updates each time (--steps).
affinity: `usvs index` says how much of a clip is speech (the affinity of section 2.3); here pairs are chosen by that
detector, by the ground truth of a narrated or phantom archive (ARCHIVE.ground_truth), and without affinity. How often
the detector is wrong about a clip is stored beside what each choice teaches.
recipe: the paper's own objective (Eq. 2 of dot products, gradient descent with several learning rates) on the small
network of the profile, and the profile without one of its settings at a time; see `RECIPES`.

OUT/results.json is for the documents. Each pretraining is kept in OUT, so the command can be interrupted.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import usvs
from tests.tasks.transfer_table import losses_on
from usvs.config import load_settings
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore
from usvs.store.tables import HASHES_FILE
from usvs.tasks.pretraining.settings import pretrain_profile
from usvs.training.environment import describe_environment
from usvs.utils.hashing import file_sha256

PAPER = (
    "augment.zoom=1",
    "augment.gain_db=2",
    "model.order_dropout=0.5",
    "model.projection_batch_norm=false",
    "model.projection_grid=1",
    "model.shared_projection=true",
    "objective.candidates=all",
    "objective.correspondence_weight=1",
    "objective.form=eq2",
    "objective.normalise=false",
    "objective.order_fraction=1",
    "objective.order_weight=1",
    "objective.resample_invalid_pairs=false",
    "objective.scan_run_clips=1",
    "objective.stream_weight=0",
    "objective.symmetric=false",
    "objective.temperature=1",
    "optimiser.kind=sgd",
    "optimiser.schedule=step",
    "optimiser.weight_decay=0.0005",
    "spectrogram.standardise=constants",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "profile": (),
    **{f"paper, rate {rate}": (*PAPER, f"optimiser.learning_rate={rate}") for rate in (0.001, 0.01, 0.1)},
    "paper, AdamW": (
        *PAPER,
        "optimiser.kind=adamw",
        "optimiser.schedule=one_cycle",
        "optimiser.learning_rate=0.003",
        "optimiser.weight_decay=0.01",
    ),
    "without stream_weight": ("objective.stream_weight=0",),
    "without symmetric": ("objective.symmetric=false",),
    "without scan_run_clips": ("objective.scan_run_clips=1",),
    "without temperature 0.2": ("objective.temperature=1",),
    "without normalise": ("objective.normalise=false", "objective.temperature=1"),
    "without resample_invalid_pairs": ("objective.resample_invalid_pairs=false",),
    "with Eq. 2": ("objective.form=eq2",),
    "without projection_batch_norm": ("model.projection_batch_norm=false",),
    "without standardise": ("spectrogram.standardise=constants",),
}
HELD_OUT = 0.4
SPEECH_HZ = 100  # of the ground truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=tuple(STUDIES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--patients", type=int, nargs="+", default=[])
    parser.add_argument("--rows", nargs="+", default=list(RECIPES), choices=tuple(RECIPES))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--profile", default="quick", choices=("quick", "small"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {
        "environment": describe_environment(torch.device("cpu")),
        "study": options.study,
        "profile": options.profile,
        "steps": options.steps,
        "runs": STUDIES[options.study](options),
    }
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def archive_size(options: argparse.Namespace) -> list[dict[str, Any]]:
    pool, unseen = divide(PreparedStore(options.store))
    if max(options.patients) != len(pool):
        raise SystemExit(f"--patients: expected the largest to be all {len(pool)} that are not held out")
    runs = {
        (count, seed): pretrained(options, options.store, f"patients_{count}_{seed}", seed, pool[:count])
        for count in options.patients
        for seed in options.seeds
    }
    rows = [
        {"patients": count, "seed": seed, **measured(options.store, run, unseen)} for (count, seed), run in runs.items()
    ]
    return with_probe(options, options.store, list(runs.values()), rows)


def affinity(options: argparse.Namespace) -> list[dict[str, Any]]:
    truth, errors = with_true_fractions(options)
    pool, unseen = divide(PreparedStore(options.store))
    choices = {"detector": (options.store, ()), "truth": (truth, ()), "none": (truth, ("objective.affinity=false",))}
    runs = {
        (name, seed): pretrained(options, store, f"{name}_{seed}", seed, pool, overrides)
        for name, (store, overrides) in choices.items()
        for seed in options.seeds
    }
    rows = [{"pairs_by": name, "seed": seed, **measured(truth, run, unseen)} for (name, seed), run in runs.items()]
    return [{"detector": errors}, *with_probe(options, truth, list(runs.values()), rows)]


def recipe(options: argparse.Namespace) -> list[dict[str, Any]]:
    pool, unseen = divide(PreparedStore(options.store))
    runs = {
        (name, seed): pretrained(options, options.store, f"{name.replace(' ', '_')}_{seed}", seed, pool, RECIPES[name])
        for name in options.rows
        for seed in options.seeds
    }
    rows = [
        {"recipe": name, "seed": seed, **measured(options.store, run, unseen)} for (name, seed), run in runs.items()
    ]
    return with_probe(options, options.store, list(runs.values()), rows)


STUDIES: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "archive-size": archive_size,
    "affinity": affinity,
    "recipe": recipe,
}


def divide(store: PreparedStore) -> tuple[list[str], list[str]]:
    """Return the patients to pretrain on, in a fixed order, and those that are held out."""
    patients = sorted(set(patients_of(store)))
    order = [patients[number] for number in np.random.default_rng(0).permutation(len(patients))]
    held_out = round(HELD_OUT * len(order))
    return order[held_out:], order[:held_out]


def patients_of(store: PreparedStore) -> list[str]:
    """Return the patient of each scan."""
    return [str(store.scan(number).patient_key) for number in range(len(store.scans))]


def pretrained(
    options: argparse.Namespace, store: Path, name: str, seed: int, patients: list[str], overrides: tuple[str, ...] = ()
) -> Path:
    """Pretrain `--steps` updates on `patients`, or return the finished run."""
    run = options.out / name
    if (run / "done").exists():
        return run
    prepared = PreparedStore(store)
    clips = prepared.clips.of_scans(np.isin(patients_of(prepared), patients))
    settings = load_settings(pretrain_profile(options.profile), overrides=[*overrides, f"run.seed={seed}"])
    used = len(clips) if settings.objective.order_weight > 0 else int(np.isfinite(clips.speech_fraction).sum())
    epochs = max(1, round(options.steps * settings.optimiser.batch_clips / used))
    settings = load_settings(settings, overrides=[f"optimiser.epochs={epochs}", "validation_fraction=0"])
    usvs.pretrain(store, run, settings, patients=patients, loggers=[], resume=run.exists())
    (run / "done").touch()
    return run


def measured(store: Path, run: Path, unseen: list[str]) -> dict[str, Any]:
    """Return updates, and losses minus chance on the held-out patients."""
    prepared = PreparedStore(store)
    prepared.clips = prepared.clips.of_scans(np.isin(patients_of(prepared), unseen))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {"steps": last["step"], "losses": losses_on(prepared, run)}


def with_probe(
    options: argparse.Namespace, store: Path, runs: list[Path], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Add macro F1 of a linear classifier on frozen features of the held-out patients to each row, and a random row."""
    task = {"planes": "planes"}.get(options.labels, "classify")
    column = {} if task == "planes" else {"label_column": options.labels}
    inits: list[Any] = ["random", *runs]
    usvs.finetune(
        task, store, options.out / "probe", profile="quick", inits=inits, protocols=["probe"], patients="held-out",
        resume=True, **column,
    )  # fmt: skip
    results = json.loads((options.out / "probe" / "results.json").read_text())
    found = [init["probe"]["f1"] for init in results["inits"].values()]
    return [{"patients": 0, "probe_f1": found[0]}] + [
        row | {"probe_f1": f1} for row, f1 in zip(rows, found[1:], strict=True)
    ]


def with_true_fractions(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return a copy of the store whose speech fractions are the truth, and how often the detector differs."""
    copy = options.out / "true_store"
    if not copy.exists():
        shutil.copytree(options.store, copy, copy_function=os.link)
    catalogue = Catalogue.load(options.store)
    high = pretrain_profile(options.profile).clips
    scan, start, detected = (catalogue.clips[name].to_numpy() for name in ("scan", "start_seconds", "speech_fraction"))
    true = np.full(len(scan), np.nan, np.float32)
    for number, path in enumerate(catalogue.scans["path"].to_pylist()):
        truth = options.archive.with_name(f"{options.archive.name}.ground_truth") / Path(path).with_suffix(".npz")
        spoken: NDArray[np.float64] = np.load(truth)["speech"].astype(np.float64)
        for row in np.flatnonzero((scan == number) & np.isfinite(detected)):
            first = round(start[row] * SPEECH_HZ)
            true[row] = spoken[first : first + round(high.clip_seconds * SPEECH_HZ)].mean()
    (clips,) = (copy / "catalogue").glob("clips.*")
    file, hashes = clips / "speech_fraction.npy", json.loads((clips / HASHES_FILE).read_text())
    for old in (file, clips / HASHES_FILE):
        old.unlink()  # a hard link to the store's
    np.save(file, true)
    (clips / HASHES_FILE).write_text(json.dumps(hashes | {file.name: file_sha256(file)}))
    by_truth, by_detector = (values >= high.speech_fraction_high for values in (true, detected))
    counts = {
        "clips": len(true),
        "high by truth": int(by_truth.sum()),
        "high by detector": int(by_detector.sum()),
        "missed": int((by_truth & ~by_detector).sum()),
        "false": int((~by_truth & by_detector).sum()),
    }
    return copy, counts


if __name__ == "__main__":
    main()
