"""How many threads compute a step on a CPU, and on what.

Dividing an operation of some microseconds over threads costs more than it saves: the quick network is slower on two
threads than on one. So a small network has one thread for each of its independent branches, a large one all threads
for each operation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from usvs.training.settings import RunSettings

SMALL_PARAMETERS = 5_000_000  # quick: 1.2 million with two streams; SE-ResNeXt-50: 25 million


class ThreadPlan(NamedTuple):
    """How a step's threads are used.

    Attributes:
        of_operation: threads that share one operation; torch's number where it is not changed.
        of_branches: threads that compute branches of the network at the same time, 1 or 2.
    """

    of_operation: int
    of_branches: int


def is_small(module: nn.Module) -> bool:
    """Return whether a step of a network is bound by its number of operations and not by arithmetic."""
    return sum(parameter.numel() for parameter in module.parameters()) <= SMALL_PARAMETERS


def plan_threads(module: nn.Module, device: torch.device, run: RunSettings) -> ThreadPlan:
    """Return how the threads of `run` are used to train a module.

    Args:
        module: the network.
        device: that it is trained on.
        run: `threads` may be used; none: as many as torch would use.
    """
    available = run.threads or torch.get_num_threads()
    if device.type != "cpu" or not is_small(module):
        return ThreadPlan(available, 1)
    return ThreadPlan(1, 2 if available > 1 else 1)


@contextmanager
def compute_threads(plan: ThreadPlan) -> Iterator[None]:
    """Let torch divide an operation as planned while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(plan.of_operation)
    try:
        yield
    finally:
        torch.set_num_threads(before)
