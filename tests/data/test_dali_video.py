"""Clips from H.264 on a GPU: the graph is defined wherever DALI is, and run where a GPU is."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from usvs.data import dali_video_loader
from usvs.data.dali_frames import import_dali
from usvs.data.dali_video import VideoClip, decode_clips, find_videos, video_clips, video_pipeline
from usvs.data.dali_video_loader import DaliVideoPairLoader
from usvs.data.loader import make_loader
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.errors import DataError, MissingDependencyError, ResourceError
from usvs.phantom.settings import PhantomSettings
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import pretrain_profile

try:
    import_dali()
    needs_dali = pytest.mark.skipif(False, reason="")
except MissingDependencyError as error:
    needs_dali = pytest.mark.skip(reason=f"NVIDIA DALI is not tested here: {error}")


@needs_dali
def test_the_graph_is_defined_in_every_argument(tmp_path: Path):
    pipeline = video_pipeline(tmp_path / "clips", iter(()), 60, 256, 4, device_id=0)
    assert pipeline.max_batch_size == 4
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pipeline.build()


def test_clips_are_found_in_the_archive(tiny_store: Path):
    store = PreparedStore(tiny_store)
    rows = np.array([0, 3, len(store.clips) - 1])
    clips = video_clips(store, rows, 2.0)
    for row, clip in zip(rows, clips, strict=True):
        scan = store.scan(int(store.clips.scan[row]))
        seconds = scan.frame_seconds[clip.first : clip.end]
        start = store.clips.start_seconds[row]
        assert (
            seconds[0] >= start
            and seconds[-1] < start + 2
            and clip.end - clip.first == 2 * PhantomSettings().frame_rate_hz
        )
        assert clip.path.exists() and clip.box == scan.manifest.sector


def test_clips_of_different_length_are_refused():
    clips = [VideoClip(Path("a"), 0, count, (0, 0, 1, 1)) for count in (59, 60)]
    with pytest.raises(DataError, match=r"expected one number of frames, got \[59, 60\]"):
        next(decode_clips(clips, 64, 2, torch.device("cpu")))


def prepared_instead(store: PreparedStore) -> Callable[..., Iterator[torch.Tensor]]:
    """Stand in for NVDEC: the same frames from the prepared store, in batches as DALI gives them."""

    def decode(clips: list[VideoClip], side: int, batch_size: int, device: torch.device) -> Iterator[torch.Tensor]:
        videos = find_videos(store, list(range(len(store.scans))))
        scans = {path: store.scan(number) for number, (path, _) in videos.items()}
        assert len({clip.end - clip.first for clip in clips}) == 1 and side == store.scan(0).frame_pixels
        for first in range(0, len(clips), batch_size):
            some = clips[first : first + batch_size]
            frames = [scans[clip.path].frames(np.arange(clip.first, clip.end)) for clip in some]
            yield torch.from_numpy(np.stack(frames)).to(device)

    return decode


def test_the_samples_are_those_of_the_prepared_store(tiny_store: Path, monkeypatch: pytest.MonkeyPatch):
    """Which clips are decoded, which of their frames are used and how they are augmented: all but NVDEC itself."""
    monkeypatch.setattr(dali_video_loader, "CLIPS_OF_PIPELINE", 32)  # two steps a pipeline
    store = PreparedStore(tiny_store)
    settings = pretrain_profile("quick")
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 3, 8)
    expected = PairLoader(store, plan, settings.pairs)
    loader = DaliVideoPairLoader(store, plan, settings.pairs, torch.device("cpu"), prepared_instead(store))
    loaded = 0
    for step, batch in enumerate(loader.batches(1, 6), start=1):
        loaded += 1
        for name, one, other in zip(batch._fields, expected.batch(step), batch, strict=True):
            assert torch.equal(one, other), f"step {step}: {name}"
    assert loaded == 5
    assert torch.equal(loader.batch(2).frames, expected.batch(2).frames)


def test_without_a_gpu_it_is_refused_before_anything_is_read(tiny_store: Path):
    store, settings = PreparedStore(tiny_store), pretrain_profile("quick")
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 3, 8)
    pairs = settings.pairs.model_copy(update={"loader": "dali-video"})
    with pytest.raises(ResourceError, match=r"expected a CUDA device.*got 'cpu'; use --loader torch or --loader dali"):
        make_loader(store, plan, pairs, torch.device("cpu"))


@pytest.mark.gpu
@needs_dali
def test_frames_are_the_prepared_ones(tiny_store: Path, tmp_path: Path):
    store = PreparedStore(shutil.copytree(tiny_store, tmp_path / "store"))
    rows = np.arange(0, len(store.clips), 3)
    clips = video_clips(store, rows, 2.0)
    decoded = torch.cat(list(decode_clips(clips, store.scan(0).frame_pixels, 4, torch.device("cuda")))).cpu()
    assert len(decoded) == len(rows)
    for row, clip, frames in zip(rows, clips, decoded, strict=True):
        scan = store.scan(int(store.clips.scan[row]))
        prepared = scan.frames(np.arange(clip.first, clip.end))
        difference = np.abs(frames.numpy().astype(int) - prepared)
        assert difference.mean() < 4, "another moment or another part of the picture"
