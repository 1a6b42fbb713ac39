"""How many threads compute a step on a CPU, and on what.

Dividing an operation of some microseconds over threads costs more than it saves: the quick network is slower on two
threads than on one. So a small network has one thread for each of its independent branches, a large one all threads
for each operation. A network is small by its parameters and by the arithmetic of an image: SonoNet has few parameters
and convolves at the full resolution.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from usvs.models.encoder import Encoder
from usvs.training.meta_copy import meta_copy
from usvs.training.settings import RunSettings

SMALL_PARAMETERS = 5_000_000  # quick: 1.2 million with two streams; SE-ResNeXt-50: 25 million
SMALL_IMAGE_FLOP = 200_000_000  # of an encoder and an image; quick: 5 million, 65 at 224 x 224; SonoNet-16: 2,500

logger: logging.Logger = logging.getLogger(__name__)


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
    if sum(parameter.numel() for parameter in module.parameters()) > SMALL_PARAMETERS:
        return False
    return all(_image_flop(each) <= SMALL_IMAGE_FLOP for each in module.modules() if isinstance(each, Encoder))


def _image_flop(encoder: Encoder) -> int:
    """Return the operations of an encoder's forward pass over one image; 0 where the meta device cannot say."""
    shape = encoder.pretrained_cfg["input_size"]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            meta_copy(encoder).eval()(torch.empty(1, *shape, device="meta"))
    except Exception as error:  # an own module may do what the meta device cannot
        logger.debug(f"the operations of {type(encoder).__name__} cannot be counted: {error}")
        return 0
    return int(counter.get_total_flops())


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
