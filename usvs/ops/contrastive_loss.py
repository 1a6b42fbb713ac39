"""Cross-modal contrastive loss with a hard negative (Eq. 2), computed without the n x M matrix of similarities.

Notation: n anchors v, each with its positive s and its hard negative s'; M candidates c; d = embedding width.
"""

from typing import Any

import torch
from torch import Tensor

from usvs.ops.contrastive_loss_reference import accumulated_dtype, normalised


def contrastive_loss(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [M, d]
    self_index: Tensor,  # [n]
    temperature: float | Tensor = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
    normalise: bool = False,
) -> Tensor:
    """Return the contrastive loss of every anchor.

    With a = v.s / T, b = v.s' / T and the margin m = a - b::

        eq2:        -a - g(m) + logsumexp over k != self of v.c_k / T
        ntxent:     -a        + logsumexp over k != self of v.c_k / T
        logsumexp:              logsumexp over k != self of v.c_k / T

    where g(m) = log(1 - exp(-m)) for m >= `margin_floor`, so that the first line is Eq. 2 of Jiao et al. (MICCAI 2020),
    and the tangent of g at `margin_floor` below it, where Eq. 2 is undefined (m <= 0) or its gradient very large. In
    `ntxent` the hard negative has an effect only where it is among the candidates. `logsumexp` has no terms of pairs:
    losses of other pairs, or over other sets of candidates, are built on it (`ring_contrastive_loss`).

    A row whose logsumexp is not finite (a NaN in the anchor, or in a candidate that is not excluded) has a NaN loss and
    NaN gradients of its own, and no weight in the gradients of the candidates.

    On a CPU gradients are prepared in the forward pass if any input requires them. Losses weighted equally, as by
    `mean`, then cost 3 matrix products, forward and backward together; weighted unequally, 6.

    Args:
        anchors: [n, d] float32, float64 or bfloat16 (accumulated in float32). On a CPU with ``bfloat16_products`` (see
            `build_info`) the terms of bfloat16 gradients are rounded to bfloat16 before they are summed.
        positives: [n, d], dtype of `anchors`. Not read by `logsumexp`: pass `anchors`.
        hard_negatives: [n, d], dtype of `anchors`. Not read by `logsumexp`: pass `anchors`.
        candidates: [M, d], dtype of `anchors`: all embeddings that an anchor is compared with; may include the anchors.
        self_index: [n] int64, index of the candidate that is the anchor itself and is excluded; -1: none is.
        temperature: T, divides every similarity; above 0. A tensor of one element on the device of `anchors`, such as a
            parameter, gets a gradient. On a GPU its value is not checked, since the host would wait: the losses are NaN
            where it is out of range.
        margin_floor: the margin below which g is replaced by its tangent; above 0.
        form: ``eq2``, ``ntxent`` or ``logsumexp``.
        normalise: scale all embeddings to length 1 first, in float32 for bfloat16 ones.

    Returns:
        [n] losses, float32 (float64 for float64 inputs). The logsumexp of no candidates is -inf.

    Raises:
        RuntimeError: for shapes, dtypes or values out of range, and where an anchor has no candidate left, except with
            `logsumexp`. On a GPU, where reading `self_index` would make the host wait, a row with such an index is NaN,
            as above.
    """
    number, learned_temperature = split_temperature(temperature)
    inputs = (anchors, positives, hard_negatives, candidates, self_index)
    settings = (number, margin_floor, form, learned_temperature, normalise)
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        losses: Tensor = torch.ops.usvs.contrastive_loss(*inputs, *settings)
        return losses
    return _contrastive_loss(*inputs, *settings)


def split_temperature(temperature: float | Tensor) -> tuple[float, Tensor | None]:
    """Return the number and the tensor that the ops take: one of them holds the temperature."""
    if isinstance(temperature, Tensor):
        return 1.0, temperature
    return temperature, None


def _contrastive_loss(
    anchors: Tensor,
    positives: Tensor,
    hard_negatives: Tensor,
    candidates: Tensor,
    self_index: Tensor,
    temperature: float = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
    learned_temperature: Tensor | None = None,
    normalise: bool = False,
) -> Tensor:
    """`contrastive_loss` with the arguments of the registered op."""
    if normalise:
        anchors, positives, hard_negatives, candidates = (
            normalised(rows) for rows in (anchors, positives, hard_negatives, candidates)
        )
    if learned_temperature is not None:
        learned_temperature = learned_temperature.to(accumulated_dtype(anchors))
    inputs = (anchors, positives, hard_negatives, candidates, self_index)
    settings = (temperature, margin_floor, form, learned_temperature)
    differentiable = torch.is_grad_enabled() and (
        anchors.requires_grad
        or positives.requires_grad
        or hard_negatives.requires_grad
        or candidates.requires_grad
        or (learned_temperature is not None and learned_temperature.requires_grad)
    )
    # On a CPU the gradients cost least while the exponentials are in cache: 3 matrix products instead of 4.
    losses: Tensor
    if not (differentiable and anchors.is_cpu):
        losses = _forward(*inputs, *settings)[0]
    elif torch.compiler.is_compiling():
        losses = _with_slopes(*inputs, *settings)[0]
    else:
        losses = _LossesWithSlopes.apply(*inputs, *settings)  # type: ignore[no-untyped-call]
    return losses


# Resolved once: for small batches the attribute look-ups are a measurable part of a step.
_forward = torch.ops.usvs.contrastive_loss_forward.default
_with_slopes = torch.ops.usvs.contrastive_loss_with_slopes.default
_backward = torch.ops.usvs.contrastive_loss_backward.default
_backward_from_slopes = torch.ops.usvs.contrastive_loss_backward_from_slopes.default

# Registered above autograd, and in Python: the stable ABI loses the message of an error raised in a nested op call.
torch.library.impl("usvs::contrastive_loss", "CompositeImplicitAutograd", _contrastive_loss)


def _fake_forward(
    anchors: Tensor,
    positives: Tensor,
    hard_negatives: Tensor,
    candidates: Tensor,
    self_index: Tensor,
    temperature: float,
    margin_floor: float,
    form: str,
    learned_temperature: Tensor | None,
) -> tuple[Tensor, Tensor]:
    dtype = accumulated_dtype(anchors)
    return anchors.new_empty(anchors.shape[0], dtype=dtype), anchors.new_empty(anchors.shape[0], dtype=dtype)


torch.library.register_fake("usvs::contrastive_loss_forward", _fake_forward)


def _fake_with_slopes(
    anchors: Tensor, positives: Tensor, hard_negatives: Tensor, candidates: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    dtype = accumulated_dtype(anchors)
    rows, width = anchors.shape
    kept = (rows + candidates.shape[0]) * width + 2 * rows  # slopes of anchors and of candidates, logsumexp, g'(m)
    return anchors.new_empty(rows, dtype=dtype), anchors.new_empty(kept, dtype=dtype)


torch.library.register_fake("usvs::contrastive_loss_with_slopes", _fake_with_slopes)


def _fake_backward(
    grad: Tensor,
    anchors: Tensor,
    positives: Tensor,
    hard_negatives: Tensor,
    candidates: Tensor,
    self_index: Tensor,
    kept: Tensor,
    temperature: float,
    margin_floor: float,
    form: str,
    learned_temperature: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pairs = 0 if form == "logsumexp" else anchors.shape[0]
    positives_grad, hard_negatives_grad = (anchors.new_empty(pairs, anchors.shape[1]) for _ in range(2))
    return anchors.new_empty(anchors.shape), positives_grad, hard_negatives_grad, candidates.new_empty(candidates.shape)


torch.library.register_fake("usvs::contrastive_loss_backward", _fake_backward)
torch.library.register_fake("usvs::contrastive_loss_backward_from_slopes", _fake_backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, kept = output
    ctx.mark_non_differentiable(kept)
    _keep(ctx, inputs, kept)


def _keep(ctx: Any, inputs: tuple[Any, ...], kept: Tensor) -> None:
    *tensors, temperature, margin_floor, form, learned_temperature = inputs
    ctx.settings = temperature, margin_floor, form
    ctx.save_for_backward(*tensors, kept, learned_temperature)


def _gradients(ctx: Any, grad: Tensor, _grad_of_kept: Tensor) -> tuple[Tensor | None, ...]:
    return _input_gradients(ctx, _backward(grad, *ctx.saved_tensors[:6], *ctx.settings, ctx.saved_tensors[6]))


def _gradients_from_slopes(ctx: Any, grad: Tensor, _grad_of_kept: Tensor | None = None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    return _input_gradients(ctx, _backward_from_slopes(grad, *saved[:6], *ctx.settings, saved[6]))


def _input_gradients(ctx: Any, gradients: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of every argument of the op, given those of the embeddings."""
    anchors_grad, positives_grad, hard_negatives_grad, candidates_grad = gradients
    has_pairs = ctx.settings[2] != "logsumexp"
    temperature_grad = None
    if ctx.needs_input_grad[8]:
        temperature_grad = gradient_of_temperature(ctx.saved_tensors[0], anchors_grad, ctx.saved_tensors[6])
    pairs = (positives_grad, hard_negatives_grad) if has_pairs else (None, None)
    return anchors_grad, *pairs, candidates_grad, None, None, None, None, temperature_grad


def gradient_of_temperature(anchors: Tensor, anchors_grad: Tensor, temperature: Tensor) -> Tensor:
    """Return the gradient of T: losses depend on v and T through v / T alone, so dL/dT = -sum of v . dL/dv / T."""
    sums: Tensor = torch.linalg.vecdot(anchors, anchors_grad)
    return -sums.sum(dtype=temperature.dtype) / temperature


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
