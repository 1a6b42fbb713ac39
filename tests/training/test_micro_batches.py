import pytest
import torch
from torch import nn

from tests.training.compare import assert_same, gradients
from usvs.errors import ConfigError, ResourceError
from usvs.ops.recompute import recomputing
from usvs.tasks.pretraining.module import PretrainModel
from usvs.training import batch_compute, threads
from usvs.training.activation_checkpointing import recompute_blocks
from usvs.training.batch_compute import BatchCompute
from usvs.training.memory_estimate import STATE_COPIES, estimate_bytes
from usvs.training.micro_batches import complete_shard, micro_batch_slices
from usvs.training.trainer import NonFiniteError, Trainer

CLIPS = 12


def batch(seed: int = 0, clips: int = CLIPS):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    valid = torch.rand(clips, generator=generator) < 0.6
    valid[clips // 4 : clips // 2] = False  # one of four micro-batches has no valid pair
    speech = 0.1 * normal(2, clips, 2, 14_400)
    order = torch.randint(0, 12, (clips,), generator=generator)
    ordered = torch.rand(clips, generator=generator) < 0.8
    ordered[-(clips // 4) :] = False  # and another has no order task
    return normal(clips, 2, 1, 32, 32), normal(clips, 4, 1, 32, 32), speech[0], speech[1], valid, order, ordered


def trainer(tiny, policy: str, objective: dict | None = None, **run) -> Trainer:
    settings = tiny(objective=objective or {}, run={"compile": "eager", **run})
    optimiser = settings.optimiser.model_copy(update={"batch_norm": policy})
    torch.manual_seed(0)
    model = PretrainModel(settings)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():  # statistics worth freezing
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.running_mean.normal_(0.0, 0.3, generator=generator)
    return Trainer(model, optimiser, settings.run, 10, 5)


EQ2 = {"form": "eq2", "normalise": False, "temperature": 1.0}


@pytest.mark.parametrize(("clips", "most", "objective"), [(32, 8, {}), (CLIPS, 5, EQ2), (6, 1, {})])
def test_micro_batches_give_the_losses_and_gradients_of_the_complete_batch(tiny, clips, most, objective):
    inputs = batch(0, clips)
    whole = gradients(trainer(tiny, "frozen", objective), inputs)
    parts = trainer(tiny, "frozen", objective, micro_batch_clips=most)
    assert parts.compute._micro_clips == most
    before = {name: value.clone() for name, value in parts.module.named_buffers()}
    assert_same(whole, gradients(parts, inputs), 1e-5)
    assert all(torch.equal(before[name], value) for name, value in parts.module.state_dict().items() if name in before)


def test_scripted_micro_batches_equal_eager_ones(tiny):
    eager = gradients(trainer(tiny, "frozen", micro_batch_clips=3), batch())
    scripted = gradients(trainer(tiny, "frozen", micro_batch_clips=3, compile="torchscript"), batch())
    assert_same(eager, scripted, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"micro_batch_clips": 8}, {"activation_checkpointing": True}])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_live_batch_norm_blocks_are_run_again_with_the_same_bits(tiny, asked, precision):
    plain = trainer(tiny, "sync", precision=precision)
    again = trainer(tiny, "sync", precision=precision, **asked)
    assert again.compute._recomputes
    for seed in range(2):
        assert plain.step(*batch(seed, 6)) == again.step(*batch(seed, 6))
    for name, value in plain.state_dict().model.items():  # running statistics too, counted once
        assert torch.equal(value, again.state_dict().model[name]), name


def test_recomputation_keeps_less_for_backward(tiny):
    def kept(run: Trainer) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nelement()) or t, lambda t: t):
            run.module(*batch(0, 6))
        return sum(sizes)

    assert kept(trainer(tiny, "sync", activation_checkpointing=True)) < 0.5 * kept(trainer(tiny, "sync"))


class ShortOfMemory(BatchCompute):
    """Runs out of memory until it holds no more than so many clips, and recomputes."""

    limit, recompute = CLIPS, False

    def _gradients(self, inputs, shard, seed):
        result = super()._gradients(inputs, shard, seed)
        most = min(self._micro_clips or CLIPS, CLIPS)
        if most > self.limit or (self.recompute and not self._recomputes):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return result


def short(run: Trainer, limit: int, recompute: bool = False) -> Trainer:
    run.compute.__class__ = ShortOfMemory
    run.compute.limit, run.compute.recompute = limit, recompute
    return run


@pytest.mark.slow
def test_where_memory_runs_out_the_same_is_computed_with_less(tiny, caplog):
    plain, less = trainer(tiny, "sync"), short(trainer(tiny, "sync"), CLIPS, recompute=True)
    assert plain.step(*batch()) == less.step(*batch())
    assert "out of memory: activations are recomputed in the backward pass" in caplog.text
    assert all(torch.equal(v, less.state_dict().model[n]) for n, v in plain.state_dict().model.items())

    whole, parts = trainer(tiny, "frozen"), short(trainer(tiny, "frozen"), 3)
    assert_same(gradients(whole, batch()), gradients(parts, batch()), 1e-5)
    assert "micro-batches of 3 clips from now on" in caplog.text
    assert parts.compute._micro_clips == 3


@pytest.mark.slow
def test_where_nothing_is_left_to_save_it_says_what_to_do(tiny):
    with pytest.raises(ResourceError, match=r"lower optimiser\.batch_clips"):
        short(trainer(tiny, "sync"), 0).step(*batch())
    with pytest.raises(ResourceError, match="out of memory with 1 clips"):
        short(trainer(tiny, "frozen"), 0).step(*batch())


def test_another_error_is_not_taken_for_a_lack_of_memory(tiny):
    frames, *rest = batch()
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        trainer(tiny, "sync").step(frames[:, :, :, :, :0], *rest)


def test_a_non_finite_step_leaves_no_trace(tiny):
    run = trainer(tiny, "sync")
    run.step(*batch(0, 6))
    before = {name: value.clone() for name, value in run.state_dict().model.items()}
    frames, *rest = batch(1, 6)
    with pytest.raises(NonFiniteError):
        run.step(frames * float("nan"), *rest)
    assert all(torch.equal(before[name], value) for name, value in run.state_dict().model.items())


def test_a_module_without_outputs_has_no_micro_batches(tiny):
    class Whole(nn.Module):
        def forward(self, frames):
            return frames

    settings = tiny(run={"compile": "eager", "micro_batch_clips": 2})
    with pytest.raises(ConfigError, match="Whole has no method 'outputs'"):
        Trainer(Whole(), settings.optimiser, settings.run, 1, 1)


def test_slices_are_even():
    assert [part.stop - part.start for part in micro_batch_slices(32, 8)] == [8] * 4
    assert [part.stop - part.start for part in micro_batch_slices(7, 3)] == [2, 3, 2]
    assert micro_batch_slices(5, None) == [slice(0, 5)] and micro_batch_slices(0, 3) == [slice(0, 0)]


def test_every_block_is_found(tiny):
    assert recompute_blocks(PretrainModel(tiny())) == 8


def test_a_complete_shard_has_every_row():
    assert complete_shard(3).rows.tolist() == [0, 1, 2] and complete_shard(3).batch_size == 3


@pytest.mark.slow
def test_memory_that_would_run_out_is_saved_before_the_first_step(tiny, caplog, monkeypatch):
    """On a CPU the system ends a process that takes too much: no error could be caught."""
    plain = trainer(tiny, "sync").step(*batch())
    whole = gradients(trainer(tiny, "frozen"), batch())
    monkeypatch.setattr(threads, "SMALL_PARAMETERS", 0)
    needed = estimate_bytes(trainer(tiny, "sync").module, batch(), "float32")
    monkeypatch.setattr(batch_compute, "available_memory_bytes", lambda: needed + 1)
    enough = trainer(tiny, "sync")
    assert enough.step(*batch()) == plain and not enough.compute._recomputes and not caplog.text
    monkeypatch.setattr(batch_compute, "available_memory_bytes", lambda: needed // 5)
    less, parts = trainer(tiny, "sync"), trainer(tiny, "frozen")
    assert less.step(*batch()) == plain and less.compute._recomputes
    assert f"a step of {CLIPS} clips needs about" in caplog.text
    assert_same(whole, gradients(parts, batch()), 1e-5)
    assert parts.compute._recomputes


@pytest.mark.parametrize("recomputes", [False, True])
def test_the_estimate_counts_what_autograd_keeps(tiny, monkeypatch, recomputes: bool):
    monkeypatch.setattr(threads, "SMALL_PARAMETERS", 0)
    module, inputs = trainer(tiny, "sync").module, batch()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with recomputing(keep) if recomputes else hooks:
        module.train()(*inputs)
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    saved = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    estimate = estimate_bytes(module, inputs, "float32", recomputes) - 4 * STATE_COPIES * parameters
    assert 1.0 <= estimate / saved <= 1.3
    assert all(parameter.device.type == "cpu" for parameter in module.parameters())


def test_normalised_maps_are_computed_again_by_default_in_a_large_network(tiny, monkeypatch):
    """Nothing but the memory of a step changes, so that the estimate is lower."""
    monkeypatch.setattr(threads, "SMALL_PARAMETERS", 0)
    found, estimates = [], []
    for recomputes in (True, False):
        made = trainer(tiny, "sync", recompute_norms=recomputes, precision="float32")
        assert made.compute._drops_norms is recomputes
        found.append(gradients(made, batch()))
        estimates.append(estimate_bytes(made.module, batch(), "float32", made.compute._drops_norms))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())
    assert estimates[0] < estimates[1]
    assert not trainer(tiny, "sync", activation_checkpointing=True).compute._drops_norms


def test_few_parameters_with_large_maps_are_estimated():
    """SonoNet ended a process so: 96 clips of it need 25 GiB."""
    convolution = nn.Conv2d(1, 64, 3, padding=1)
    images = torch.empty(32, 1, 256, 256)
    assert estimate_bytes(nn.Sequential(convolution, nn.ReLU()), (images,), "float32") > 64 * 4 * images.numel()
    assert estimate_bytes(convolution, (images[:2],), "float32") is None


def test_a_module_that_cannot_be_estimated_is_trained_as_it_is(monkeypatch):
    class Counting(nn.Linear):
        def forward(self, rows):
            return super().forward(rows * float(rows.sum()))  # no values on the meta device

    monkeypatch.setattr(threads, "SMALL_PARAMETERS", 0)
    assert estimate_bytes(Counting(3, 3), (torch.ones(2, 3),), "float32") is None
