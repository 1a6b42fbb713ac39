"""Batch norm with what follows it in a residual block, in two passes over memory forward and two backward.

Notation: N images, C channels, h and w sides of the maps, S squeezed channels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from usvs.ops.recompute import offer


def batch_norm_act(
    maps: Tensor,  # [N, C, h, w]
    weight: Tensor,  # [C]
    bias: Tensor,  # [C]
    running_mean: Tensor | None,  # [C]
    running_variance: Tensor | None,  # [C]
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = True,
    residual: Tensor | None = None,  # [N, C, h, w]
    squeeze: list[Tensor] | None = None,
) -> Tensor:
    """Return relu(batch_norm(maps) * gate + residual), where the ReLU, the gate and the residual may be absent.

    The gate is that of squeeze-and-excitation (Hu et al., CVPR 2018). The means that it is computed from are those of
    the maps, normalised afterwards, so that the normalised maps are never written. Saved for the backward pass are the
    maps and numbers for each channel; normalised values are computed again. Equivalent to `batch_norm_act_reference`,
    except that the gate is computed in float32 under autocast too. Differentiable once.

    Args:
        maps: [N, C, h, w], float32, float64 or bfloat16, on a CPU; computed in float32 (float64). Another memory format
            than channels_last is copied.
        weight: [C], float32 or float64.
        bias: [C], likewise.
        running_mean: [C]; with `training` it is updated in place, otherwise it is used.
        running_variance: [C], likewise.
        training: normalise with the statistics of the batch.
        momentum: share of the batch in the running statistics.
        eps: added to the variance.
        relu: whether there is one.
        residual: [N, C, h, w], dtype of `maps`, added before the ReLU.
        squeeze: weight [S, C] and bias [S] of the layer before the gate's ReLU, weight [C, S] and bias [C] of the layer
            before its sigmoid; None: no gate.

    Returns:
        [N, C, h, w], dtype of `maps`, channels_last.

    Raises:
        RuntimeError: for other shapes or dtypes, and where there is no image.
        ValueError: for one value per channel with `training`, as torch.
    """
    result: Tensor = torch.ops.usvs.batch_norm_act(
        maps, weight, bias, running_mean, running_variance, training, momentum, eps, relu, residual, squeeze
    )
    return result


def batch_norm_act_reference(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = True,
    residual: Tensor | None = None,
    squeeze: list[Tensor] | None = None,
) -> Tensor:
    """Compute `batch_norm_act` in plain torch; same arguments and result."""
    result = F.batch_norm(maps, running_mean, running_variance, weight, bias, training, momentum, eps)
    if squeeze is not None:
        pooled = result.to(weight.dtype).mean((2, 3))
        hidden = F.relu(F.linear(pooled, squeeze[0], squeeze[1]))
        gate = torch.sigmoid(F.linear(hidden, squeeze[2], squeeze[3]))
        result = result * gate[:, :, None, None].to(result.dtype)
    if residual is not None:
        result = result + residual
    return F.relu(result) if relu else result


def _batch_norm_act(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = True,
    residual: Tensor | None = None,
    squeeze: list[Tensor] | None = None,
) -> Tensor:
    """`batch_norm_act` with the arguments of the registered op."""
    if maps.dim() != 4:
        raise RuntimeError(f"usvs::batch_norm_act: maps: expected shape [N, C, h, w], got {list(maps.shape)}")
    if training and maps.numel() == maps.size(1):  # the error of torch
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(maps.shape)}")
    maps = maps.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    inputs = (maps, weight, bias, residual)
    settings = (running_mean, running_variance, training, momentum, eps)
    result: Tensor
    if squeeze is None:
        result = _BatchNormAct.apply(*inputs, settings, relu)  # type: ignore[no-untyped-call]
    else:
        result = _GatedBatchNormAct.apply(*inputs, settings, relu, *squeeze)  # type: ignore[no-untyped-call]
    return result


# Resolved once: for small maps the attribute look-ups are a measurable part of a step.
_forward = torch.ops.usvs.batch_norm_forward.default
_backward = torch.ops.usvs.batch_norm_backward.default
_moments = torch.ops.usvs.batch_norm_moments.default
_apply = torch.ops.usvs.batch_norm_apply.default
_sums = torch.ops.usvs.batch_norm_sums.default
_gradient = torch.ops.usvs.batch_norm_gradient.default

torch.library.impl("usvs::batch_norm_act", "CompositeImplicitAutograd", _batch_norm_act)

# Where a residual is added before a ReLU, its gradient is that of the output where the output is above 0. The output is
# kept by the next layer in any case. Without a residual, what passed the ReLU is computed again from the maps.


class _BatchNormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        settings: tuple[Any, ...],
        relu: bool,
    ) -> Tensor:
        result: Tensor
        result, statistics = _forward(maps, weight, bias, *settings, residual, relu)
        offer(result, _again(maps, weight, bias, statistics, None, relu), residual)
        ctx.has_residual, ctx.training, ctx.relu = residual is not None, settings[2], relu
        ctx.save_for_backward(maps, weight, bias, statistics, result if relu and residual is not None else None)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, statistics, output = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        maps_grad, masked, weight_grad, bias_grad = _backward(
            grad, maps, output, weight, bias, statistics, ctx.training, ctx.relu
        )
        residual_grad = None
        if ctx.has_residual:
            residual_grad = grad if output is None else masked
        return maps_grad, weight_grad, bias_grad, residual_grad, None, None


class _GatedBatchNormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        settings: tuple[Any, ...],
        relu: bool,
        *squeeze: Tensor,
    ) -> Tensor:
        statistics, image_mean = _moments(maps, *settings)
        normalised = (image_mean - statistics[0]) * statistics[1]
        pooled = torch.addcmul(bias, weight, normalised).to(weight.dtype)
        with torch.autocast("cpu", enabled=False):
            hidden = torch.addmm(squeeze[1], pooled, squeeze[0].t()).relu_()
            gate = torch.addmm(squeeze[3], hidden, squeeze[2].t()).sigmoid_()
        result: Tensor = _apply(maps, weight, bias, statistics, gate, residual, relu)
        offer(result, _again(maps, weight, bias, statistics, gate, relu), residual)
        ctx.has_residual, ctx.training, ctx.relu = residual is not None, settings[2], relu
        output = result if relu and residual is not None else None
        ctx.save_for_backward(maps, weight, bias, statistics, output, gate, normalised, pooled, hidden, *squeeze)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, statistics, output, gate, normalised, pooled, hidden, *squeeze = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        by_image, masked = _sums(grad, maps, output, weight, bias, statistics, gate, ctx.relu)
        passed = grad if output is None else masked
        gate_grad = torch.addcmul(by_image[0] * bias, by_image[1], weight).to(gate.dtype) * gate * (1.0 - gate)
        hidden_grad = torch.mm(gate_grad, squeeze[2]).mul_(hidden > 0)
        pooled_grad = torch.mm(hidden_grad, squeeze[0])
        sums = by_image * gate  # of the gradient of the normalised maps times the scale; now with that of their means
        sums[0] += pooled_grad
        sums[1].addcmul_(pooled_grad, normalised)
        sums = sums.sum(1)
        recomputed = ctx.relu and output is None
        maps_grad = _gradient(passed, maps, weight, bias, statistics, gate, pooled_grad, sums, ctx.training, recomputed)
        bias_grad, weight_grad = sums.to(weight.dtype).unbind()
        return (
            maps_grad,
            weight_grad,
            bias_grad,
            passed if ctx.has_residual else None,
            None,
            None,
            torch.mm(hidden_grad.t(), pooled),
            hidden_grad.sum(0),
            torch.mm(gate_grad.t(), hidden),
            gate_grad.sum(0),
        )


def _again(
    maps: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, gate: Tensor | None, relu: bool
) -> Callable[[Tensor | None], Tensor]:
    """Return what computes the result from a residual once more, with the same bits."""
    inputs = (maps.detach(), weight.detach(), bias.detach(), statistics, gate)
    return lambda residual: _apply(*inputs, residual, relu)


def _like(maps: Tensor) -> Tensor:
    return torch.empty_like(maps, memory_format=torch.channels_last)


def _statistics_like(maps: Tensor) -> Tensor:
    return maps.new_empty((2, maps.size(1)), dtype=torch.float64)


def _fake_forward(maps: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _like(maps), _statistics_like(maps)


def _fake_backward(
    grad: Tensor, maps: Tensor, output: Tensor | None, weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    masked = maps.new_empty(0) if output is None else _like(maps)
    return _like(maps), masked, torch.empty_like(weight), torch.empty_like(weight)


def _fake_moments(maps: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _statistics_like(maps), maps.new_empty((maps.size(0), maps.size(1)), dtype=torch.float64)


def _fake_apply(maps: Tensor, *_: Any) -> Tensor:
    return _like(maps)


def _fake_sums(
    grad: Tensor,
    maps: Tensor,
    output: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    gate: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    rows = 1 if gate is None else maps.size(0)
    masked = maps.new_empty(0) if output is None else _like(maps)
    return maps.new_empty((2, rows, maps.size(1)), dtype=torch.float64), masked


def _fake_gradient(grad: Tensor, maps: Tensor, *_: Any) -> Tensor:
    return _like(maps)


torch.library.register_fake("usvs::batch_norm_forward", _fake_forward)
torch.library.register_fake("usvs::batch_norm_backward", _fake_backward)
torch.library.register_fake("usvs::batch_norm_moments", _fake_moments)
torch.library.register_fake("usvs::batch_norm_apply", _fake_apply)
torch.library.register_fake("usvs::batch_norm_sums", _fake_sums)
torch.library.register_fake("usvs::batch_norm_gradient", _fake_gradient)
