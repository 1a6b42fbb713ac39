"""DALI gives the samples of the torch loader, bit for bit on the CPU; the same code defines the pipeline for a GPU."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from usvs.config import check_settings, load_settings
from usvs.data.dali_frames import FramesGraph, frames_pipeline, import_dali
from usvs.data.dali_loader import DaliPairLoader
from usvs.data.loader import make_loader
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.data.transforms import crop_grid
from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile

CPU = torch.device("cpu")

try:
    import_dali()
    needs_dali = pytest.mark.skipif(False, reason="")
except MissingDependencyError as error:
    needs_dali = pytest.mark.skip(reason=f"NVIDIA DALI is not tested here: {error}")


def make_settings(pixels: int, workers: int = 1, **augment: object) -> PretrainSettings:
    values = {"model": {"frame_pixels": pixels}, "augment": augment, "run": {"loader_workers": workers}}
    return check_settings(PretrainSettings, values)


def loaders(store: Any, settings: PretrainSettings, device: torch.device = CPU) -> tuple[PairLoader, DaliPairLoader]:
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 3, 8)
    return PairLoader(store, plan, settings.pairs), DaliPairLoader(store, plan, settings.pairs, device)


def assert_equal(one: tuple, other: tuple) -> None:
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and b.is_contiguous(), name
        assert torch.equal(a, b), f"{name} differs by up to {(a.float() - b.float()).abs().max()}"


@needs_dali
@pytest.mark.parametrize("codec", ["jpeg", "raw"])
@pytest.mark.parametrize(
    ("side", "pixels", "augment"),
    [
        (72, 64, {}),
        (72, 64, {"gain_db": 6.0, "order_jitter_pixels": 3}),
        (72, 72, {"crop_fraction": 0.7}),  # enlarged
        (72, 64, {"crop_fraction": 1.0, "flip": False, "gain_db": 0.0}),
        (72, 64, {"zoom": 1.7}),
        (160, 40, {"zoom": 1.3}),  # halved once
        (160, 33, {"crop_fraction": 1.0}),  # halved twice
    ],
)
def test_equal_samples(small_store: Callable[..., Any], codec: str, side: int, pixels: int, augment: dict):
    torch_loader, dali = loaders(small_store(side, codec), make_settings(pixels, **augment))
    with closing(dali.batches(2, 7)) as batches:
        for step, batch in enumerate(batches, start=2):
            assert_equal(torch_loader.batch(step), batch)
    assert step == 6


@needs_dali
@pytest.mark.parametrize("fraction", [0.25, 0.05])
def test_equal_samples_where_few_clips_or_none_are_used_for_the_order_task(
    small_store: Callable[..., Any], fraction: float
):
    settings = make_settings(64)
    objective = settings.objective.model_copy(update={"order_fraction": fraction})
    torch_loader, dali = loaders(small_store(72, "jpeg"), settings.model_copy(update={"objective": objective}))
    with closing(dali.batches(0, 5)) as batches:
        for step, batch in enumerate(batches):
            assert_equal(torch_loader.batch(step), batch)


@needs_dali
@pytest.mark.parametrize("workers", [0, 3])
def test_threads_change_nothing_and_a_batch_stays_as_it_was(small_store: Callable[..., Any], workers: int):
    torch_loader, dali = loaders(small_store(72, "jpeg"), make_settings(64, workers))
    kept = list(dali.batches(0, 6))  # DALI has reused its memory since
    for step, batch in enumerate(kept):
        assert_equal(torch_loader.batch(step), batch)
    assert_equal(torch_loader.batch(4), dali.batch(4))
    assert list(dali.batches(3, 3)) == []


@needs_dali
def test_a_damaged_frame_is_named(small_store: Callable[..., Any], damaged_store: Any):
    _, dali = loaders(damaged_store, make_settings(64))
    with pytest.raises(DataError, match=r"loading step .*scan 00000000000[0-2]: prepared frame .* is damaged"):
        list(dali.batches(0, 3))
    with pytest.raises(ConfigError, match="steps to load"):
        dali.batches(2, 1)
    with pytest.raises(ConfigError, match="expected at least 96 pixels"):
        loaders(small_store(72, "jpeg"), make_settings(96))[1].batch(0)


@needs_dali
@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_the_graph_of_a_gpu_is_defined_by_the_same_code(codec: str):
    # without a device DALI checks every operator's arguments here, and refuses to build
    graph = FramesGraph(codec, 256, 64, crop_grid(256, 64, 0.9), device_id=0)
    pipeline = frames_pipeline(graph, iter(()), 12, 2)
    assert pipeline.device_id == 0
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pipeline.build()


@pytest.mark.gpu
@needs_dali
@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_equal_samples_on_a_gpu(small_store: Callable[..., Any], codec: str):
    torch_loader, dali = loaders(small_store(72, codec), make_settings(64, gain_db=0.0), torch.device("cuda"))
    for step, batch in enumerate(dali.batches(0, 5)):
        assert batch.frames.is_cuda and batch.order_frames.is_cuda
        expected = torch_loader.batch(step)
        for name in ("frames", "order_frames"):
            levels = (getattr(batch, name).cpu() - getattr(expected, name)).abs() * 0.25 * 255
            # raw: no decoder, so nothing may differ; nvJPEG's inverse transform rounds differently from libjpeg-turbo's
            assert levels.max() <= (0 if codec == "raw" else 2)


@pytest.mark.slow
@needs_dali
def test_a_run_by_dali_gives_the_same_weights(tiny_store: Path, tmp_path: Path):
    from usvs.tasks.pretraining.pretrain import pretrain
    from usvs.training.checkpoint import load_newest_checkpoint

    weights = []
    for loader in ("torch", "dali"):
        changes = [f"run.loader={loader}", "optimiser.epochs=1", "run.compile=eager", "run.device=cpu"]
        settings = load_settings(pretrain_profile("quick"), overrides=changes)
        pretrain(tiny_store, tmp_path / loader, settings)
        weights.append(load_newest_checkpoint(tmp_path / loader / "checkpoints").model)
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_dali_the_error_names_what_to_install(tiny_store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    store, settings = PreparedStore(tiny_store), make_settings(64)
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"loader": "dali"})})
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, 8)
    with pytest.raises(MissingDependencyError, match=r"pip install 'usvs\[dali\]', or use --loader torch"):
        make_loader(store, plan, settings.pairs, CPU)
