"""Results that the backward pass computes again: the same bits, less kept, and only what is exactly the result."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from usvs.models.batch_norm_act import BatchNormAct, fuse_batch_norms
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.ops.batch_norm import batch_norm_act
from usvs.ops.recompute import recomputing
from usvs.training.compilation import Compile, compile_module

IMAGES = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def encoder() -> SEResNeXt:
    torch.manual_seed(0)
    made = SEResNeXt(EncoderSettings(layers=(2, 1, 3, 1), stem_width=8, base_width=8, cardinality=4))
    fuse_batch_norms(made, True)
    return made.to(memory_format=torch.channels_last)


def step(recomputes: bool, how: Compile, precision: torch.dtype, retain: bool = False) -> dict[str, Tensor]:
    module = encoder()
    run = compile_module(module, how, "forward_features")
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16, cache_enabled=not recomputes)
    with half, saved(recomputes, []):
        loss = run(IMAGES).float().square().sum()
    loss.backward(retain_graph=retain)
    if retain:
        loss.backward()
    gradients = {f"{name}.grad": parameter.grad for name, parameter in module.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(module.named_buffers())}


def saved(recomputes: bool, kept: list[Tensor]):
    """Record what is kept, with recomputation or without."""
    if recomputes:
        return recomputing(kept.append)
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda kept: kept)


@pytest.mark.parametrize("how", ["torchscript", "eager"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_same_bits(how: Compile, precision: torch.dtype):
    """Gradients, and running statistics, which are updated once."""
    found, expected = step(True, how, precision), step(False, how, precision)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_backward_pass_that_is_repeated():
    found, expected = (step(recomputes, "eager", torch.float32, retain=True) for recomputes in (True, False))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_kept(precision: torch.dtype):
    """The maps that convolutions wrote, half of a block's; the images and the indices of max pooling beside them."""
    sizes, module = {}, encoder()
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    for recomputes in (False, True):
        kept: list[Tensor] = []
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16), saved(recomputes, kept):
            module.forward_features(IMAGES)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
        sizes[recomputes] = sum(size for key, size in storages.items() if key not in own)
    assert sizes[True] < 0.65 * sizes[False]


def norm(maps: Tensor, residual: Tensor | None = None) -> Tensor:
    ones, zeros = torch.ones(maps.size(1)), torch.zeros(maps.size(1))
    return batch_norm_act(maps, ones, zeros, zeros.clone(), ones.clone(), True, 0.1, 1e-5, True, residual)


def changed_in_place(maps: Tensor) -> Tensor:
    return norm(maps).mul_(2.0)


def a_view(maps: Tensor) -> Tensor:
    return norm(maps)[:, :4]


def of_freed_memory(maps: Tensor) -> Tensor:
    """Another tensor, most likely where the result was."""
    freed = norm(maps).detach()
    shape = freed.shape
    del freed
    return torch.full(shape, 3.0).contiguous(memory_format=torch.channels_last) * maps


@pytest.mark.parametrize("made", [changed_in_place, a_view, of_freed_memory])
def test_what_is_not_exactly_the_result_is_kept(made: Callable[[Tensor], Tensor]):
    maps = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
    gradients = []
    for recomputes in (True, False):
        leaf = maps.clone().requires_grad_()
        with saved(recomputes, []):
            loss = (made(leaf + 0.0) ** 3).sum()
        loss.backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_a_long_chain_of_sums_is_computed_once(monkeypatch):
    """Each result is the residual of the next: the first that is needed computes all, which then wait for their use."""
    from usvs.ops import batch_norm

    calls = []
    applied = batch_norm._apply
    monkeypatch.setattr(batch_norm, "_apply", lambda *inputs: (calls.append(1), applied(*inputs))[1])
    maps = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(2)).to(memory_format=torch.channels_last)
    leaf = maps.requires_grad_()
    with recomputing():
        result = leaf
        for _ in range(1200):  # beyond Python's limit of recursion
            result = norm(leaf + 0.0, residual=result)
        loss = result.square().sum()
    loss.backward()
    assert len(calls) == 1200


def test_modules_without_batch_norm_are_not_touched():
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    kept: list[Tensor] = []
    with recomputing(kept.append):
        layers(IMAGES).sum().backward()
    assert len(kept) >= 4 and not any(isinstance(module, BatchNormAct) for module in layers.modules())
