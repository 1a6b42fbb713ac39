"""Several processes that share a batch, and their few collective operations.

Started by ``torchrun``; gloo between CPUs, NCCL between GPUs. Every rank holds some rows of each batch and computes
its terms of the losses; terms and gradients are summed over ranks, so that the result equals the single process's.
"""

import json
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

TIMEOUT = timedelta(minutes=30)  # rank 0 validates and writes while the others wait


class OtherRankError(UsvsError):
    """Another rank failed; its own error message has the reason."""

    def __init__(self, exit_code: int, message: str = "stopped because another rank failed; see its log") -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        number: of this process, from 0; only rank 0 writes to the run folder.
        count: of processes.
        statistics: the process group for batch norm and losses. Gradients use the default group, so that neither
            waits for the other.
    """

    number: int = 0
    count: int = 1
    statistics: Any = None

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.number == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over ranks, in a new tensor; no gradient."""
        result = tensor.detach().clone(memory_format=torch.contiguous_format)
        if self.count > 1:
            dist.all_reduce(result, group=self.statistics)
        return result

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of rank 0 to every rank, in place."""
        if self.count == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                plain = tensor.contiguous()  # broadcast does not support channels-last memory
                dist.broadcast(plain, 0, group=self.statistics)
                tensor.copy_(plain)

    def gather_counts(self, own: Sequence[int]) -> Tensor:
        """Return every rank's numbers [ranks, k] on the host, without synchronising with a device."""
        counts = torch.zeros(self.count, len(own), dtype=torch.int64)
        counts[self.number] = torch.tensor(own, dtype=torch.int64)
        return self.total(counts)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        return bool(self.gather_counts((int(flag),)).any()) if self.count > 1 else flag

    def on_first(self, act: Callable[[], None]) -> None:
        """Call `act` on rank 0; where it fails, every rank stops with its exit code.

        Raises:
            UsvsError: what `act` raised, on rank 0; an `OtherRankError` on the others.
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
    """Return this process's rank as ``torchrun`` set it; 0 without ``torchrun``."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group that ``torchrun`` started; without ``torchrun`` there is one rank, and nothing is done.

    Only rank 0 reports progress. A process group that exists already is used and not destroyed.

    Args:
        device: the setting ``run.device``.

    Raises:
        ConfigError: where the other processes cannot be reached.
        OtherRankError: where the block failed because the connection to another rank was lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized():
        yield ALONE
        return
    created = not dist.is_initialized()
    if created:
        _initialise(on_gpu=device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()))
    quiet = console.quiet
    console.quiet = dist.get_rank() != 0
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group())
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise OtherRankError(
                1, f"rank {dist.get_rank()}: lost connection to other ranks; see their logs"
            ) from error
        raise
    finally:
        console.quiet = quiet
        if created:
            dist.destroy_process_group()


def _initialise(on_gpu: bool) -> None:
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(backend, timeout=TIMEOUT, **_store_of_restart())
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"cannot connect to the other processes ({first}); start all of them by torchrun") from error


def _store_of_restart() -> dict[str, Any]:
    """Return the arguments by which restarted processes find each other and not those before.

    torchrun keeps one store for all restarts, with the addresses of processes that have ended; torch 2.13 reads them,
    and then cannot connect or waits for ever. Between machines the number of restarts may differ, so it cannot tell
    them apart there: `docs/processes.md` names the variable by which torchrun makes a store for each.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store, rank, count = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
    own = dist.PrefixStore(f"usvs.restart_{restarts}", store)  # type: ignore[attr-defined]
    return {"store": own, "rank": rank, "world_size": count}


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, first: int, count: int, ranks: Ranks) -> Tensor:
        ctx.rows_of_rank, ctx.ranks = slice(first, first + own.size(0)), ranks
        rows = own.new_zeros(count, *own.shape[1:])
        rows[ctx.rows_of_rank] = own
        dist.all_reduce(rows, group=ranks.statistics)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.ranks.total(grad)[ctx.rows_of_rank], None, None, None


def gather_rows(own: Tensor, first: int, count: int, ranks: Ranks) -> Tensor:
    """Return the rows of all ranks, in rank order; gradients flow back to the rank that holds the row.

    Ranks may hold different numbers of rows, or none.

    Args:
        own: [n, ...] this rank's rows.
        first: number of rows that the ranks before it hold.
        count: number of rows of all ranks.
        ranks: the processes of the run.

    Returns:
        [count, ...].
    """
    if ranks.count == 1:
        return own
    gathered: Tensor = _Gather.apply(own, first, count, ranks)  # type: ignore[no-untyped-call]
    return gathered


def share_json(value: dict[str, Any] | None, ranks: Ranks) -> dict[str, Any] | None:
    """Return the first rank's plain values on every rank."""
    if ranks.count == 1:
        return value
    text = b"" if value is None or not ranks.first else json.dumps(value).encode()
    length = int(ranks.gather_counts((len(text),)).max())
    if length == 0:
        return None
    content = torch.zeros(length, dtype=torch.int64)
    content[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else 0
    shared: dict[str, Any] = json.loads(bytes(ranks.total(content).tolist()))
    return shared
