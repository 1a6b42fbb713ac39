"""Gathers what pretraining runs measured last into one file for the documents.

    python -m tests.tasks.run_results [NAME=]RUN ... --out docs/results/semi_real.json [--other STORE]

Of each run: settings that differ from its profile, environment with revision, steps, the mean of the last ten training
records and the last validation record, both beside chance; with --other, a store of sources that no run was shown, also
its losses minus chance there (measured now, at the revision "measured_at").
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from tests.tasks.transfer_table import losses_on
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import pretrain_profile, read_settings
from usvs.training.environment import describe_environment
from usvs.utils.nested import differences

LAST_RECORDS = 10


def run_results(run: Path, other: PreparedStore | None = None) -> dict[str, Any]:
    """Return what a run measured last, and its losses on another store."""
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    options = parser.parse_args()
    other = None if options.other is None else PreparedStore(options.other)
    results: dict[str, Any] = {}
    for given in options.runs:
        name, _, path = given.rpartition("=")
        results[name or Path(path).name] = run_results(Path(path), other)
    if other is not None:
        results["measured_at"] = describe_environment(torch.device("cpu"))
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
