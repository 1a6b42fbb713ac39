"""Cross-modal contrastive loss with a hard negative (Eq. 2), computed without the n x M matrix of similarities.

Notation: n anchors v, each with its positive s and its hard negative s'; M candidates c; d = embedding width.
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

    where g(m) = log(1 - exp(-m)) for m >= `margin_floor`, so that the first line is Eq. 2 of Jiao et al. (MICCAI 2020),
    and the tangent of g at `margin_floor` below it, where Eq. 2 is undefined (m <= 0) or its gradient very large. In
    `ntxent` the hard negative has an effect only where it is among the candidates.

    A row whose logsumexp is not finite (a NaN in the anchor, or in a candidate that is not excluded) has a NaN loss and
    NaN gradients of its own, and no weight in the gradients of the candidates.

    On a CPU gradients are prepared in the forward pass if any input requires them. Losses weighted equally, as by
    `mean`, then cost 3 matrix products, forward and backward together; weighted unequally, 6.

    Args:
        anchors: [n, d] float32, float64 or bfloat16 (accumulated in float32). Embeddings are not normalised here. On a
            CPU with ``bfloat16_products`` (see `build_info`) the terms of bfloat16 gradients are rounded to bfloat16
            before they are summed.
        positives: [n, d], dtype of `anchors`.
        hard_negatives: [n, d], dtype of `anchors`.
        candidates: [M, d], dtype of `anchors`: all embeddings that an anchor is compared with; may include the anchors.
        self_index: [n] int64, index of the candidate that is the anchor itself and is excluded; -1: none is.
        temperature: T, divides every similarity.
        margin_floor: the margin below which g is replaced by its tangent; above 0.
        form: ``eq2`` or ``ntxent``.

    Returns:
        [n] losses, float32 (float64 for float64 inputs).

    Raises:
        RuntimeError: for shapes, dtypes or values out of range, and where an anchor has no candidate left. On a GPU,
            where reading `self_index` would make the host wait, a row with such an index is NaN, as above.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        losses: Tensor = torch.ops.usvs.contrastive_loss(
            anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form
        )
        return losses
    inputs = (anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form)
    differentiable = torch.is_grad_enabled() and (
        anchors.requires_grad or positives.requires_grad or hard_negatives.requires_grad or candidates.requires_grad
    )
    # On a CPU the gradients cost least while the exponentials are in cache: 3 matrix products instead of 4.
    if not (differentiable and anchors.is_cpu):
        losses = _forward(*inputs)[0]
    elif torch.compiler.is_compiling():
        losses = _with_slopes(*inputs)[0]
    else:
        losses = _LossesWithSlopes.apply(*inputs)  # type: ignore[no-untyped-call]
    return losses


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
    """Compute `contrastive_loss` in plain torch; same arguments and result. Holds the [n, M] similarities."""
    if anchors.dtype == torch.bfloat16:
        anchors, positives, hard_negatives = anchors.float(), positives.float(), hard_negatives.float()
        candidates = candidates.float()
    logsumexp, poison = _logsumexp_reference(anchors, candidates, self_index, temperature)
    positive = (anchors * positives).sum(dim=1) / temperature  # [n]
    losses = (logsumexp - positive) * poison
    if form == "ntxent":
        return losses
    margin = positive - (anchors * hard_negatives).sum(dim=1) / temperature  # [n]
    clamped = margin.clamp_min(margin_floor)  # the point at which g, or its tangent below margin_floor, is taken
    return losses - torch.log(-torch.expm1(-clamped)) - (margin - clamped) / math.expm1(margin_floor)


def _logsumexp_reference(
    anchors: Tensor, candidates: Tensor, self_index: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return [n] logsumexp, without gradient where it is not finite, and [n] factors: 1, or NaN where it is not."""
    sound = anchors.isfinite().all(dim=1) & (self_index < candidates.shape[0]) & (self_index >= -1)
    is_self = torch.arange(candidates.shape[0], device=candidates.device) == self_index[:, None]  # [n, M]
    similarities = torch.where(sound[:, None], anchors, 0.0) @ candidates.T
    logits = (similarities / temperature).masked_fill(is_self, float("-inf"))
    sound = sound & torch.logsumexp(logits.detach(), dim=1).isfinite()
    logsumexp = torch.logsumexp(torch.where(sound[:, None], logits, 0.0), dim=1)
    return logsumexp, torch.where(sound, 1.0, float("nan")).to(logsumexp.dtype)


# Resolved once: for small batches the attribute look-ups are a measurable part of a step.
_forward = torch.ops.usvs.contrastive_loss_forward.default
_with_slopes = torch.ops.usvs.contrastive_loss_with_slopes.default
_backward = torch.ops.usvs.contrastive_loss_backward.default
_backward_from_slopes = torch.ops.usvs.contrastive_loss_backward_from_slopes.default

# Registered above autograd, and in Python: the stable ABI loses the message of an error raised in a nested op call.
torch.library.impl("usvs::contrastive_loss", "CompositeImplicitAutograd", contrastive_loss)


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
) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if anchors.dtype == torch.float64 else torch.float32
    rows, width = anchors.shape
    kept = (rows + candidates.shape[0]) * width + 2 * rows  # slopes of anchors and of candidates, logsumexp, g'(m)
    return anchors.new_empty(rows, dtype=dtype), anchors.new_empty(kept, dtype=dtype)


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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, kept = output
    ctx.mark_non_differentiable(kept)
    _keep(ctx, inputs, kept)


def _keep(ctx: Any, inputs: tuple[Any, ...], kept: Tensor) -> None:
    ctx.settings = inputs[5:]
    ctx.save_for_backward(*inputs[:5], kept)


def _gradients(ctx: Any, grad: Tensor, _grad_of_kept: Tensor) -> tuple[Tensor | None, ...]:
    return (*_backward(grad, *ctx.saved_tensors, *ctx.settings), None, None, None, None)


def _gradients_from_slopes(ctx: Any, grad: Tensor, _grad_of_kept: Tensor | None = None) -> tuple[Tensor | None, ...]:
    return (*_backward_from_slopes(grad, *ctx.saved_tensors, *ctx.settings), None, None, None, None)


torch.library.register_autograd(_forward, _gradients, setup_context=_setup_context)
torch.library.register_autograd(_with_slopes, _gradients_from_slopes, setup_context=_setup_context)


class _LossesWithSlopes(torch.autograd.Function):
    """The same op for eager calls; avoids the dispatcher's Python fallback, which dominates the time of small batches.

    The saved slopes are no output, but saved as one: freed with the graph, and an error in a second backward pass.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            losses, kept = _with_slopes(*inputs)
        _keep(ctx, inputs, kept)
        result: Tensor = losses
        return result

    backward = staticmethod(_gradients_from_slopes)
