"""Gathers what pretraining runs measured last into one file for the documents.

    python -m tests.tasks.run_results [NAME=]RUN ... --out docs/results/semi_real.json [--other STORE] \
        [--labels LABELS.csv --seen ARCHIVE.ground_truth/sources.csv --frames CACHE.npz [--group NAME=CLASS,CLASS ...]]

Of each run: settings that differ from its profile, environment with revision, steps, the mean of the last ten training
records and the last validation record, both beside chance; with --other, a store of sources that no run was shown, also
its losses minus chance there (measured now, at the revision "measured_at"). With --labels also what a linear classifier
on the frozen features, trained with the labels of the seen sources, reads of the others: macro F1 in %, as
transfer_table.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import usvs
from tests.tasks.transfer_table import GRIDS, Frames, encoder_features, losses_on, parse_groups, score, seen_patients
from usvs.models.preprocessing import prepared_side
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import pretrain_profile, read_settings
from usvs.training.environment import describe_environment
from usvs.utils.nested import differences

LAST_RECORDS = 10


def run_results(
    run: Path, other: PreparedStore | None = None, labelled: tuple[Frames, dict[str, list[str]]] | None = None
) -> dict[str, Any]:
    """Return what a run measured last, its losses on another store, and what is read of labelled frames by group."""
    settings = read_settings((run / "config.json").read_text(), run / "config.json")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["split"] == "train"][-LAST_RECORDS:]
    unseen = [record for record in records if record["split"] == "validation"][-1:]
    base = pretrain_profile(settings.profile).model_dump(mode="json")
    return {
        "profile": settings.profile,
        "settings": {found.path: found.new for found in differences(base, settings.model_dump(mode="json"))},
        "environment": json.loads((run / "environment.json").read_text()),
        "steps": records[-1]["step"],
        "training": {
            name: round(fmean(record[name] for record in last), 4)
            for name in last[-1]
            if name not in ("split", "step") and all(name in record for record in last)
        },
        "validation": unseen[0] if unseen else {},
        **({} if other is None else {"other": losses_on(other, run)}),
        **({} if labelled is None else {"read": label_reading(run, *labelled)}),
    }


def label_reading(run: Path, frames: Frames, groups: dict[str, list[str]]) -> dict[str, float]:
    """Return the macro F1 in % of a linear classifier on frozen features, by group of classes and grid."""
    features = encoder_features(usvs.load_encoder(run), frames, calibrate=False)
    return {
        f"{name}, {'pooled' if grid == 1 else '2 x 2'}": round(score(features[grid], frames, classes, None)["f1"], 1)
        for name, classes in groups.items()
        for grid in GRIDS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--seen", type=Path)
    parser.add_argument("--frames", type=Path, help="keeps the frames of the labelled videos")
    parser.add_argument("--group", nargs="*", default=[])
    options = parser.parse_args()
    labelled = None
    if options.labels is not None:
        base = pretrain_profile("small")
        side = prepared_side(base.model.frame_pixels, base.augment.crop_fraction)
        frames = Frames(options.labels, options.label_column, seen_patients(options.seen), side, options.frames)
        labelled = frames, parse_groups(options.group, frames)
    other = None if options.other is None else PreparedStore(options.other)
    results: dict[str, Any] = {}
    for given in options.runs:
        name, _, path = given.rpartition("=")
        results[name or Path(path).name] = run_results(Path(path), other, labelled)
    if other is not None:
        results["measured_at"] = describe_environment(torch.device("cpu"))
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
