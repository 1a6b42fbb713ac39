"""One trainer for every task: forward, check, backward, clip, check, update."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from usvs.errors import DataError, MissingDependencyError
from usvs.training.batch_compute import BatchCompute
from usvs.training.distributed import ALONE, Ranks
from usvs.training.host_memory import keep_freed_memory
from usvs.training.micro_batches import BatchShard
from usvs.training.optimiser import learning_rate, load_optimiser_tensors, make_optimiser, optimiser_tensors
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.utils.permutation import derive_key

logger = logging.getLogger(__name__)


class NonFiniteError(DataError):
    """A loss or a gradient is not a number; the parameters are still those of the step before."""


class TrainerState(NamedTuple):
    """What a run needs to go on: tensors under names, and one integer."""

    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    step: int


class Trainer:
    """Trains any task module whose forward takes tensors and returns a NamedTuple of scalars with a field `total`.

    The random numbers of a step (dropout) come from the seed and the step's number alone, so the state to save is the
    parameters, the optimiser's tensors and one integer. The bits depend on the number of threads, as torch's do.

    A `ShardedTask` may be trained by several ranks, each with its part of every batch, and in micro-batches.

    Args:
        module: the task; moved to the device and to channels-last memory here.
        optimiser: optimiser, schedule, clipping and batch-norm policy.
        run: seed, device, precision, compiler, micro-batches and activation checkpointing.
        total_steps: updates of the whole run, for the schedule.
        steps_per_epoch: updates an epoch, for the schedule.
        ranks: who takes part; all make the same module, and begin with the first one's numbers.
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
        self.device = choose_device(run.device)
        self.module = module.to(self.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ranks.start_alike(self.module.state_dict().values())
        self.compute = BatchCompute(self.module, self.device, optimiser, run, ranks)
        self.settings = optimiser
        self.run = run
        self.ranks = ranks
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.optimiser = make_optimiser(self.module, optimiser)
        self.step_number = 0
        _say_if_slow(self.device, run)
        if self.device.type == "cpu":
            keep_freed_memory()
            # What is promised bit-exact; CUDA's deterministic kernels cost speed.
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def step(self, *batch: Tensor, place: BatchShard | None = None) -> dict[str, float]:
        """Make one update and return the forward's fields, `learning_rate` and `gradient_norm`.

        Args:
            batch: the clips of this rank.
            place: which of the whole batch's clips they are; None: all of them.

        Raises:
            NonFiniteError: when the loss or the gradient is not finite; nothing has been updated then.
            MissingDependencyError: where memory runs out and there is no way to the same result with less.
        """
        rate = learning_rate(self.step_number, self.total_steps, self.steps_per_epoch, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = derive_key(self.run.seed, self.step_number) >> 1
        result = self.compute.gradients(batch, place, seed)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        # One transfer to the host a step: both checks are made on it, before anything is updated.
        values = to_floats(result, norm, self.ranks)
        self._refuse_non_finite(values)
        self.optimiser.step()
        self.step_number += 1
        return {**values, "learning_rate": rate}

    def evaluate(self, *batch: Tensor) -> dict[str, float]:
        """Return the forward's fields on a batch, in evaluation mode and without an update."""
        with self.evaluating():
            return to_floats(self.compute.forward(batch))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the module in evaluation mode, at the run's precision, without gradients."""
        self.compute.set_training(False)
        with torch.no_grad(), self.compute.precision():
            yield

    def state_dict(self) -> TrainerState:
        """Return the live tensors (not copies) and the number of updates made."""
        return TrainerState(self.module.state_dict(), optimiser_tensors(self.optimiser, self.module), self.step_number)

    def load_state_dict(self, state: TrainerState) -> None:
        """Go back to a saved state.

        Raises:
            DataError: when the state belongs to another model.
        """
        try:
            self.module.load_state_dict(state.model)
            load_optimiser_tensors(self.optimiser, self.module, state.optimiser)
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[-1].strip()
            raise DataError(f"the saved state does not fit this model: {first}") from error
        self.step_number = state.step

    def _refuse_non_finite(self, values: dict[str, float]) -> None:
        for name, what in (("total", "loss"), ("gradient_norm", "gradient norm")):
            if not math.isfinite(values[name]):
                self.compute.put_back_buffers()
                terms = ", ".join(key for key, value in values.items() if not math.isfinite(value))
                where = f"step {self.step_number}: the {what} is {values[name]}"
                raise NonFiniteError(f"{where}, so nothing was updated (not finite: {terms})")


def choose_device(name: str) -> torch.device:
    """Return the device a setting names; ``auto`` is a GPU where there is one.

    Raises:
        MissingDependencyError: when it is not there.
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
        raise MissingDependencyError(f"setting 'run.device': no device '{name}' here ({first})") from None
    return device


def _say_if_slow(device: torch.device, run: RunSettings) -> None:
    half_on_cpu = run.precision == "bfloat16" and device.type == "cpu"
    if half_on_cpu and torch._C._has_mkldnn and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.info("this processor has no bfloat16 instructions: run.precision=bfloat16 is some ten times slower here")


def to_floats(result: Any, norm: Tensor | None = None, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return the fields of a NamedTuple of scalars, summed over ranks, and a gradient's norm, in one transfer."""
    fields = torch.stack([getattr(result, name).detach().float() for name in result._fields])
    names, values = list(result._fields), ranks.total(fields) if ranks.count > 1 else fields
    if norm is not None:
        names.append("gradient_norm")
        values = torch.cat((values, norm.detach().float().view(1)))
    return dict(zip(names, values.tolist(), strict=True))
