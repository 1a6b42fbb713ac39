"""Two branches of a network, which meet in their outputs only, computed by two threads with the bits of one.

A small network on a CPU is bound by hundreds of operations of some microseconds. Dividing each over threads costs more
than it saves; two branches that need nothing of each other divide well. Every operation is then computed by one
thread, so the result does not depend on the number of cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from usvs.training.compilation import CompiledModule
from usvs.training.micro_batches import backward_micro_batch

METHODS = ("first_branch", "second_branch", "join_branches")


class BranchedModule(Protocol):
    """A module whose ``forward(*batch)`` equals ``join_branches(first_branch(*batch), second_branch(*batch), *batch)``.

    Only the first branch may draw random numbers, and no parameter or buffer is used by both.
    """

    def first_branch(self, *batch: Tensor) -> Any:
        """Return a NamedTuple of tensors."""

    def second_branch(self, *batch: Tensor) -> Any:
        """Return a NamedTuple of tensors."""

    def join_branches(self, first: Any, second: Any, *batch: Tensor) -> Any:
        """Return the losses of both branches' outputs, a NamedTuple of scalars with a field ``total``."""


def has_branches(module: nn.Module) -> bool:
    """Return whether a module has two branches that may be computed at the same time."""
    return all(hasattr(module, name) for name in METHODS) and getattr(module, "branches_are_separate", True)


class BranchThreads:
    """Computes a batch's losses and gradients, the second branch on a thread of its own.

    Args:
        compiled: of a `BranchedModule`, with its methods.
    """

    def __init__(self, compiled: CompiledModule) -> None:
        self._compiled = compiled
        # One thread for the whole run: what it allocates it also frees, in an arena of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usvs-branch")

    def gradients(self, inputs: Sequence[Tensor], autocast: bool) -> Any:
        """Run forward and backward; return the losses and add to the parameters' `grad`.

        Args:
            inputs: the batch.
            autocast: compute in bfloat16 where autocast does.
        """
        outputs = self._run_both(
            partial(self._forward, "first_branch", inputs, autocast),
            partial(self._forward, "second_branch", inputs, autocast),
        )
        # Cut where the branches meet: the part behind it is small, and each branch is back-propagated by its thread.
        cut = [_leaves(each) for each in outputs]
        result = self._forward("join_branches", (*cut, *inputs), autocast)
        if not result.total.requires_grad:  # the batch has nothing to learn from
            return result
        result.total.backward()
        gradients = [[leaf.grad for leaf in leaves] for leaves in cut]
        self._run_both(*(partial(backward_micro_batch, *pair) for pair in zip(outputs, gradients, strict=True)))
        return result

    def _run_both(self, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
        """Run the first here and the second on the other thread; both have ended when this returns or raises."""
        other = self._thread.submit(second)
        try:
            result = first()
        finally:
            wait([other])
        return result, other.result()

    def _forward(self, method: str, inputs: Sequence[Any], autocast: bool) -> Any:
        with torch.autocast("cpu", torch.bfloat16, autocast):  # the setting of a thread
            return self._compiled.run(method, *inputs)


def _leaves(outputs: Any) -> Any:
    """Return the same values without their history; each floating-point field requires a gradient."""
    return type(outputs)(*(field.detach().requires_grad_(field.requires_grad) for field in outputs))
