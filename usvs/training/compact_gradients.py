"""Gradients side by side in a few large blocks of memory.

The backward pass frees activations and allocates gradients, which stay. Each on its own would take a place between
activations that are freed later, so that free memory lies in pieces and the process grows while it needs less and less.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BLOCK_BYTES = 96 << 20


class CompactGradients:
    """Moves each gradient of a backward pass to its place in a block, which is allocated for the first of them.

    Args:
        parameters: those that are trained, in the order of the forward pass.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._blocks: list[_Block] = []
        self._places: dict[int, tuple[_Block, int]] = {}
        for parameter in list(parameters)[::-1]:  # the backward pass reaches the last layers first
            if not self._blocks or not self._blocks[-1].takes(parameter):
                self._blocks.append(_Block(parameter))
            self._places[id(parameter)] = (self._blocks[-1], self._blocks[-1].add(parameter))
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._move)  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Drop the blocks, after the parameters' `grad` was set to None."""
        for block in self._blocks:
            block.values = None

    @torch.no_grad()
    def _move(self, parameter: Tensor) -> None:
        block, offset = self._places[id(parameter)]
        grad = parameter.grad
        if grad is None or block.holds(grad):
            return
        place = block.allocated().as_strided(parameter.shape, parameter.stride(), offset)
        parameter.grad = place.copy_(grad)


class _Block:
    def __init__(self, like: Tensor) -> None:
        self.values: Tensor | None = None
        self._elements, self._dtype, self._device = 0, like.dtype, like.device

    def takes(self, parameter: Tensor) -> bool:
        """Return whether a gradient may be added."""
        is_small = self._elements * self._dtype.itemsize < BLOCK_BYTES
        return is_small and (parameter.dtype, parameter.device) == (self._dtype, self._device)

    def add(self, parameter: Tensor) -> int:
        """Add a gradient; return where it begins."""
        offset = self._elements
        self._elements += -(-parameter.numel() // 16) * 16  # 64 bytes of float32
        return offset

    def allocated(self) -> Tensor:
        """Return the block, allocated now if there is none."""
        if self.values is None:
            self.values = torch.empty(self._elements, dtype=self._dtype, device=self._device)
        return self.values

    def holds(self, grad: Tensor) -> bool:
        """Return whether a gradient is in the block already."""
        values = self.values
        return values is not None and values.untyped_storage()._cdata == grad.untyped_storage()._cdata
