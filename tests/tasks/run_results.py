"""Gathers what pretraining runs measured last into one file for the documents.

    python -m tests.tasks.run_results RUN [RUN ...] --out docs/results/semi_real.json

Of each run: settings that differ from its profile, environment with revision, steps, the mean of the last ten training
records and the last validation record, both beside chance.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from usvs.tasks.pretraining.settings import pretrain_profile, read_settings
from usvs.utils.nested import differences

LAST_RECORDS = 10


def run_results(run: Path) -> dict[str, Any]:
    """Return what a run measured last."""
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results = {run.name: run_results(run) for run in options.runs}
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
