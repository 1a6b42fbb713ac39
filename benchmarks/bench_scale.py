"""What grows with an archive and what does not: memory of index, prepare and a loader, index speed, the sampler.

    python -m benchmarks.bench_scale OUT            OUT/scale.json and OUT/memory.png
    python -m benchmarks.bench_scale OUT --quick    a tenth of everything, to see that it runs

Memory is the peak of a fresh process for each step and number of scans (10, 100, ... 10,000), in small synthetic scans
that are hard links to one file. The header pass is `probe` alone: open and go through the packets. The whole index also
looks for the fan in decoded frames and listens for speech, which bound it.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from benchmarks.memory import memory_mib
from usvs.archive.catalogue import index_archive
from usvs.archive.decoders import probe
from usvs.archive.prepare import prepare_store
from usvs.archive.prepared import PreparedStore
from usvs.columns import ColumnWriter, map_column
from usvs.config import (
    ClipSettings,
    ObjectiveSettings,
    PrepareSettings,
    PretrainSettings,
    VoiceActivitySettings,
    check_settings,
)
from usvs.loading.torch_loader import PairLoader
from usvs.sampling.clips import ClipTable
from usvs.sampling.permutation import permute_one
from usvs.sampling.plan import Plan
from usvs.training.environment import describe_environment

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
SCANS, CLIPS_PER_SCAN = 100_000, 900


def make_archive(archive: Path, scans: int) -> None:
    """Hard links to one small video of a second with sound, ten a patient."""
    source = archive.parent / "source.mp4"
    archive.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=20, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 96, 80, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for number in range(22):
            picture = np.repeat(rng.integers(0, 256, (80, 96, 1), np.uint8), 3, 2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 20)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, 48_000, 1024):
            piece = (0.1 * rng.standard_normal((1, 1024))).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(piece, "fltp", "mono")
            sound.sample_rate, sound.pts = 48_000, first
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    for number in range(scans):
        folder = archive / f"patient{number // 10}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(source, folder / f"scan{number}.mp4")


def index(root: Path) -> None:
    index_archive(root / "archive", root / "store", CLIPS, VoiceActivitySettings(), workers=1)


def prepare(root: Path) -> None:
    prepare_store(root / "store", PrepareSettings(frame_pixels=32), workers=1)


def load(root: Path) -> None:
    """Two hundred batches from everywhere in the store."""
    values = {"clips": CLIPS.model_dump(), "model": {"frame_pixels": 32}, "optimiser": {"batch_clips": 16}}
    settings, store = check_settings(PretrainSettings, values), PreparedStore(root / "store")
    plan = Plan(store.clips, settings.clips, settings.objective, 0, 16)
    for _ in PairLoader(store, plan, settings).batches(0, 200):
        pass


def _measured(step: Callable[[Path], None], root: Path, answer: Any) -> None:
    started = time.process_time()
    step(root)
    answer.put((memory_mib("VmHWM"), time.process_time() - started))  # ru_maxrss would begin with the parent's


def apart(step: Callable[[Path], None], root: Path) -> tuple[float, float]:
    """Peak memory in MiB and processor seconds of a step in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measured, args=(step, root, answer))
    process.start()
    result: tuple[float, float] = answer.get()
    process.join()
    return result


def memory(root: Path, numbers: list[int]) -> list[dict[str, Any]]:
    rows = []
    for scans in numbers:
        shutil.rmtree(root, ignore_errors=True)
        make_archive(root / "archive", scans)
        for step in (index, index, prepare, load):
            again = step is index and any(row["scans"] == scans for row in rows)
            peak, seconds = apart(step, root)
            name = "index again" if again else step.__name__
            rows.append({"step": name, "scans": scans, "peak_mib": peak, "processor_seconds": seconds})
            print(f"{name:12} {scans:6} scans: {peak:6.0f} MiB, {seconds:7.1f} s", flush=True)
    return rows


def header_pass(root: Path, scans: int) -> dict[str, float]:
    shutil.rmtree(root, ignore_errors=True)
    make_archive(root / "archive", scans)
    files = sorted((root / "archive").rglob("*.mp4"))
    started = time.process_time()
    for path in files:
        probe(path)
    return {"files": len(files), "files_per_second": len(files) / (time.process_time() - started)}


def sampler(folder: Path, scans: int) -> dict[str, float]:
    """An epoch's plan over mapped columns, and seeks in a billion clips."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    kinds = {"scan": np.int32, "start_seconds": np.float64, "speech_fraction": np.float32}
    writers = {name: ColumnWriter(folder / f"{name}.npy", kind) for name, kind in kinds.items()}
    for first in range(0, scans, 1000):
        count = min(1000, scans - first)
        writers["scan"].append(np.repeat(np.arange(first, first + count, dtype=np.int32), CLIPS_PER_SCAN))
        writers["start_seconds"].append(np.tile(2.0 * np.arange(CLIPS_PER_SCAN), count))
        writers["speech_fraction"].append(rng.random(count * CLIPS_PER_SCAN, np.float32))
    for writer in writers.values():
        writer.close()
    before = memory_mib("RssAnon")
    columns = [map_column(folder / f"{name}.npy") for name in kinds]
    table = ClipTable(*columns, np.zeros(scans, np.int32)).of_scans(np.arange(scans) % 10 > 0)
    plan = Plan(table, ClipSettings(), ObjectiveSettings(), 0, 32)
    for step in range(200):
        plan.batch_at(step)
    grown = memory_mib("RssAnon") - before
    seeks = []
    for number in range(2000):
        started = time.perf_counter()
        permute_one(number * 499_979, 10**9, 7)
        seeks.append(time.perf_counter() - started)
    return {
        "clips": len(table),
        "columns_mib": sum(column.nbytes for column in columns) / 2**20,
        "anonymous_mib_grown": grown,
        "seek_microseconds_in_1e9": float(np.median(seeks) * 1e6),
    }


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for step in dict.fromkeys(row["step"] for row in rows):
        mine = [row for row in rows if row["step"] == step]
        axes.plot([row["scans"] for row in mine], [row["peak_mib"] for row in mine], "o-", label=step)
    axes.set(xscale="log", xlabel="scans", ylabel="peak memory of the process, MiB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    work, part = options.out / "work", 10 if options.quick else 1
    report: dict[str, Any] = {"environment": describe_environment(torch.device("cpu"))}
    report["header_pass"] = header_pass(work, 20_000 // part)
    _, first = apart(index, work)
    _, again = apart(index, work)
    report["index"] = {"files": 20_000 // part, "processor_seconds": first, "again_processor_seconds": again}
    shutil.rmtree(work)
    report["sampler"] = sampler(work / "columns", SCANS // part)
    shutil.rmtree(work)
    print(json.dumps(report, indent=1), flush=True)
    report["memory"] = memory(work, [number for number in (10, 100, 1000, 10_000) if number <= 10_000 // part])
    shutil.rmtree(work)
    (options.out / "scale.json").write_text(json.dumps(report, indent=1) + "\n")
    picture(report["memory"], options.out / "memory.png")


if __name__ == "__main__":
    main()
