"""Several processes, one batch: who there is, and the few ways in which they meet.

Started by ``torchrun``; gloo between CPUs, NCCL between GPUs. Every rank holds some clips of each batch and computes
its share of the losses; shares and gradients are summed over ranks, so that the result is the single process's.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from usvs.errors import ConfigError, UsvsError
from usvs.utils.progress import console

TIMEOUT = timedelta(minutes=30)  # the first rank validates and writes while the others wait


class OtherRankError(UsvsError):
    """Another rank stopped the run and says why."""

    def __init__(self, exit_code: int, message: str = "stopped with another rank, which says why") -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        number: of this one, from 0; 0 alone writes to the run folder.
        count: how many there are.
        statistics: the group that batch norm and losses meet in; gradients go through the default one, so that the
            two may overtake each other.
    """

    number: int = 0
    count: int = 1
    statistics: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.number == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over ranks, in a new tensor; no gradient."""
        result = tensor.detach().clone(memory_format=torch.contiguous_format)
        if self.count > 1:
            dist.all_reduce(result, group=self.statistics)
        return result

    def start_alike(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the first one's numbers."""
        if self.count == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                plain = tensor.contiguous()  # channels-last memory is not sent as it is
                dist.broadcast(plain, 0, group=self.statistics)
                tensor.copy_(plain)

    def gather_counts(self, own: Sequence[int]) -> Tensor:
        """Return every rank's numbers [ranks, k] on the host, which a device does not wait for."""
        counts = torch.zeros(self.count, len(own), dtype=torch.int64)
        counts[self.number] = torch.tensor(own, dtype=torch.int64)
        return self.total(counts)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        return bool(self.gather_counts((int(flag),)).any()) if self.count > 1 else flag

    def on_first(self, act: Callable[[], None]) -> None:
        """Have the first rank do something; where it fails, every rank stops with its exit code.

        Raises:
            UsvsError: what `act` raised, on the first rank; an `OtherRankError` on the others.
        """
        failed: UsvsError | None = None
        if self.first:
            try:
                act()
            except UsvsError as error:
                failed = error
        code = 0 if failed is None else failed.exit_code
        code = int(self.gather_counts((code,)).max()) if self.count > 1 else code
        if failed is not None:
            raise failed
        if code:
            raise OtherRankError(code)


ALONE = Ranks()


def rank_of_environment() -> int:
    """Return this process's number as ``torchrun`` set it, 0 outside of it."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Meet the other processes that ``torchrun`` started; outside of it there is one rank, and nothing is done.

    Only rank 0 reports progress. A process group that stands already is used and left standing.

    Args:
        device: the setting ``run.device``.

    Raises:
        ConfigError: where the others cannot be reached.
        OtherRankError: for what the block raised because another rank went away.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized():
        yield ALONE
        return
    ours = not dist.is_initialized()
    if ours:
        _begin(on_gpu=device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()))
    quiet = console.quiet
    console.quiet = dist.get_rank() != 0
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group())
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise OtherRankError(1, f"rank {dist.get_rank()}: lost the other ranks, one of which says why") from error
        raise
    finally:
        console.quiet = quiet
        if ours:
            dist.destroy_process_group()


def _begin(on_gpu: bool) -> None:
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"cannot meet the other processes ({first}); start them by torchrun") from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, first: int, count: int, ranks: Ranks) -> Tensor:
        ctx.place, ctx.ranks = slice(first, first + own.size(0)), ranks
        rows = own.new_zeros(count, *own.shape[1:])
        rows[ctx.place] = own
        dist.all_reduce(rows, group=ranks.statistics)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.ranks.total(grad)[ctx.place], None, None, None


def gather_rows(own: Tensor, first: int, count: int, ranks: Ranks) -> Tensor:
    """Return the rows of all ranks, in their order; whatever a rank makes of them flows back to whose they are.

    Ranks may hold different numbers of rows, or none.

    Args:
        own: [n, ...] this rank's.
        first: how many rows the ranks before it hold.
        count: how many all hold.
        ranks: who takes part.
    """
    if ranks.count == 1:
        return own
    gathered: Tensor = _Gather.apply(own, first, count, ranks)  # type: ignore[no-untyped-call]
    return gathered
