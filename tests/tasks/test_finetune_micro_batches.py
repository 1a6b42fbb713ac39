"""Fine-tuning in parts, as pretraining: micro-batches, blocks run again, memory running out, several ranks."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.compare import assert_same, gradients, relative, run_jobs
from usvs.models.se_resnext import SEResNeXt
from usvs.models.sononet import SonoNetEncoder
from usvs.tasks.classification.module import ClassificationModule
from usvs.tasks.saliency.module import SaliencyModule
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.batch_compute import BatchCompute
from usvs.training.trainer import Trainer

FRAMES = 12
TASKS = ["planes", "gaze", "sononet"]


def batch(task: str, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(FRAMES, 1, 32, 32, generator=generator)
    if task != "gaze":
        return frames, torch.randint(0, 3, (FRAMES,), generator=generator)
    truth = torch.rand(FRAMES, 32, 32, generator=generator)
    truth[3:6] = 0  # nobody looked at any frame of one of four micro-batches
    return frames, truth / truth.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def trainer(settings, name: str, policy: str, **run) -> Trainer:
    torch.manual_seed(0)
    encoder = SonoNetEncoder(4, 32, 48) if name == "sononet" else SEResNeXt(settings.model.video)
    task = ClassificationModule(encoder, 3, torch.tensor([0.5, 1.0, 2.0]))
    task = SaliencyModule(encoder, 8, 0.1, 0.2) if name == "gaze" else task
    generator = torch.Generator().manual_seed(1)
    for module in task.modules():  # statistics worth freezing
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.running_mean.normal_(0.0, 0.3, generator=generator)
    optimiser = settings.optimiser.model_copy(update={"batch_norm": policy})
    return Trainer(task, optimiser, settings.run.model_copy(update=run), 10, 5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("compile", ["eager", "torchscript"])
def test_micro_batches_give_the_whole_batchs_losses_and_gradients(tiny_planes, task, compile):
    whole = gradients(trainer(tiny_planes, task, "frozen"), batch(task))
    parts = trainer(tiny_planes, task, "frozen", micro_batch_clips=3, compile=compile)
    before = {name: value.clone() for name, value in parts.module.named_buffers()}
    assert_same(whole, gradients(parts, batch(task)), 1e-5)
    assert parts.compute._micro_clips == 3
    assert all(torch.equal(before[name], value) for name, value in parts.module.named_buffers())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("asked", [{"micro_batch_clips": 4}, {"activation_checkpointing": True}])
def test_with_live_batch_norm_blocks_are_run_again_with_the_same_bits(tiny_planes, task, asked):
    plain, again = trainer(tiny_planes, task, "sync"), trainer(tiny_planes, task, "sync", **asked)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nelement()) or t, lambda t: t):
        plain.module(*batch(task))
        whole, kept[:] = sum(kept), []
        again.module(*batch(task))
    assert sum(kept) < 0.7 * whole
    for seed in range(2):
        assert plain.step(*batch(task, seed)) == again.step(*batch(task, seed))


@pytest.mark.parametrize("task", TASKS)
def test_where_memory_runs_out_the_same_is_computed_with_less(tiny_planes, task, monkeypatch, caplog):
    whole = gradients(trainer(tiny_planes, task, "frozen"), batch(task))
    enough = BatchCompute._gradients

    def short(self, inputs, place, seed):
        result = enough(self, inputs, place, seed)
        if not self._recomputes or (self._micro_clips or FRAMES) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return result

    monkeypatch.setattr(BatchCompute, "_gradients", short)
    assert_same(whole, gradients(trainer(tiny_planes, task, "frozen"), batch(task)), 1e-5)
    assert "activations are recomputed in the backward pass from now on" in caplog.text
    assert "micro-batches of 3 clips from now on" in caplog.text


@pytest.mark.distributed
def test_several_processes_finetune_and_predict_as_one(tmp_path, grating_store, gaze_store, tiny_planes):
    sgd = {"kind": "sgd", "schedule": "step", "learning_rate": 1e-3, "epochs": 1}
    short = tiny_planes.model_copy(update={"optimiser": tiny_planes.optimiser.model_copy(update=sgd), "folds": 2})
    shared = {name: getattr(short, name) for name in ("model", "optimiser", "run", "folds", "temporal_stride")}
    settings = {"planes": short, "gaze": SaliencySettings(**shared, window_seconds=0.0, head_width=8)}
    stores = {"planes": str(grating_store), "gaze": str(gaze_store)}
    jobs = []
    for task in stores:
        (tmp_path / f"{task}.json").write_text(settings[task].model_dump_json())
        common = {"task": task, "store": stores[task], "settings": str(tmp_path / f"{task}.json")}
        jobs += [{**common, "ranks": ranks, "run": str(tmp_path / f"{task}{ranks}")} for ranks in (1, 3)]
    pair = short.model_copy(update={"optimiser": short.optimiser.model_copy(update={"batch_clips": 2})})
    (tmp_path / "pair.json").write_text(pair.model_dump_json())
    jobs += [{**jobs[1], "ranks": 2}]
    jobs += [{**jobs[1], "settings": str(tmp_path / "pair.json"), "run": str(tmp_path / "pair")}]
    codes, output = run_jobs(tmp_path, [{"call": "run_finetuning", **job} for job in jobs])
    assert codes == [[0], [0] * 3, [0], [0] * 3, [2] * 2, [2] * 3], output
    assert output.count("is not empty: choose a new folder") == 1
    assert "3 processes for batches of 2 clips" in output
    for task in stores:
        one, three = (json.loads((tmp_path / f"{task}{ranks}" / "results.json").read_text()) for ranks in (1, 3))
        assert (one["processes"], three["processes"]) == (1, 3)
        for fold, of_three in zip(*(run["inits"]["random"]["finetune"]["folds"] for run in (one, three)), strict=True):
            assert fold["test_patients"] == of_three["test_patients"] and fold["updates"] == of_three["updates"] > 0
            scores = ("kl", "nss", "cc") if task == "gaze" else ("accuracy",)
            assert [fold[name] for name in scores] == pytest.approx([of_three[name] for name in scores], abs=2e-3)
        for fold in range(2):
            where = f"models/random/fold_{fold}/model.safetensors"
            assert relative(*(load_file(tmp_path / f"{task}{ranks}" / where) for ranks in (1, 3))) < 1e-5
