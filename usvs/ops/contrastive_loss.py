"""The cross-modal contrastive loss with a hard negative (Eq. 2), never holding the n x M similarities.

n anchors v, each with its positive s and hard negative s'; M candidates c; d = embedding width.
"""

import math
from typing import Any

import torch
from torch import Tensor


def contrastive_loss(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [M, d]
    self_index: Tensor,  # [n]
    temperature: float = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
) -> Tensor:
    """Return the contrastive loss of every anchor.

    With a = v.s / T, b = v.s' / T and the margin m = a - b::

        eq2:     -a - g(m) + logsumexp over k != self of v.c_k / T
        ntxent:  -a        + logsumexp over k != self of v.c_k / T

    where g(m) = log(1 - exp(-m)) from `margin_floor` upward, which makes the first line Eq. 2 of Jiao et al. (MICCAI
    2020) to the letter, and the tangent of g at `margin_floor` below it, where Eq. 2 has no or a useless value. In
    `ntxent` the hard negative counts only where the caller put it among the candidates.

    On a CPU gradients are prepared in the forward pass if any input requires them. Losses weighted equally, as by
    `mean`, then cost 3 products of matrices, forward and backward; weighted unequally, 6.

    Args:
        anchors: [n, d] float32, float64 or bfloat16 (summed in float32). Nothing is normalised here. On a CPU with
            `build_info`'s ``bfloat16_products``, what gradients of bfloat16 are summed from is rounded to it too.
        positives: [n, d].
        hard_negatives: [n, d].
        candidates: [M, d], everything the anchor is held against, its own embedding included or not.
        self_index: [n] int64, the candidate that is the anchor itself and is left out; -1 where none is.
        temperature: T, divides every similarity.
        margin_floor: the margin below which g is continued by its tangent; above 0.
        form: ``eq2`` or ``ntxent``.

    Returns:
        [n] losses, float32 (float64 for float64 inputs).

    Raises:
        RuntimeError: for shapes, dtypes or values that do not fit, and where an anchor would be held against nothing.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        losses: Tensor = torch.ops.usvs.contrastive_loss(
            anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form
        )
        return losses
    return _losses_only(anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form)


def contrastive_loss_reference(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [M, d]
    self_index: Tensor,  # [n]
    temperature: float = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
) -> Tensor:
    """Say in plain torch what `contrastive_loss` computes; arguments and result are the same."""
    if anchors.dtype == torch.bfloat16:
        anchors, positives, hard_negatives = anchors.float(), positives.float(), hard_negatives.float()
        candidates = candidates.float()
    positive = (anchors * positives).sum(dim=1) / temperature  # [n]
    margin = positive - (anchors * hard_negatives).sum(dim=1) / temperature  # [n]
    is_self = torch.arange(candidates.shape[0], device=candidates.device) == self_index[:, None]  # [n, M]
    logits = (anchors @ candidates.T / temperature).masked_fill(is_self, float("-inf"))
    losses = torch.logsumexp(logits, dim=1) - positive
    if form == "ntxent":
        return losses
    touching = margin.clamp_min(margin_floor)  # where the curve, or below margin_floor its tangent, is touched
    return losses - torch.log(-torch.expm1(-touching)) - (margin - touching) / math.expm1(margin_floor)


# Above autograd, and in Python since the stable ABI loses the message of an error raised below a dispatched call.
def _losses_only(
    anchors: Tensor,
    positives: Tensor,
    hard_negatives: Tensor,
    candidates: Tensor,
    self_index: Tensor,
    temperature: float = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
) -> Tensor:
    inputs = (anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form)
    losses: Tensor
    if anchors.is_cpu and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs[:4]):
        # On a CPU the gradients cost least while the exponentials are at hand: 3 products of matrices, not 4.
        if torch.compiler.is_compiling():
            losses = torch.ops.usvs.contrastive_loss_with_slopes.default(*inputs)[0]
        else:
            losses = _LossesWithSlopes.apply(*inputs)  # type: ignore[no-untyped-call]
    else:
        losses = torch.ops.usvs.contrastive_loss_forward.default(*inputs)[0]
    return losses


torch.library.impl("usvs::contrastive_loss", "CompositeImplicitAutograd", _losses_only)


def _fake_forward(
    anchors: Tensor,
    positives: Tensor,
    hard_negatives: Tensor,
    candidates: Tensor,
    self_index: Tensor,
    temperature: float,
    margin_floor: float,
    form: str,
) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if anchors.dtype == torch.float64 else torch.float32
    return anchors.new_empty(anchors.shape[0], dtype=dtype), anchors.new_empty(anchors.shape[0], dtype=dtype)


torch.library.register_fake("usvs::contrastive_loss_forward", _fake_forward)


def _fake_with_slopes(
    anchors: Tensor, positives: Tensor, hard_negatives: Tensor, candidates: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.float64 if anchors.dtype == torch.float64 else torch.float32
    rows, width = anchors.shape
    losses, logsumexp, anchors_slope, candidates_slope = (
        anchors.new_empty(shape, dtype=dtype) for shape in (rows, rows, (rows, width), (candidates.shape[0], width))
    )
    return losses, logsumexp, anchors_slope, candidates_slope


torch.library.register_fake("usvs::contrastive_loss_with_slopes", _fake_with_slopes)


def _fake_backward(
    grad: Tensor, anchors: Tensor, positives: Tensor, hard_negatives: Tensor, candidates: Tensor, *forward: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    anchors_grad, positives_grad, hard_negatives_grad, candidates_grad = (
        tensor.new_empty(tensor.shape) for tensor in (anchors, positives, hard_negatives, candidates)
    )
    return anchors_grad, positives_grad, hard_negatives_grad, candidates_grad


torch.library.register_fake("usvs::contrastive_loss_backward", _fake_backward)
torch.library.register_fake("usvs::contrastive_loss_backward_from_slopes", _fake_backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *kept = output  # the logsumexp, and the slopes where there are some
    ctx.mark_non_differentiable(*kept)
    _keep(ctx, inputs, kept)


def _keep(ctx: Any, inputs: tuple[Any, ...], kept: list[Tensor]) -> None:
    *tensors, ctx.temperature, ctx.margin_floor, ctx.form = inputs
    ctx.save_for_backward(*tensors, *kept)


def _backward(ctx: Any, grad: Tensor, *_grads_of_kept: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    ops = torch.ops.usvs
    fused = len(saved) > 6  # five inputs and the logsumexp
    backward = (ops.contrastive_loss_backward_from_slopes if fused else ops.contrastive_loss_backward).default
    gradients = backward(grad, *saved, ctx.temperature, ctx.margin_floor, ctx.form)
    return (*gradients, None, None, None, None)


for _forward in ("contrastive_loss_forward", "contrastive_loss_with_slopes"):
    torch.library.register_autograd(f"usvs::{_forward}", _backward, setup_context=_setup_context)


class _LossesWithSlopes(torch.autograd.Function):
    """The same op for calls from Python, past the dispatcher's way through Python, which costs a small batch most.

    What is kept is no output of it.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            losses, *kept = torch.ops.usvs.contrastive_loss_with_slopes.default(*inputs)
        _keep(ctx, inputs, kept)
        result: Tensor = losses
        return result

    backward = staticmethod(_backward)
