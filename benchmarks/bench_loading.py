"""Samples per second of one core, from video to batch: decoding on the fly, the prepared store, both loaders.

    python -m pytest benchmarks/bench_loading.py --benchmark-json=loading.json

One sample is what pretraining draws from a clip: 6 frames of 2 s, cropped and resized, and with the loaders 4 pieces of
speech and the augmentation too. USVS_BENCH_SECONDS sets the length of the scan (default 120). `extra_info` of every row
holds useful frames and samples per second, and bytes per scan. torchcodec is skipped where its wheel does not load:
the newer ones on PyPI are linked to CUDA.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from usvs.config import check_settings
from usvs.data.dali_frames import import_dali
from usvs.data.dali_loader import DaliPairLoader
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.errors import MissingDependencyError
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.environment import describe_environment

SECONDS = int(os.environ.get("USVS_BENCH_SECONDS", "120"))
RATE_HZ, WIDTH, HEIGHT, SIDE = 30, 1008, 784, 256
BOX = (112, 24, 848, 760)  # left, top, right, bottom
FRAMES, CLIP_SECONDS, BATCH = 6, 2.0, 32

torch.set_num_threads(1)
cv2.setNumThreads(1)


@dataclass
class Bench:
    """A scan as an archive has it, and its two stores."""

    video: Path
    stores: dict[str, Path]

    def clips(self) -> Iterator[np.ndarray]:
        """Yield six rising times in a random clip, without end."""
        rng = np.random.default_rng(0)
        while True:
            start = CLIP_SECONDS * rng.integers(0, int(SECONDS / CLIP_SECONDS) - 1)
            yield np.sort(start + rng.random(FRAMES) * CLIP_SECONDS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("loading")
    video = root / "archive" / "patient" / "scan.mp4"
    video.parent.mkdir(parents=True)
    write_scan(video)
    (root / "archive" / "manifest.csv").write_text(f'scan,sector\npatient/scan.mp4,"{",".join(map(str, BOX))}"\n')
    stores = {}
    for codec in ("jpeg", "raw"):
        stores[codec] = root / codec
        index_archive(root / "archive", stores[codec], workers=1)
        prepare_store(stores[codec], profile=PrepareSettings(frame_pixels=SIDE, codec=codec), workers=1)
    return Bench(video, stores)


def write_scan(path: Path) -> None:
    """H.264 of gop 250 with AAC, as a recorder writes it: speckle in a drifting sector, and sound like talk."""
    rng = np.random.default_rng(0)
    # speckle as coarse as that of real cines, whose prepared frames of this size take 12 to 19 kB
    texture = cv2.GaussianBlur(rng.standard_normal((2 * HEIGHT, 2 * WIDTH)).astype(np.float32), (0, 0), 7)
    texture = np.clip(60 + 20 * texture / texture.std(), 0, 255).astype(np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    sector = (np.hypot(x - WIDTH / 2, y) < 770) & (np.abs(x - WIDTH / 2) < 0.75 * y + 40)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "veryfast", "crf": "20", "g": "250"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for number in range(SECONDS * RATE_HZ):
            top, left = round(200 + 150 * np.sin(number / 70)), round(200 + 150 * np.cos(number / 50))
            gray = texture[top : top + HEIGHT, left : left + WIDTH] * sector
            frame = av.VideoFrame.from_ndarray(np.repeat(gray[:, :, None], 3, 2).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = 0.1 * rng.standard_normal(SECONDS * 48_000) * (np.arange(SECONDS * 48_000) // 12_000 % 2)
        for first in range(0, len(sound), 1024):
            piece = av.AudioFrame.from_ndarray(sound[None, first : first + 1024].astype(np.float32), "fltp", "mono")
            piece.sample_rate, piece.pts = 48_000, first
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


def note(benchmark: Any, samples: float, size: int, **more: float) -> None:
    """Put what a row says into the result: of the fastest round, which other work on the machine disturbs least."""
    each = benchmark.stats.stats.min / samples
    benchmark.extra_info.update(
        samples_per_second=1 / each, useful_frames_per_second=FRAMES / each, bytes_per_scan=size, **more
    )
    benchmark.extra_info["environment"] = describe_environment(torch.device("cpu"))


def shrunk(gray: np.ndarray, side: int = 224) -> np.ndarray:
    left, top, right, bottom = BOX
    return cv2.resize(gray[top:bottom, left:right], (side, side), interpolation=cv2.INTER_AREA)


class ByPyAV:
    """Seek to the keyframe before, decode to the last of the six."""

    def __init__(self, path: Path) -> None:
        self.container = av.open(str(path))
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "NONE"

    def __call__(self, moments: np.ndarray) -> list[np.ndarray]:
        expected = np.rint(moments * RATE_HZ).astype(int).tolist()
        self.container.seek(int(moments[0] / self.stream.time_base), stream=self.stream)
        found = {}
        for frame in self.container.decode(self.stream):
            number = round(frame.time * RATE_HZ)
            if number in expected:
                found[number] = shrunk(frame.reformat(format="gray").to_ndarray())
            if number >= expected[-1]:
                break
        return [found[number] for number in expected]


class ByOpenCV:
    def __init__(self, path: Path) -> None:
        self.capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])

    def __call__(self, moments: np.ndarray) -> list[np.ndarray]:
        expected = np.rint(moments * RATE_HZ).astype(int).tolist()
        self.capture.set(cv2.CAP_PROP_POS_FRAMES, expected[0])
        found = {}
        for number in range(expected[0], expected[-1] + 1):
            self.capture.grab()
            if number in expected:
                found[number] = shrunk(cv2.cvtColor(self.capture.retrieve()[1], cv2.COLOR_BGR2GRAY))
        return [found[number] for number in expected]


class ByTorchcodec:
    def __init__(self, path: Path) -> None:
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"torchcodec does not load here: {str(error).splitlines()[0]}")
        self.decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")

    def __call__(self, moments: np.ndarray) -> list[np.ndarray]:
        expected = np.rint(moments * RATE_HZ).astype(int).tolist()
        frames = self.decoder.get_frames_at(expected).data  # [6, 3, H, W]
        return [shrunk(frame[0].numpy()) for frame in frames]


@pytest.mark.parametrize("decoder", [ByPyAV, ByTorchcodec, ByOpenCV], ids=lambda kind: kind.__name__)
def test_on_the_fly(benchmark: Any, bench: Bench, decoder: Callable[[Path], Any]):
    read, clips = decoder(bench.video), bench.clips()
    benchmark.pedantic(lambda: read(next(clips)), rounds=20, warmup_rounds=1)
    # a seek costs what its distance to the keyframe is, so here the mean is the figure
    each = benchmark.stats.stats.mean
    benchmark.extra_info.update(
        samples_per_second=1 / each,
        useful_frames_per_second=FRAMES / each,
        bytes_per_scan=bench.video.stat().st_size,
        environment=describe_environment(torch.device("cpu")),
    )


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_store(benchmark: Any, bench: Bench, codec: str):
    scan, clips = PreparedStore(bench.stores[codec]).scan(0), bench.clips()

    def read() -> None:
        moments = next(clips)
        scan.frames(scan.nearest_frames(moments))
        np.array(scan.speech(float(moments[0]), 14_400))

    benchmark.pedantic(read, rounds=30, iterations=20, warmup_rounds=1)
    note(benchmark, 1, size_of(bench, codec))


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_loader(benchmark: Any, bench: Bench, loader: str, codec: str):
    values = {"run": {"loader_workers": 0, "loader": loader}, "optimiser": {"batch_clips": BATCH}}
    settings, store = check_settings(PretrainSettings, values), PreparedStore(bench.stores[codec])
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, BATCH)
    if loader == "dali":
        try:
            import_dali()
        except MissingDependencyError as error:
            pytest.skip(str(error))
        batches = DaliPairLoader(store, plan, settings.pairs, torch.device("cpu")).batches(0, 1 << 20)
    else:
        batches = PairLoader(store, plan, settings.pairs).batches(0, 1 << 20)
    with closing(batches):  # type: ignore[type-var]
        benchmark.pedantic(lambda: next(batches), rounds=20, warmup_rounds=3)
    note(benchmark, plan.batch_size, size_of(bench, codec), batch=plan.batch_size)


@pytest.mark.parametrize("worker_kind", ["threads", "processes"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers(benchmark: Any, bench: Bench, worker_kind: str, workers: int):
    """Threads share memory and the interpreter's lock; processes copy each batch. Wall time, on all the cores given."""
    values = {"run": {"loader_workers": workers}, "optimiser": {"batch_clips": BATCH}}
    settings, store = check_settings(PretrainSettings, values), PreparedStore(bench.stores["jpeg"])
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, BATCH)
    loader = PairLoader(store, plan, settings.pairs)
    if worker_kind == "threads":
        batches = loader.batches(0, 1 << 20)
    else:
        batches = iter(
            torch.utils.data.DataLoader(
                StepsDataset(loader),
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
        )
    benchmark.pedantic(lambda: next(batches), rounds=30, warmup_rounds=4)
    each = benchmark.stats.stats.mean
    benchmark.extra_info.update(samples_per_second=plan.batch_size / each, workers=workers)
    if worker_kind == "threads":
        batches.close()  # type: ignore[attr-defined]


class StepsDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The steps of a loader, for the comparison with processes."""

    def __init__(self, loader: PairLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, step: int) -> Any:
        return self.loader.batch(step)


def size_of(bench: Bench, codec: str) -> int:
    return sum(path.stat().st_size for path in (bench.stores[codec] / "prepared").rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["pyav", "bare_luma", "prepare_jpeg", "prepare_raw"])
def test_prepare(benchmark: Any, bench: Bench, way: str):
    """`usvs prepare` of one scan against going through its frames and resizing them, and nothing else.

    By PyAV, as one would write it; and by the least that there is to do, luma in whatever range the file has it.
    """

    def sequential() -> None:
        with av.open(str(bench.video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for frame in container.decode(stream):
                shrunk(bare_luma(frame) if way == "bare_luma" else frame.reformat(format="gray").to_ndarray(), SIDE)

    def prepare() -> None:
        codec = way.removeprefix("prepare_")
        for folder in (bench.stores[codec] / "prepared").iterdir():
            (folder / "manifest.json").unlink()
        prepare_store(bench.stores[codec], profile=PrepareSettings(frame_pixels=SIDE, codec=codec), workers=1)

    benchmark.pedantic(prepare if way.startswith("prepare") else sequential, rounds=3)
    benchmark.extra_info["frames_per_second"] = SECONDS * RATE_HZ / benchmark.stats.stats.min


def bare_luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
