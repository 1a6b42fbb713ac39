"""The trainer of every task: forward, backward, clipping, check for finite values, update."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from usvs.errors import DataError, ResourceError
from usvs.training.batch_compute import BatchCompute
from usvs.training.distributed import ALONE, Ranks
from usvs.training.micro_batches import BatchShard
from usvs.training.optimiser import learning_rate, load_optimiser_tensors, make_optimiser, optimiser_tensors
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.utils.permutation import derive_key

logger: logging.Logger = logging.getLogger(__name__)


class NonFiniteError(DataError):
    """A loss or a gradient is not finite; the parameters are unchanged."""


class TrainerState(NamedTuple):
    """What a run needs to resume: named tensors and one integer."""

    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    step: int


class Trainer:
    """Trains any `nn.Module` whose forward takes tensors and returns a NamedTuple of scalars with a field `total`.

    The random numbers of a step (dropout) depend on the seed and the step's number only, so the state to save is the
    parameters, the optimiser's tensors and one integer. Exact bits depend on the number of threads, as torch's do, and
    on the settings that `usvs.training.process.process_settings` makes; a trainer itself changes nothing of the
    process.

    A module with all methods of `TrainableModule` may be trained by several ranks, each with some rows of every batch,
    and in micro-batches.

    Args:
        module: moved to the device and to channels-last memory here.
        optimiser: optimiser, schedule, clipping and batch-norm policy.
        run: seed, device, precision, compiler, micro-batches and activation checkpointing.
        total_steps: updates of the complete run, for the schedule.
        steps_per_epoch: updates an epoch, for the schedule.
        ranks: the processes of the run; all construct the same module and start with the values of rank 0.

    Raises:
        ResourceError: where the device is not available.
        ConfigError: where the settings need micro-batches or several processes and the module supports neither.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: OptimiserSettings,
        run: RunSettings,
        total_steps: int,
        steps_per_epoch: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.device: torch.device = choose_device(run.device)
        self.module: nn.Module = module.to(self.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ranks.broadcast(self.module.state_dict().values())
        self.compute: BatchCompute = BatchCompute(self.module, self.device, optimiser, run, ranks)
        self.settings = optimiser
        self.run = run
        self.ranks = ranks
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.optimiser: torch.optim.Optimizer = make_optimiser(self.module, optimiser)
        self.step_number: int = 0
        _warn_if_slow(self.device, run)

    def step(self, *batch: Tensor, shard: BatchShard | None = None) -> dict[str, float]:
        """Make one update.

        Args:
            batch: the inputs of the module's forward; with several ranks, this rank's rows of them.
            shard: which rows of the global batch they are; None: all of them.

        Returns:
            The fields of forward's result, `gradient_norm` before clipping, and `learning_rate`.

        Raises:
            NonFiniteError: when the loss or the gradient is not finite; nothing is updated then.
            ResourceError: where memory runs out and the same result needs as much.
        """
        rate = learning_rate(self.step_number, self.total_steps, self.steps_per_epoch, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = derive_key(self.run.seed, self.step_number) >> 1
        result = self.compute.gradients(batch, shard, seed)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        # The only transfer to the host in a step; both values are checked before anything is updated.
        values = to_floats(result, norm, self.ranks)
        self._check_finite(values)
        self.optimiser.step()
        self.step_number += 1
        return {**values, "learning_rate": rate}

    def evaluate(self, *batch: Tensor) -> dict[str, float]:
        """Return the fields of forward's result for a batch, in evaluation mode and without an update."""
        with self.evaluating():
            return to_floats(self.compute.forward(batch))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the module in evaluation mode, at the run's precision, without gradients."""
        self.compute.set_training(False)
        with torch.no_grad(), self.compute.precision():
            yield

    def state_dict(self) -> TrainerState:
        """Return the live tensors (not copies) and the number of updates made."""
        return TrainerState(self.module.state_dict(), optimiser_tensors(self.optimiser, self.module), self.step_number)

    def load_state_dict(self, state: TrainerState) -> None:
        """Load a saved state.

        Raises:
            DataError: when the state is of another model.
        """
        try:
            self.module.load_state_dict(state.model)
            load_optimiser_tensors(self.optimiser, self.module, state.optimiser)
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[-1].strip()
            raise DataError(f"the saved state does not fit this model: {first}") from error
        self.step_number = state.step

    def _check_finite(self, values: dict[str, float]) -> None:
        for name, what in (("total", "loss"), ("gradient_norm", "gradient norm")):
            if not math.isfinite(values[name]):
                self.compute.restore_buffers()
                terms = ", ".join(key for key, value in values.items() if not math.isfinite(value))
                where = f"step {self.step_number}: the {what} is {values[name]}"
                raise NonFiniteError(f"{where}, so nothing was updated (not finite: {terms})")


def choose_device(name: str) -> torch.device:
    """Return the device that the setting ``run.device`` names; ``auto`` is a GPU where there is one.

    Raises:
        ResourceError: when it is not available.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # each rank its own
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ResourceError(f"setting 'run.device': no device '{name}' on this machine ({first})") from None
    return device


def _warn_if_slow(device: torch.device, run: RunSettings) -> None:
    half_on_cpu = run.precision == "bfloat16" and device.type == "cpu"
    if half_on_cpu and torch._C._has_mkldnn and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning(
            "this processor has no bfloat16 instructions: run.precision=bfloat16 is about ten times slower than float32"
        )


def to_floats(result: Any, norm: Tensor | None = None, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return the fields of a NamedTuple of scalars, summed over ranks, and a gradient's norm, in one transfer."""
    fields = torch.stack([getattr(result, name).detach().float() for name in result._fields])
    names, values = list(result._fields), ranks.total(fields) if ranks.count > 1 else fields
    if norm is not None:
        names.append("gradient_norm")
        values = torch.cat((values, norm.detach().float().view(1)))
    return dict(zip(names, values.tolist(), strict=True))
