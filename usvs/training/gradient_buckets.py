"""Gradients summed over ranks, bucket by bucket, while the backward pass is still running.

Like torch's DistributedDataParallel, for losses whose terms are summed over ranks. DistributedDataParallel averages,
and expects every output of forward to reach the loss, which it does not where a term has weight 0.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from usvs.training.distributed import Ranks

BUCKET_BYTES = 25 << 20  # DistributedDataParallel's


class GradientSum:
    """Sums the gradients of some parameters over ranks; every rank must run the same graph.

    Args:
        parameters: those that are trained; the same on all ranks.
        ranks: the processes of the run.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self.ranks = ranks
        self._active = False
        # Last layers first: the backward pass reaches them first.
        self._buckets = [_Bucket(some) for some in _split(list(parameters)[::-1])] if ranks.count > 1 else []
        self._launched = 0
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._on_gradient)  # type: ignore[no-untyped-call]
        self._bucket_of = {id(parameter): bucket for bucket in self._buckets for parameter in bucket.parameters}

    def start(self) -> None:
        """Start summing: the next backward pass is the last one before `finish`."""
        self._launched = 0
        self._active = True
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def finish(self) -> None:
        """Wait until every parameter's `grad` is the sum over ranks."""
        self._active = False
        while self._launched < len(self._buckets):
            self._launch()
        for bucket in self._buckets:
            bucket.copy_back()

    def _on_gradient(self, parameter: Tensor) -> None:
        if not self._active:
            return
        self._bucket_of[id(parameter)].missing -= 1
        # Launched in one order on every rank, whatever the order in which gradients arrive.
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
        self._gradients: list[tuple[Tensor, Tensor]] = []  # view, gradient

    @torch.no_grad()
    def launch(self) -> None:
        self._gradients = [
            (view, p.grad) for view, p in zip(self._views, self.parameters, strict=True) if p.grad is not None
        ]
        for view, grad in self._gradients:
            view.copy_(grad)
        self._work = dist.all_reduce(self._flat, async_op=True)

    @torch.no_grad()
    def copy_back(self) -> None:
        self._work.wait()
        for view, grad in self._gradients:
            grad.copy_(view)


def _split(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    buckets: list[list[nn.Parameter]] = []
    size = BUCKET_BYTES
    for parameter in parameters:
        same_dtype = bool(buckets) and buckets[-1][0].dtype == parameter.dtype
        if size >= BUCKET_BYTES or not same_dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel() * parameter.element_size()
    return buckets
