"""One table of the speeds and sizes that are stored in docs/results: what, against whom, on what, at which revision.

    python -m benchmarks.measured             prints the section of benchmarks/README.md
    python -m benchmarks.measured --write     writes it there

Nothing is measured here: a figure that is in no stored file is not in the table.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, README = ROOT / "docs" / "results", ROOT / "benchmarks" / "README.md"
TITLE = "## Stored measurements of speed and memory"
FIRST_LINE = re.compile(r"^(?P<device>[^;\n]+), torch [^;\n]+; revision (?P<revision>\w+)$", re.MULTILINE)


def _threads(row: dict[str, Any]) -> str:
    return f", {_count(row['threads'])}" if "threads" in row else ""


def _count(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _machine(environment: dict[str, Any]) -> str:
    return f"{environment['device']}, {environment['cpu_capability']}, {_count(environment['threads'])}"


def training(stored: dict[str, Any]) -> Iterator[str]:
    """Yield the rates of both networks, beside those of the straightforward implementation."""
    for row in stored["rows"]:
        if row["who"] != "straightforward":
            yield (
                f"{row['network']}, {row['batch_clips']} clips{_threads(row)}, {row['who']}:"
                f" {row['clips_per_second']:.3g} clips/s, {row['speedup']:.3g} times the rate of the straightforward"
                f" one; peak {row['peak_mib']:.0f} MiB, {row['memory_share']:.0%} of its"
            )


def step(stored: dict[str, Any]) -> Iterator[str]:
    """Yield the time of a step and its share of convolutions."""
    yield (
        f"SE-ResNeXt-50, {stored['cost']['clips']} clips: {stored['step']:.2f} s a step, convolutions alone"
        f" {stored['convolutions'] / stored['step']:.0%}"
    )


def loader(stored: dict[str, Any]) -> Iterator[str]:
    """Yield the rate of a core."""
    yield (
        f"paper profile, {stored['clips']} clips a batch: {stored['clips_per_second_of_core']:.3g} clips/s a core,"
        f" {stored['cores_for_one_h100']:.2g} cores for an H100 at its roofline"
    )


def training_memory(stored: dict[str, Any]) -> Iterator[str]:
    """Yield the growth of a long training."""
    yield f"memory of a training over its steps: {stored['growth_kb_per_step']:.2f} KB a step"


def scoring_memory(stored: dict[str, Any]) -> Iterator[str]:
    """Yield the peak of scoring gaze maps."""
    peaks = stored["peak_mib_by_test_frames"]
    shown = ", ".join(f"{frames} frames: {mib:.0f} MiB" for frames, mib in peaks.items())
    yield f"peak of scoring gaze maps: {shown}"


def voice_activity(stored: dict[str, Any]) -> Iterator[str]:
    """Yield that the file has the figures."""
    yield f"{len(stored['rows'])} rows of noises and detectors (the file has the figures)"


JSON_FILES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "training.json": ("`bench_training.py`", training),
    "training_amx.json": ("`bench_training.py`, another machine", training),
    "loader.json": ("`usvs bench loader`", loader),
    "step.json": ("`usvs bench step`", step),
    "training_memory.json": ("`tests.training.memory`", training_memory),
    "scoring_memory.json": ("`tests.tasks.scoring_memory`", scoring_memory),
    "voice_activity_espeak.json": ("`bench_voice_activity.py`, synthetic speech", voice_activity),
    "voice_activity_prompts.json": ("`bench_voice_activity.py`, recorded prompts", voice_activity),
}
SCALE = {  # parts of scale.json
    "header": "reading the headers of files",
    "index": "index and prepare, time",
    "sampler": "the sampler",
    "memory": "memory of index, prepare and loading",
}
LISTS = {  # many figures each: the file is the table
    "kernels.md": "`bench_log_spectrogram.py`, `bench_contrastive_loss.py`: both kernels against their peers",
    "kernels_xeon.md": "the same on one thread of another processor, and loading (`make bench-quick`)",
    "kernels_quick.md": "`make bench-quick`: both kernels on one thread, loading",
    "kernels_avx2.md": "the same on a core without AVX-512",
    "loading.md": "`bench_loading.py`: decoders, prepared store, loaders, workers",
}


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield what was measured, on what, the revision, and the file."""
    for name, (command, read) in JSON_FILES.items():
        stored = json.loads((RESULTS / name).read_text())
        where = stored["environment"]
        for figure in read(stored):
            yield f"{command}: {figure}", _machine(where), where["git_revision"][:7], name
    for name, text in LISTS.items():
        found = FIRST_LINE.search((RESULTS / name).read_text())
        assert found is not None, name
        yield text, found["device"], found["revision"][:7], name
    scale = json.loads((RESULTS / "scale.json").read_text())
    for part, content in scale.items():
        where = content["environment"]
        text = f"`bench_scale.py`: {SCALE[part]} (the file has the figures)"
        yield text, _machine(where), where["git_revision"][:7], "scale.json"
    search = json.loads((RESULTS / "search.json").read_text())
    where, revision = search["machine_info"], search["commit_info"]["id"][:7]
    for row in search["benchmarks"]:
        figures = row["extra_info"]
        yield (
            f"`bench_search.py`: {row['name'].removeprefix('bench_')}, {figures['rows']:,} rows:"
            f" {1e3 * row['stats']['median']:.3g} ms a query, recall {figures['recall']:.2f}",
            f"{where['device']}, {where['simd']}, {where['cores']} cores",
            revision,
            "search.json",
        )


def section() -> str:
    """Return the section of benchmarks/README.md."""
    lines = [TITLE, "", "Made by `python -m benchmarks.measured --write` from the stored files.", ""]
    lines += ["| measured | on | revision | file |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {where} | {revision} | [{file}](../docs/results/{file}) |"
        for what, where, revision, file in rows()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section in benchmarks/README.md")
    if parser.parse_args().write:
        README.write_text(README.read_text().partition(TITLE)[0].rstrip() + "\n\n" + section())
    else:
        print(section())


if __name__ == "__main__":
    main()
