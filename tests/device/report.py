"""The results of tests/device/check.sh, complete or not: results.json, results.md, logs.tgz, from what its parts left.

python -m tests.device.report FOLDER_OF_PARTS FOLDER_OF_RESULTS
"""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

OUTCOMES = {"0": "passed", "124": "too slow", "137": "too slow", "skipped": "no time left", "running": "interrupted"}
# Of what Nsight Compute prints for a kernel, by the section that it is in; check.sh asks for these sections.
COUNTED = {
    "SpeedOfLight": ("Duration", "SM Frequency", "Compute (SM) Throughput", "Memory Throughput"),
    "ComputeWorkloadAnalysis": ("Executed Ipc Active", "Issue Slots Busy"),
    "MemoryWorkloadAnalysis": ("Memory Throughput", "L1/TEX Hit Rate", "Local Memory Spilling Requests"),
    "LaunchStats": ("Registers Per Thread", "Dynamic Shared Memory Per Block"),
    "Occupancy": ("Achieved Occupancy",),
}


def kernel_counters(log: str) -> list[dict[str, str]]:
    """Return the chosen metrics of every kernel in the output of `ncu --csv --page details`."""
    lines = log.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID",')), len(lines))
    kernels: dict[str, dict[str, str]] = {}
    chosen = {metric for metrics in COUNTED.values() for metric in metrics}
    for row in csv.DictReader(lines[begin:]):
        if row.get("Metric Name") in chosen and row.get("ID"):
            kernel = kernels.setdefault(row["ID"], {"kernel": row["Kernel Name"], "grid": row.get("Grid Size", "")})
            # Two sections have a "Memory Throughput": of the peak in %, and bytes a second.
            name = f"{row.get('Section Name', '')}: {row['Metric Name']}"
            kernel[name] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return list(kernels.values())


def measured_by(folder: Path, name: str) -> Any:
    """Return what a part left: its JSON file, or the counters in the log of `ncu`."""
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    if file.exists():
        try:
            return json.loads(file.read_text())
        except ValueError:
            return f"{file.name} is incomplete"
    return kernel_counters(log.read_text(errors="replace")) if name == "ncu" and log.exists() else None


def lines_of(measured: Any, name: str) -> list[str]:
    """Return a nested result as rows of a table: where it is, and the number or text."""
    if isinstance(measured, dict):
        return [line for key, value in measured.items() for line in lines_of(value, f"{name}, {key}")]
    if isinstance(measured, list) and any(isinstance(each, dict) for each in measured):
        return [line for number, value in enumerate(measured) for line in lines_of(value, f"{name} {number}")]
    text = f"{measured:.6g}" if isinstance(measured, float) else str(measured)
    return [f"| {name} | {text} |".replace("\n", " ")]


def packed(folder: Path) -> bytes:
    """Return the logs and JSON files of the parts as a compressed archive."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for file in sorted([*folder.glob("*.log"), *folder.glob("*.json")]):
            archive.add(file, file.name)
    return memory.getvalue()


def replace(file: Path, content: bytes) -> None:
    """Write a file so that a kill at any instant leaves the old one or the new one."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_bytes(content)
    unfinished.replace(file)


def write_results(folder: Path, out: Path) -> int:
    """Write results.json, results.md and logs.tgz into `out`; return the number of parts that did not pass."""
    rows = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    parts = [
        {
            "part": name,
            "outcome": OUTCOMES.get(status, f"failed ({status})"),
            "seconds": int(seconds),
            "limit": int(limit),
            "measured": measured_by(folder, name),
        }
        for name, status, seconds, limit in {row[0]: row for row in rows}.values()  # the last row of each part
    ]
    replace(out / "results.json", (json.dumps({"parts": parts}, indent=1) + "\n").encode())
    lines = ["| part | outcome | seconds | limit |", "|---|---|---|---|"]
    lines += [f"| {part['part']} | {part['outcome']} | {part['seconds']} | {part['limit']} |" for part in parts]
    print("\n".join(lines))
    lines += ["", "| measured | |", "|---|---|"]
    for part in parts:
        if part["measured"] is not None:
            lines += lines_of(part["measured"], str(part["part"]))
    replace(out / "results.md", ("\n".join(lines) + "\n").encode())
    replace(out / "logs.tgz", packed(folder))
    return sum(part["outcome"] != "passed" for part in parts)


if __name__ == "__main__":
    raise SystemExit(write_results(Path(sys.argv[1]), Path(sys.argv[2])))
