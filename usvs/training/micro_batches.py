"""A batch in parts: some on other ranks, some one after the other, and the loss still over all of it.

Micro-batches follow GradCache (Gao et al., RepL4NLP 2021): every part is run without gradients and only its small
outputs are kept; the loss of all of them gives each output's gradient; every part is run again and takes its gradient
back. A contrastive term then sees the whole batch, at the price of a second forward.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from usvs.training.distributed import Ranks


class BatchShard(NamedTuple):
    """Which clips of a whole batch are here."""

    clips: Tensor  # [b] int64
    whole: int  # clips of the whole batch


class ShardedTask(Protocol):
    """A task whose batch may be computed in parts; ``outputs`` is what is compiled."""

    def outputs(self, *batch: Tensor) -> Any:
        """Run the networks; a NamedTuple of tensors with a row for each thing the loss is about."""

    def loss(self, said: Any, whole: Any) -> Any:
        """Return a NamedTuple of scalars: this part's shares of the whole batch's."""

    def global_batch(self, said: Any, ranks: Ranks) -> Any:
        """Meet the other ranks and return what `loss` must know of them."""


def slices(clips: int, most: int | None) -> list[slice]:
    """Cut `clips` into as few parts of equal size, give or take one, as there may be with `most` clips at once."""
    count = 1 if most is None or clips == 0 else -(-clips // most)
    edges = [round(part * clips / count) for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


@cache
def all_here(clips: int) -> BatchShard:
    """Return the place of a whole batch in itself."""
    return BatchShard(torch.arange(clips), clips)


class DropoutPlacer:
    """Tells every `BatchDropout` of a module, scripted or not, which clips of the batch it gets."""

    def __init__(self, module: Any) -> None:
        self._dropouts = [child for child in module.modules() if hasattr(child, "global_clips")]
        self._said: BatchShard | None = None

    def __call__(self, place: BatchShard) -> None:
        """Say it for the next forward."""
        if place is self._said:
            return
        for child in self._dropouts:
            child.global_clips, child.clips = place.whole, place.clips.to(child.clips.device)
        self._said = place


def joined(parts: Sequence[Any]) -> Any:
    """Put the outputs of parts together, each as a leaf that gathers a gradient where it can have one."""
    fields = [torch.cat(field) for field in zip(*parts, strict=True)]
    return type(parts[0])(*(field.requires_grad_(field.is_floating_point()) for field in fields))


def gradients_of(said: Any, parts: Sequence[Any]) -> list[list[Tensor | None]]:
    """Cut the gradients of joined outputs into those of each part's."""
    cut = [
        [None] * len(parts) if field.grad is None else list(field.grad.split([len(part[i]) for part in parts]))
        for i, field in enumerate(said)
    ]
    return [list(of_part) for of_part in zip(*cut, strict=True)]


def take_back(outputs: Any, gradients: Sequence[Tensor | None]) -> None:
    """Run backward from a part's outputs with the gradients that the whole batch's loss gave them."""
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and output.requires_grad
    ]
    if pairs:
        torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])


class BufferKeeper:
    """Can put a module's buffers, such as running statistics, back to what they were."""

    def __init__(self, module: nn.Module) -> None:
        saved = module.state_dict().keys()
        # Past autograd's eye: where backward reads a running statistic, this finds it as it was.
        self._live = [buffer.data for name, buffer in module.named_buffers() if name in saved]
        self._kept = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember how they are now."""
        if self._live:
            torch._foreach_copy_(self._kept, self._live)

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them as they were remembered."""
        if self._live:
            torch._foreach_copy_(self._live, self._kept)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Leave a module's buffers as they were, whatever the block does to them."""
    keeper = BufferKeeper(module)
    try:
        yield
    finally:
        keeper.put_back()
