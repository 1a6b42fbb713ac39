"""Turn the reports of `pytest benchmarks --benchmark-json FILE` into tables: `python -m benchmarks.table FILE ...`."""

import json
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Print the tables of each report."""
    if not arguments:
        print("usage: python -m benchmarks.table REPORT.json ...", file=sys.stderr)
        return 2
    for name in arguments:
        try:
            print(table(json.loads(Path(name).read_text())))
        except (OSError, ValueError, KeyError) as error:
            print(
                f"{name}: expected a report of pytest-benchmark, got {type(error).__name__}: {error}", file=sys.stderr
            )
            return 1
    return 0


def table(report: dict[str, Any]) -> str:
    """Return a report as Markdown: a table per workload with a row per contender."""
    machine, commit = report["machine_info"], report["commit_info"]
    revision = str(commit.get("id"))[:12] + (" with changes" if commit.get("dirty") else "")
    lines = [
        f"{machine.get('device')}, {machine.get('cores')} cores, {machine.get('simd')}, torch {machine.get('torch')};"
        f" revision {revision}"
    ]
    for each in report["benchmarks"]:
        lines += ["", f"**{each['name']}**", "", *_rows(each["extra_info"])]
    return "\n".join(lines) + "\n"


def _rows(info: dict[str, Any]) -> list[str]:
    if "unit" not in info:
        shown = {name: value for name, value in info.items() if name != "environment"}  # which is in the first line
        return [
            f"- {name}: {value:,.1f}" if isinstance(value, float) else f"- {name}: {value}"
            for name, value in shown.items()
        ]
    rows = [f"| | per {info['unit']} | relative to usvs |", "|---|---:|---:|"]
    rows.append(f"| usvs | {_time(info['seconds'])} | 1 |")
    if info["limit_seconds"]:
        part = info["limit_seconds"] / info["seconds"]
        rows.append(f"| limit of the machine | {_time(info['limit_seconds'])} | {part:.2f} |")
    peers = sorted(info["peers"].items(), key=lambda peer: peer[1]["times_usvs"])
    rows += [f"| {name} | {_time(peer['seconds'])} | {peer['times_usvs']:.1f} |" for name, peer in peers]
    return rows + [f"| {name} | skipped: {reason} | |" for name, reason in info["skipped"].items()]


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
