"""How memory and time grow with the archive: index, prepare, a loader, the sampler.

    python -m benchmarks.bench_scale OUT                  OUT/scale.json and OUT/memory.png
    python -m benchmarks.bench_scale OUT --quick          a tenth of everything, as a test
    python -m benchmarks.bench_scale OUT --part index     only one part: header, index, sampler or memory

Memory is the peak of a fresh process for each step and number of scans (10, 100, ... 10,000), in small synthetic scans
that are hard links to one file: one second of a moving sector of speckle, with sound. The header pass is
`read_video_info` alone: open, read the packets and decode the first frame. The complete index also locates the sector
in decoded frames and detects speech, which take most of its time; `index_parts` gives the time of each per file.
Indexing again only compares every file's size and time. The start of the interpreter is not included.
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
import cv2
import numpy as np
import torch

from benchmarks.memory import memory_mib
from usvs.audio.settings import VoiceActivitySettings
from usvs.audio.voice_activity import voice_activity
from usvs.config import check_settings
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.losses.settings import ObjectiveSettings
from usvs.media.audio import read_audio
from usvs.media.sector import detect_sector
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.store.clips import ClipTable
from usvs.store.indexing import index_archive
from usvs.store.inspect_scan import VOICE_RATE_HZ
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.environment import describe_environment
from usvs.utils.columns import ColumnWriter, map_column
from usvs.utils.permutation import permute_one

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
SCANS, CLIPS_PER_SCAN = 100_000, 900
PARTS = ("header", "index", "sampler", "memory")
REPEATS = 200


def make_archive(archive: Path, scans: int) -> None:
    """Hard links to one small video of a second with sound, ten a patient."""
    source = archive.parent / "source.mp4"
    archive.mkdir(parents=True)
    rng = np.random.default_rng(0)
    speckle = cv2.GaussianBlur(rng.rayleigh(60, (160, 192)), (0, 0), 1.5)
    across, down = np.meshgrid(np.arange(96) - 48, np.arange(80))
    sector = (np.hypot(across, down + 10) < 85) & (abs(across) < 0.8 * (down + 10))
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=20, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 96, 80, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for number in range(22):
            picture = np.clip(speckle[number : number + 80, 2 * number : 2 * number + 96], 0, 255) * sector
            rgb = np.repeat(picture[:, :, None].astype(np.uint8), 3, 2)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
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
    index_archive(root / "archive", root / "store", clips=CLIPS, workers=1)


def prepare(root: Path) -> None:
    prepare_store(root / "store", profile=PrepareSettings(frame_pixels=32), workers=1)


def load(root: Path) -> None:
    """Two hundred batches from everywhere in the store."""
    values = {"clips": CLIPS.model_dump(), "model": {"frame_pixels": 32}, "optimiser": {"batch_clips": 16}}
    settings, store = check_settings(PretrainSettings, values), PreparedStore(root / "store")
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, 16)
    for _ in PairLoader(store, plan, settings.pairs).batches(0, 200):
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
        read_video_info(path)
    return {"files": len(files), "files_per_second": len(files) / (time.process_time() - started)}


def whole_index(root: Path, scans: int) -> dict[str, Any]:
    """Index an archive, index it again, and say what a file costs in each part."""
    shutil.rmtree(root, ignore_errors=True)
    make_archive(root / "archive", scans)
    _, first = apart(index, root)
    _, again = apart(index, root)
    return {
        "files": scans,
        "processor_seconds": first,
        "files_per_second": scans / first,
        "again_processor_seconds": again,
        "milliseconds_of_a_file": index_parts(root / "source.mp4"),
    }


def index_parts(video: Path) -> dict[str, float]:
    """Processor milliseconds of each thing that `usvs index` does with one file."""
    info = read_video_info(video)
    frames = np.stack([gray for _, gray in iter_gray_frames(video, info)])
    sound = read_audio(video, None, VOICE_RATE_HZ)
    parts: dict[str, Callable[[], Any]] = {
        "header pass": lambda: read_video_info(video),
        "decode frames for the sector": lambda: list(iter_gray_frames(video, info)),
        "look for the sector": lambda: detect_sector(frames),
        "decode sound": lambda: read_audio(video, None, VOICE_RATE_HZ, info.timing.start_seconds),
        "listen for speech": lambda: voice_activity(sound, VOICE_RATE_HZ, VoiceActivitySettings()),
    }
    costs = {}
    for name, part in parts.items():
        part()
        started = time.process_time()
        for _ in range(REPEATS):
            part()
        costs[name] = 1e3 * (time.process_time() - started) / REPEATS
    return costs


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
    plan = SamplingPlan(table, ClipSettings(), ObjectiveSettings(), 0, 32)
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
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    work, of = options.out / "work", 10 if options.quick else 1
    measures: dict[str, Callable[[], Any]] = {
        "header": lambda: header_pass(work, 20_000 // of),
        "index": lambda: whole_index(work, 20_000 // of),
        "sampler": lambda: sampler(work / "columns", SCANS // of),
        "memory": lambda: memory(work, [number for number in (10, 100, 1000, 10_000) if number <= 10_000 // of]),
    }
    file = options.out / "scale.json"
    report: dict[str, Any] = json.loads(file.read_text()) if options.part and file.exists() else {}
    for name in options.part or PARTS:
        report[name] = {"environment": describe_environment(torch.device("cpu")), "measured": measures[name]()}
        shutil.rmtree(work)
        print(json.dumps(report[name], indent=1), flush=True)
        file.write_text(json.dumps(report, indent=1) + "\n")
    if "memory" in report:
        picture(report["memory"]["measured"], options.out / "memory.png")


if __name__ == "__main__":
    main()
