"""A batch in several pieces, on several ranks or one after the other, with the loss of the global batch.

Micro-batches follow GradCache (Gao et al., RepL4NLP 2021): every micro-batch is run without gradients and only its
small outputs are kept; the loss of all outputs gives the gradient of each; every micro-batch is run again and
back-propagates its gradient. A contrastive term then sees the global batch, at the price of a second forward pass.
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
    """Which rows of a global batch a process holds."""

    rows: Tensor  # [b] int64
    batch_size: int  # rows of the global batch


class TrainableModule(Protocol):
    """What the engine needs of an `nn.Module`.

    ``forward`` is all that one process needs. The other three methods are needed for several processes and for
    micro-batches: ``forward(*batch)`` must equal ``loss(outputs(*batch), None)``. Where they exist, ``outputs`` is what
    is compiled.
    """

    def forward(self, *batch: Tensor) -> Any:
        """Return the losses of a batch: a NamedTuple of scalars with a field ``total``."""

    def outputs(self, *batch: Tensor) -> Any:
        """Run the networks; returns a NamedTuple of tensors whose rows are what the loss is computed from."""

    def loss(self, outputs: Any, global_batch: Any) -> Any:
        """Return a NamedTuple of scalars; for a part of a batch, its terms of the global batch's sum.

        Args:
            outputs: of the rows that this process holds.
            global_batch: what `global_batch` returned; None where `outputs` has all rows.
        """

    def global_batch(self, outputs: Any, ranks: Ranks) -> Any:
        """Communicate with the other ranks and return what `loss` needs to know of their rows."""


def micro_batch_slices(rows: int, most: int | None) -> list[slice]:
    """Split `rows` into the fewest slices of at most `most` rows; their sizes differ by at most one."""
    count = 1 if most is None or rows == 0 else -(-rows // most)
    edges = [round(part * rows / count) for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


@cache
def complete_shard(batch_size: int) -> BatchShard:
    """Return the shard of a process that holds every row of the batch."""
    return BatchShard(torch.arange(batch_size), batch_size)


class DropoutShards:
    """Sets, on every `BatchDropout` of a module, scripted or not, which rows of the global batch it gets."""

    def __init__(self, module: Any) -> None:
        self._dropouts = [child for child in module.modules() if hasattr(child, "global_clips")]
        self._current: BatchShard | None = None

    def assign(self, shard: BatchShard) -> None:
        """Set the shard of the next forward pass."""
        if shard is self._current:
            return
        for child in self._dropouts:
            child.global_clips, child.clips = shard.batch_size, shard.rows.to(child.clips.device)
        self._current = shard


def concatenate_outputs(parts: Sequence[Any]) -> Any:
    """Concatenate the outputs of micro-batches; each floating-point field becomes a leaf that requires a gradient."""
    fields = [torch.cat(field) for field in zip(*parts, strict=True)]
    return type(parts[0])(*(field.requires_grad_(field.is_floating_point()) for field in fields))


def split_gradients(outputs: Any, parts: Sequence[Any]) -> list[list[Tensor | None]]:
    """Split the gradients of concatenated outputs into those of each micro-batch's outputs."""
    pieces = [
        [None] * len(parts) if field.grad is None else list(field.grad.split([len(part[i]) for part in parts]))
        for i, field in enumerate(outputs)
    ]
    return [list(of_part) for of_part in zip(*pieces, strict=True)]


def backward_micro_batch(outputs: Any, gradients: Sequence[Tensor | None]) -> None:
    """Back-propagate, from one micro-batch's outputs, the gradients that the loss of the global batch gave them."""
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and output.requires_grad
    ]
    if pairs:
        torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])


class BufferSnapshot:
    """Can restore a module's buffers, such as running statistics, to what they were at `save`."""

    def __init__(self, module: nn.Module) -> None:
        saved = module.state_dict().keys()
        # `.data`: a restored running statistic must not count as modified for a backward pass that reads it.
        self._live = [buffer.data for name, buffer in module.named_buffers() if name in saved]
        self._saved = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def save(self) -> None:
        """Copy the current values."""
        if self._live:
            torch._foreach_copy_(self._saved, self._live)

    @torch.no_grad()
    def restore(self) -> None:
        """Write the saved values back."""
        if self._live:
            torch._foreach_copy_(self._live, self._saved)


@contextmanager
def preserve_buffers(module: nn.Module) -> Iterator[None]:
    """Restore a module's buffers after the block."""
    snapshot = BufferSnapshot(module)
    try:
        yield
    finally:
        snapshot.restore()
