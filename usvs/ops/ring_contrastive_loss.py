"""The contrastive loss over the candidates of all ranks, which travel round a ring and are never gathered.

Notation: n anchors v, each with its positive s and its hard negative s'; m candidates of this rank; R ranks.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from usvs.ops.contrastive_loss import contrastive_loss, gradient_of_temperature, split_temperature
from usvs.ops.contrastive_loss_reference import accumulated_dtype, contrastive_loss_reference, normalised, pair_terms

_forward = torch.ops.usvs.contrastive_loss_forward.default
_backward = torch.ops.usvs.contrastive_loss_backward.default


def ring_contrastive_loss(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [m, d]
    self_index: Tensor,  # [n]
    temperature: float | Tensor = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
    normalise: bool = False,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Return `contrastive_loss` of this rank's anchors against the candidates of all ranks.

    Every rank passes its own rows and computes with one block of candidates at a time, while the next one arrives from
    the rank before it. Memory: the candidates of two ranks, and in the backward pass their gradients. Losses equal
    those over gathered candidates up to rounding. Every rank must take part in the forward and the backward pass.

    Args:
        anchors: [n, d], as in `contrastive_loss`; n may differ between ranks.
        positives: [n, d].
        hard_negatives: [n, d].
        candidates: [m, d], those of this rank; m may differ between ranks. They get the gradients of the losses of all
            ranks.
        self_index: [n] int64, index of the candidate that is the anchor itself, counted through the candidates of rank
            0, then of rank 1, and so on; -1: none is.
        temperature: a number or a tensor of one element, the same on all ranks. A tensor gets the gradient of this
            rank's losses.
        margin_floor: as in `contrastive_loss`.
        form: as in `contrastive_loss`.
        normalise: as in `contrastive_loss`.
        group: the ranks; default: all. Without an initialised group there is one rank.

    Returns:
        [n] losses, float32 (float64 for float64 inputs).

    Raises:
        RuntimeError: as `contrastive_loss`, except that an index out of range excludes no candidate.
    """
    if not dist.is_initialized():
        return contrastive_loss(
            anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form, normalise
        )
    if normalise:
        anchors, positives, hard_negatives, candidates = (
            normalised(rows) for rows in (anchors, positives, hard_negatives, candidates)
        )
    dtype = accumulated_dtype(anchors)
    number, learned_temperature = split_temperature(temperature)
    if learned_temperature is not None:
        learned_temperature = learned_temperature.to(dtype)
    logsumexp: Tensor = _RingLogsumexp.apply(  # type: ignore[no-untyped-call]
        anchors, candidates, self_index, number, learned_temperature, group
    )
    scale = number if learned_temperature is None else learned_temperature
    return logsumexp + pair_terms(
        anchors.to(dtype), positives.to(dtype), hard_negatives.to(dtype), scale, margin_floor, form
    )


def ring_contrastive_loss_reference(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [m, d]
    self_index: Tensor,  # [n]
    temperature: float | Tensor = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
    normalise: bool = False,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Compute `ring_contrastive_loss` over gathered candidates in plain torch; m must be the same on all ranks."""
    if dist.is_initialized():
        from torch.distributed.nn.functional import all_gather

        candidates = torch.cat(list(all_gather(candidates, group=group)))  # type: ignore[no-untyped-call]
    return contrastive_loss_reference(
        anchors, positives, hard_negatives, candidates, self_index, temperature, margin_floor, form, normalise
    )


class _Ring:
    """The places of the ranks' candidates, and transfers from each rank to the next one."""

    def __init__(self, rows: int, device: torch.device, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.ranks)]
        dist.all_gather(counts, torch.tensor([rows], device=device), group=group)
        self.counts = [int(count) for count in counts]

    def owner(self, step: int) -> int:
        """Return whose candidates are here after `step` transfers."""
        return (self.rank - step) % self.ranks

    def index_within(self, self_index: Tensor, owner: int) -> Tensor:
        """Return the indices counted from the owner's first candidate; -1 for those of other owners."""
        local = self_index - sum(self.counts[:owner])
        return torch.where((self_index >= 0) & (local >= 0) & (local < self.counts[owner]), local, -1)

    def start_transfer(self, rows: Tensor, owner: int) -> tuple[Tensor, list[dist.Work]]:
        """Send rows, which are the owner's, to the next rank; return those that will arrive, and what to wait for."""
        arriving = rows.new_empty(self.counts[(owner - 1) % self.ranks], rows.shape[1])
        if self.ranks == 1:
            arriving.copy_(rows)
            return arriving, []
        next_rank, rank_before = ((self.rank + shift) % self.ranks for shift in (1, -1))
        return arriving, dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, rows.contiguous(), group=self.group, group_peer=next_rank),
                dist.P2POp(dist.irecv, arriving, group=self.group, group_peer=rank_before),
            ]
        )

    def transfer(self, rows: Tensor, owner: int) -> Tensor:
        """Send rows to the next rank and return those that arrived."""
        arriving, works = self.start_transfer(rows, owner)
        for work in works:
            work.wait()
        return arriving


class _RingLogsumexp(torch.autograd.Function):
    """logsumexp over the candidates of all ranks but the anchor itself."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        self_index: Tensor,
        temperature: float,
        learned_temperature: Tensor | None,
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        ring = _Ring(candidates.shape[0], candidates.device, group)
        settings = temperature, 1.0, "logsumexp", learned_temperature
        block = candidates
        # In float64: a rounded logsumexp of every block would add up.
        total = torch.full((anchors.shape[0],), float("-inf"), dtype=torch.float64, device=anchors.device)
        for step in range(ring.ranks):
            owner = ring.owner(step)
            is_last = step + 1 == ring.ranks
            arriving, works = (block, []) if is_last else ring.start_transfer(block, owner)
            if ring.counts[owner] > 0:
                index = ring.index_within(self_index, owner)
                total = torch.logaddexp(total, _forward(anchors, anchors, anchors, block, index, *settings)[1].double())
            for work in works:
                work.wait()
            block = arriving
        logsumexp = total.to(accumulated_dtype(anchors))
        ctx.ring, ctx.temperature = ring, temperature
        ctx.save_for_backward(anchors, candidates, self_index, learned_temperature, logsumexp)
        return logsumexp

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, self_index, learned_temperature, logsumexp = ctx.saved_tensors
        ring: _Ring = ctx.ring
        settings = ctx.temperature, 1.0, "logsumexp", learned_temperature
        dtype = accumulated_dtype(anchors)
        anchors_grad = torch.zeros_like(anchors, dtype=dtype)
        # The sum for a block travels with it: each rank adds its part, and the last transfer brings it to its owner.
        block, block_grad = candidates, torch.zeros_like(candidates, dtype=dtype)
        for step in range(ring.ranks):
            owner = ring.owner(step)
            is_last = step + 1 == ring.ranks
            arriving, works = (block, []) if is_last else ring.start_transfer(block, owner)
            if ring.counts[owner] > 0:
                index = ring.index_within(self_index, owner)
                parts = _backward(grad.contiguous(), anchors, anchors, anchors, block, index, logsumexp, *settings)
                anchors_grad += parts[0]
                block_grad += parts[3]
            for work in works:
                work.wait()
            block, block_grad = arriving, ring.transfer(block_grad, owner)
        temperature_grad = None
        if ctx.needs_input_grad[4]:
            temperature_grad = gradient_of_temperature(anchors.to(dtype), anchors_grad, learned_temperature)
        return anchors_grad.to(anchors.dtype), block_grad.to(candidates.dtype), None, None, temperature_grad, None
