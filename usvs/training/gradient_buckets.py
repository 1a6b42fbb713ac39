"""Gradients added up over ranks, bucket by bucket, while backward is still running.

What torch's DistributedDataParallel does, for losses that are shares of a sum: it takes means, and it counts on every
output of forward to reach the loss, which a term of weight 0 does not.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from usvs.training.distributed import Ranks

BUCKET_BYTES = 25 << 20  # DistributedDataParallel's


class GradientSum:
    """Adds up the gradients of some parameters; every rank runs the same graph, so that all have the same ones.

    Args:
        parameters: those trained; equal on all ranks.
        ranks: who takes part.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self.ranks = ranks
        self._listening = False
        # Last layers first: backward reaches them first.
        self._buckets = [_Bucket(some) for some in _split(list(parameters)[::-1])] if ranks.count > 1 else []
        self._launched = 0
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]
        self._bucket_of = {id(parameter): bucket for bucket in self._buckets for parameter in bucket.parameters}

    def listen(self) -> None:
        """Begin: the backward that comes next is the last one before `finish`."""
        self._launched = 0
        self._listening = True
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def finish(self) -> None:
        """Wait until every parameter's `grad` is the sum over ranks."""
        self._listening = False
        while self._launched < len(self._buckets):
            self._launch()
        for bucket in self._buckets:
            bucket.take()

    def _arrived(self, parameter: Tensor) -> None:
        if not self._listening:
            return
        self._bucket_of[id(parameter)].missing -= 1
        # In one order on every rank, whatever order gradients arrive in.
        while self._launched < len(self._buckets) and self._buckets[self._launched].missing == 0:
            self._launch()

    def _launch(self) -> None:
        self._buckets[self._launched].launch()
        self._launched += 1


class _Bucket:
    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.missing = 0
        self._flat = parameters[0].new_zeros(sum(p.numel() for p in parameters), requires_grad=False)
        pieces = torch.split(self._flat, [p.numel() for p in parameters])
        self._views = [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
        self._work: Any = None
        self._there: list[tuple[Tensor, Tensor]] = []  # view, gradient

    @torch.no_grad()
    def launch(self) -> None:
        self._there = [
            (view, p.grad) for view, p in zip(self._views, self.parameters, strict=True) if p.grad is not None
        ]
        for view, grad in self._there:
            view.copy_(grad)
        self._work = dist.all_reduce(self._flat, async_op=True)

    @torch.no_grad()
    def take(self) -> None:
        self._work.wait()
        for view, grad in self._there:
            grad.copy_(view)


def _split(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    buckets: list[list[nn.Parameter]] = []
    size = BUCKET_BYTES
    for parameter in parameters:
        alike = bool(buckets) and buckets[-1][0].dtype == parameter.dtype
        if size >= BUCKET_BYTES or not alike:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel() * parameter.element_size()
    return buckets
