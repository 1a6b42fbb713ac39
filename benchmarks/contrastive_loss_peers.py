"""Other implementations of `usvs.ops.contrastive_loss`; each function prepares one training step.

A step is the mean loss of n anchors against 3 n candidates (Eq. 2, the anchor itself left out), and its gradients with
respect to all four inputs; it returns the loss and the gradients.
"""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from usvs.ops.contrastive_loss_reference import pair_terms

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # anchors, positives, hard negatives, candidates, self_index
Step = Callable[[], list[Tensor]]


def by_autograd(function: Callable[..., Tensor], inputs: Inputs) -> Step:
    """Differentiate the mean of function(*inputs)."""

    def run() -> list[Tensor]:
        loss = function(*inputs).mean()
        return [loss, *torch.autograd.grad(loss, inputs[:4])]

    return run


def plain_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
    """What one writes with torch alone; the reference of usvs also keeps rows that are not finite apart."""
    if anchors.dtype == torch.bfloat16:
        anchors, positives, negatives, candidates = (x.float() for x in (anchors, positives, negatives, candidates))
    is_self = torch.arange(candidates.shape[0], device=candidates.device) == own[:, None]  # [n, M]
    logits = (anchors @ candidates.T).masked_fill(is_self, float("-inf"))
    return torch.logsumexp(logits, dim=1) + pair_terms(anchors, positives, negatives, 1.0, 1.0, "eq2")


def eager(inputs: Inputs) -> Step:
    """Plain torch, which holds the n x M similarities several times."""
    return by_autograd(plain_loss, inputs)


def compiled(inputs: Inputs) -> Step:
    """The same through torch.compile."""
    return by_autograd(torch.compile(plain_loss, dynamic=False), inputs)


def loss_without_upcast(
    anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor
) -> Tensor:
    """The same with logits in the dtype of the embeddings, as under autocast: fast, but rounded to eight bits."""
    logits = (anchors @ candidates.T).scatter(1, own[:, None], float("-inf"))  # every anchor is among the candidates
    pairs = pair_terms(anchors.float(), positives.float(), negatives.float(), 1.0, 1.0, "eq2")
    return torch.logsumexp(logits, dim=1).float() + pairs


def eager_without_upcast(inputs: Inputs) -> Step:
    """Plain torch with bfloat16 logits."""
    return by_autograd(loss_without_upcast, inputs)


def checkpointed(inputs: Inputs, block_rows: int = 256) -> Step:
    """In blocks of anchors, recomputed in the backward pass."""

    def blocks(anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        pieces = zip(*(tensor.split(block_rows) for tensor in (anchors, positives, negatives, own)), strict=True)
        return torch.cat(
            [checkpoint(plain_loss, v, s, t, candidates, index, use_reentrant=False) for v, s, t, index in pieces]
        )

    return by_autograd(blocks, inputs)


def three_products(inputs: Inputs) -> Step:
    """Gradients by hand, block by block: 3 products of matrices in place of 4, the best form in plain torch."""
    anchors, positives, negatives, candidates, own = (tensor.detach() for tensor in inputs)
    rows, slope_floor = anchors.shape[0], 1 / math.expm1(1.0)

    def run() -> list[Tensor]:
        candidates_grad, anchors_grad = torch.zeros_like(candidates), torch.empty_like(anchors)
        total = torch.zeros((), device=anchors.device)
        for begin in range(0, rows, 256):
            v = anchors[begin : begin + 256]
            logits = v @ candidates.T
            index = own[begin : begin + 256]
            logits.scatter_(1, index[:, None], float("-inf"))  # every anchor here is among the candidates
            top = logits.amax(dim=1, keepdim=True)
            weights = logits.sub_(top).exp_()
            sums = weights.sum(dim=1, keepdim=True)
            anchors_grad[begin : begin + 256] = (weights @ candidates).div_(sums * rows)
            candidates_grad.addmm_(weights.T, v / (sums * rows))
            total += (top + sums.log()).sum()
        a = (anchors * positives).sum(dim=1)
        margin = a - (anchors * negatives).sum(dim=1)
        touching = margin.clamp_min(1.0)
        slope = 1 / torch.expm1(touching)
        gap = torch.log(-torch.expm1(-touching)) + (margin - touching) * slope_floor
        loss = (total - (a + gap).sum()) / rows
        pull, push = (-(1 + slope) / rows)[:, None], (slope / rows)[:, None]
        anchors_grad += pull * positives + push * negatives
        return [loss, anchors_grad, pull * anchors, push * anchors, candidates_grad]

    return run


def open_clip(inputs: Inputs) -> Step:
    """open_clip's ClipLoss: another loss (n x n, no hard negative), shown for scale."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("open_clip is not installed (pip install --no-deps open_clip_torch)")
    # Its package imports torchvision, which the loss does not need.
    source = Path(spec.submodule_search_locations[0]) / "loss.py"
    loss_spec = importlib.util.spec_from_file_location("open_clip_loss", source)
    if loss_spec is None or loss_spec.loader is None:
        raise ImportError(f"open_clip's loss.py cannot be loaded from {source}")
    module = importlib.util.module_from_spec(loss_spec)
    loss_spec.loader.exec_module(module)
    loss_of, anchors, positives = module.ClipLoss(), *(F.normalize(x.detach()).requires_grad_() for x in inputs[:2])

    def run() -> list[Tensor]:
        loss = loss_of(anchors, positives, torch.tensor(1.0, device=anchors.device))
        return [loss, *torch.autograd.grad(loss, (anchors, positives))]

    return run


def sigmoid_chunks(inputs: Inputs) -> Step:
    """SigLIP's loss in chunks of candidates, each recomputed: another loss, shown for scale."""
    columns = 4096

    def chunk(anchors: Tensor, candidates: Tensor, own: Tensor, first: int) -> Tensor:
        index = torch.arange(first, first + len(candidates), device=own.device)
        signs = torch.where(index == own[:, None], 1.0, -1.0)
        return -F.logsigmoid(signs * (anchors @ candidates.T)).sum()

    def loss(anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        # The terms of positives and negatives, so that every input has a gradient.
        pairs = -F.logsigmoid((anchors * positives).float().sum(1)) - F.logsigmoid(
            -(anchors * negatives).float().sum(1)
        )
        parts = [
            checkpoint(chunk, anchors, piece, own, number * columns, use_reentrant=False)
            for number, piece in enumerate(candidates.split(columns))
        ]
        return torch.stack(parts).sum() / len(anchors) + pairs.mean()

    return by_autograd(loss, inputs)


PEERS = {
    "torch eager": eager,
    "torch.compile": compiled,
    "checkpointed blocks": checkpointed,
    "torch, 3 products by hand": three_products,
}
OTHER_LOSS = {"open_clip ClipLoss (another loss)": open_clip}
