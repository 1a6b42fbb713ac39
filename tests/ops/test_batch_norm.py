"""Batch norm with gate, residual and ReLU: equal to its reference, with gradients, for every SIMD level."""

import itertools

import pytest
import torch
from torch import Tensor

from usvs.ops import batch_norm_act, batch_norm_act_reference

SHAPES = [(3, 8, 5, 7), (2, 7, 3, 3), (4, 64, 6, 5), (2, 24, 9, 9), (3, 100, 4, 1)]  # also with vectors cut short
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 8e-3}  # of the largest value


def channels_last(*shape: int, dtype: torch.dtype, seed: int, about: float = 0.0) -> Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + about
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


class Arguments:
    """Inputs of one call, in the dtype of the maps or as float64."""

    def __init__(self, shape, dtype: torch.dtype, residual: bool, gate: bool, about: float = 0.5) -> None:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        generator = torch.Generator().manual_seed(1)
        channels, squeezed = shape[1], max(2, shape[1] // 4)

        def draw(*sizes: int) -> Tensor:
            return torch.randn(sizes, dtype=wide, generator=generator)

        self.tensors = {
            "maps": channels_last(*shape, dtype=dtype, seed=2, about=about),
            "weight": draw(channels).abs() + 0.5,
            "bias": draw(channels),
        }
        if residual:
            self.tensors["residual"] = channels_last(*shape, dtype=dtype, seed=3)
        if gate:
            sizes = ((squeezed, channels), (squeezed,), (channels, squeezed), (channels,))
            self.tensors |= {f"squeeze{i}": draw(*size) / 2 for i, size in enumerate(sizes)}
        self.running = [torch.full((channels,), 0.1, dtype=wide), torch.full((channels,), 1.3, dtype=wide)]

    def call(self, function, relu: bool, training: bool, double: bool = False):
        """Return the result, the leaves by name, and the running statistics afterwards."""
        leaves = {
            name: (value.double() if double else value.clone()).requires_grad_() for name, value in self.tensors.items()
        }
        running = [value.double() if double else value.clone() for value in self.running]
        squeeze = [leaf for name, leaf in leaves.items() if name.startswith("squeeze")] or None
        result = function(
            leaves["maps"], leaves["weight"], leaves["bias"], *running, training, 0.1, 1e-5, relu,
            leaves.get("residual"), squeeze,
        )  # fmt: skip
        return result, leaves, running


def difference(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def check(shape, dtype: torch.dtype, relu: bool, residual: bool, gate: bool, training: bool) -> None:
    arguments = Arguments(shape, dtype, residual, gate)
    result, leaves, running = arguments.call(batch_norm_act, relu, training)
    expected, expected_leaves, expected_running = arguments.call(batch_norm_act_reference, relu, training, double=True)
    assert result.dtype == dtype and result.is_contiguous(memory_format=torch.channels_last)
    assert difference(result.detach(), expected.detach()) < TOLERANCE[dtype]
    # Where rounding decides whether a ReLU passes, both have the gradient 0.
    grad = channels_last(*shape, dtype=dtype, seed=4) * ((result > 0) == (expected > 0) if relu else 1)
    result.backward(grad)
    expected.backward(grad.double())
    for name, leaf in leaves.items():
        assert difference(leaf.grad, expected_leaves[name].grad) < TOLERANCE[dtype], name
    for value, wide in zip(running, expected_running, strict=True):
        assert difference(value, wide) < 1e-5


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_the_reference(simd: str, dtype: torch.dtype):
    for shape, relu, residual, gate in itertools.product(SHAPES, *[(True, False)] * 3):
        check(shape, dtype, relu, residual, gate, training=True)


def test_equals_the_reference_with_running_statistics(simd: str):
    for relu, residual, gate in itertools.product(*[(True, False)] * 3):
        check(SHAPES[0], torch.float32, relu, residual, gate, training=False)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_gradcheck(gate: bool, training: bool):
    arguments = Arguments((2, 3, 2, 3), torch.float64, residual=True, gate=gate)
    names = list(arguments.tensors)

    def function(*values: Tensor) -> Tensor:
        arguments.tensors = dict(zip(names, values, strict=True))
        squeeze = [value for name, value in arguments.tensors.items() if name.startswith("squeeze")] or None
        running = [value.clone() for value in arguments.running]
        return batch_norm_act(*values[:3], *running, training, 0.1, 1e-5, True, values[3], squeeze)

    torch.autograd.gradcheck(function, [value.requires_grad_() for value in arguments.tensors.values()])


def test_a_mean_far_above_the_deviation(simd: str):
    """A difference of squares would lose every digit."""
    shape = (4, 16, 40, 40)
    arguments = Arguments(shape, torch.float32, residual=False, gate=False, about=1000.0)
    result, _, running = arguments.call(batch_norm_act, False, True)
    expected, _, expected_running = arguments.call(batch_norm_act_reference, False, True, double=True)
    assert difference(result.detach(), expected.detach()) < 1e-4  # one ulp of 1000 is 6e-5
    assert difference(running[1], expected_running[1]) < 1e-4


@pytest.mark.parametrize("gated", [True, False])
def test_the_same_bits_for_any_number_of_threads(gated: bool):
    """Of the passes over the maps; the gate's two layers are torch's matrix products."""
    passes = torch.ops.usvs
    maps, grad = (channels_last(5, 32, 60, 60, dtype=torch.bfloat16, seed=seed) for seed in (6, 7))
    gate = torch.rand(5, 32, generator=torch.Generator().manual_seed(8)) if gated else None
    weight, bias, before, found = torch.linspace(0.5, 1.5, 32), torch.linspace(-1, 1, 32), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            statistics, image_mean = passes.batch_norm_moments(maps, None, None, True, 0.1, 1e-5)
            norm = (weight, bias, statistics, gate)
            output = passes.batch_norm_apply(maps, *norm, grad, True)
            sums, masked = passes.batch_norm_sums(grad, maps, output, *norm, True)
            back = passes.batch_norm_gradient(masked, maps, *norm, gate, sums.sum(1), True, False)
            found.append((statistics, image_mean, output, sums, masked, back))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


def test_other_memory_formats_are_copied():
    arguments = Arguments((3, 8, 5, 7), torch.float32, residual=True, gate=True)
    expected = arguments.call(batch_norm_act, True, True)[0]
    arguments.tensors["maps"] = arguments.tensors["maps"].contiguous()
    arguments.tensors["residual"] = arguments.tensors["residual"].contiguous()
    result, leaves, _ = arguments.call(batch_norm_act, True, True)
    assert torch.equal(result, expected)
    result.backward(torch.ones_like(result, memory_format=torch.contiguous_format))
    assert leaves["maps"].grad.shape == leaves["maps"].shape


def test_a_value_that_is_not_finite_is_passed_on(simd: str):
    arguments = Arguments((3, 8, 5, 7), torch.bfloat16, residual=True, gate=False)
    arguments.tensors["residual"][1, 2, 3, 4] = torch.nan
    result = arguments.call(batch_norm_act, True, True)[0]
    assert result.isnan().sum() == 1 and result[1, 2, 3, 4].isnan()
    arguments.tensors["maps"][0, 1, 0, 0] = torch.inf
    assert arguments.call(batch_norm_act, True, True)[0][:, 1].isnan().all()


def test_what_is_kept_for_the_backward_pass():
    """The maps and the output, which the next layer keeps in any case, and numbers for each channel."""
    arguments = Arguments((4, 32, 20, 20), torch.bfloat16, residual=True, gate=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = arguments.call(batch_norm_act, True, True)[0]
    assert sum(kept.values()) < 2.2 * result.untyped_storage().nbytes()


WRONG = {
    "weight": (lambda a: a.tensors.update(weight=torch.ones(5)), r"weight: expected shape \[8\], got \[5\]"),
    "maps": (
        lambda a: a.tensors.update(maps=torch.ones(3, 8, 5)),
        r"maps: expected shape \[N, C, h, w\], got \[3, 8, 5\]",
    ),
    "residual": (
        lambda a: a.tensors.update(residual=torch.ones(3, 8, 5, 6)),
        r"residual: expected shape \[3, 8, 5, 7\], got \[3, 8, 5, 6\]",
    ),
    "dtype": (
        lambda a: a.tensors.update(residual=torch.ones(3, 8, 5, 7, dtype=torch.float64)),
        "residual: expected Float, got Double",
    ),
    "half": (
        lambda a: a.tensors.update(maps=a.tensors["maps"].half()),
        "maps: expected float32, bfloat16 or float64, got Half",
    ),
    "no image": (
        lambda a: a.tensors.update(maps=torch.ones(0, 8, 5, 7), residual=torch.ones(0, 8, 5, 7)),
        "values of a channel: expected 1 ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_arguments(name: str):
    arguments = Arguments((3, 8, 5, 7), torch.float32, residual=True, gate=False)
    spoil, message = WRONG[name]
    spoil(arguments)
    with pytest.raises(RuntimeError, match=message):
        arguments.call(batch_norm_act, True, True)


def test_one_value_for_a_channel_has_no_variance():
    arguments = Arguments((1, 8, 1, 1), torch.float32, residual=False, gate=False)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        arguments.call(batch_norm_act, True, True)
