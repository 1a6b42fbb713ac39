"""torch's random generators, seeded for a block and restored after it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed the generators of the CPU and of `device`; both have their earlier state again after the block.

    Args:
        seed: 0 .. 2^63 - 1.
        device: whose generator is seeded beside the CPU's.
    """
    numbers = []
    if device.type == "cuda":
        numbers = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=numbers):
        torch.default_generator.manual_seed(seed)
        for number in numbers:
            torch.cuda.default_generators[number].manual_seed(seed)
        yield
