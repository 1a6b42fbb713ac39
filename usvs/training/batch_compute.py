"""Losses and gradients of a batch: in one go, in micro-batches, over ranks, and with less memory where it runs out."""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError, MissingDependencyError
from usvs.training.activation_checkpointing import recompute_blocks
from usvs.training.batch_norm import apply_policy, freeze_statistics, has_batch_norm
from usvs.training.compilation import compile_module
from usvs.training.distributed import Ranks
from usvs.training.gradient_buckets import GradientSum
from usvs.training.micro_batches import (
    BatchShard,
    BufferKeeper,
    DropoutPlacer,
    ShardedTask,
    all_here,
    gradients_of,
    joined,
    slices,
    take_back,
)
from usvs.training.settings import OptimiserSettings, RunSettings

logger = logging.getLogger(__name__)


class BatchCompute:
    """Runs a task's forward and backward on this rank's part of a batch.

    Args:
        module: the task, on its device.
        device: where it is.
        optimiser: batch-norm policy.
        run: precision, compiler, micro-batches and activation checkpointing.
        ranks: who takes part.

    Raises:
        ConfigError: where the task cannot be computed in parts and would have to be.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, optimiser: OptimiserSettings, run: RunSettings, ranks: Ranks
    ) -> None:
        apply_policy(module, optimiser.batch_norm, ranks)
        self.module, self.device, self.run, self.ranks = module, device, run, ranks
        self.policy = optimiser.batch_norm if has_batch_norm(module) else "frozen"
        self._sum = GradientSum([p for p in module.parameters() if p.requires_grad], ranks)
        self._buffers = BufferKeeper(module)
        self._mode: bool | None = None
        self._micro_clips: int | None = None
        self._recomputes = run.activation_checkpointing and self._recompute()
        if run.micro_batch_clips is not None:
            self._limit_clips(run.micro_batch_clips)
        self._compile()

    def gradients(self, batch: tuple[Tensor, ...], place: BatchShard | None, seed: int) -> Any:
        """Return the losses and leave every parameter's gradient, summed over ranks, in its `grad`.

        Where memory runs out in a single process, the same is computed with less of it, from then on.

        Args:
            batch: this rank's clips.
            place: which of the whole batch's they are; None: all of them.
            seed: of the dropout.

        Raises:
            MissingDependencyError: where memory runs out and nothing is left that would save some.
        """
        self.set_training(True)
        self._buffers.keep()
        while True:
            self.module.zero_grad(set_to_none=True)
            try:
                return self._gradients(self.to_device(batch), place or all_here(batch[0].size(0)), seed)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Out here nothing holds on to the graph any longer.
            self.put_back_buffers()
            self._save_memory(batch[0].size(0))

    def forward(self, batch: tuple[Tensor, ...]) -> Any:
        """Return the losses of a batch that is all here."""
        said = self.compiled(*self.to_device(batch))
        return self._task.loss(said, None) if self._in_parts else said

    def set_training(self, mode: bool) -> None:
        """Switch training mode; statistics that are frozen stay so."""
        if self._mode is mode:
            return
        for module in (self.module, self.compiled):
            module.train(mode)
            if self.policy == "frozen":
                freeze_statistics(module)
        self._mode = mode

    def put_back_buffers(self) -> None:
        """Undo what the last `gradients` did to the running statistics."""
        self._buffers.put_back()

    def to_device(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """Move a batch; masks (bool) stay on the host, since they decide how much is computed."""
        return [t if t.dtype == torch.bool else t.to(self.device, non_blocking=True) for t in batch]

    def precision(self) -> AbstractContextManager[Any]:
        """The run's precision, as a context."""
        half = self.run.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    @property
    def _in_parts(self) -> bool:
        return self.ranks.count > 1 or self._micro_clips is not None

    @property
    def _task(self) -> ShardedTask:
        return cast("ShardedTask", self.module)

    def _compile(self) -> None:
        if self._in_parts and not hasattr(self.module, "outputs"):
            raise ConfigError(f"{type(self.module).__name__} is not computed in parts: no micro-batches, one process")
        how = "eager" if self._recomputes else self.run.compile  # recomputation does not script; the numbers are equal
        self.compiled = compile_module(self.module, how, "outputs" if self._in_parts else "forward")
        self._place_dropout = DropoutPlacer(self.compiled)
        self._mode = None

    def _gradients(self, inputs: list[Tensor], place: BatchShard, seed: int) -> Any:
        parts = slices(inputs[0].size(0), self._micro_clips)
        if len(parts) > 1:
            return self._gradients_of_parts(inputs, parts, place, seed)
        with self.precision():
            said = self._run(inputs, place, seed)
            result = self._task.loss(said, self._task.global_batch(said, self.ranks)) if self._in_parts else said
        self._sum.listen()
        if result.total.requires_grad:  # not where a batch has nothing to learn from
            result.total.backward()
        self._sum.finish()
        return result

    def _gradients_of_parts(self, inputs: list[Tensor], parts: list[slice], place: BatchShard, seed: int) -> Any:
        def run(part: slice) -> Any:
            return self._run([tensor[part] for tensor in inputs], BatchShard(place.clips[part], place.whole), seed)

        with torch.no_grad(), self.precision():
            outputs = [run(part) for part in parts]
        said = joined(outputs)
        with self.precision():
            result = self._task.loss(said, self._task.global_batch(said, self.ranks))
        result.total.backward()
        for part, gradients in zip(parts, gradients_of(said, outputs), strict=True):
            with self.precision():
                again = run(part)
            if part is parts[-1]:
                self._sum.listen()
            take_back(again, gradients)
        self._sum.finish()
        return result

    def _run(self, inputs: list[Tensor], place: BatchShard, seed: int) -> Any:
        torch.manual_seed(seed)
        self._place_dropout(place)
        return self.compiled(*inputs)

    def _recompute(self) -> bool:
        return recompute_blocks(self.module) > 0

    def _limit_clips(self, clips: int) -> None:
        if self.policy == "frozen":
            self._micro_clips = clips
        elif not self._recomputes:
            # Statistics of all clips need all clips in every layer, and so do their gradients.
            self._recomputes = self._recompute()
            if not self._recomputes:
                raise ConfigError(
                    "run.micro_batch_clips: batch norm needs every clip in every layer, and"
                    f" {type(self.module).__name__} has no blocks to run again: expected optimiser.batch_norm=frozen"
                )
            logger.info(
                "run.micro_batch_clips: batch norm needs every clip in every layer, so blocks are run again in backward"
                " instead, with the same result; optimiser.batch_norm=frozen saves more"
            )

    def _save_memory(self, clips: int) -> None:
        """Find a way to the same numbers with less memory."""
        now = min(clips, self._micro_clips or clips)
        if self.ranks.count > 1:
            raise MissingDependencyError(
                f"rank {self.ranks.number}: out of memory with {clips} clips; use more processes,"
                " run.activation_checkpointing=true, or run.micro_batch_clips with optimiser.batch_norm=frozen"
            )
        if not self._recomputes and self._recompute():
            self._recomputes = True
            logger.info("out of memory: from here on blocks are run again in backward, with the same result")
        elif self.policy == "frozen" and now > 1 and hasattr(self.module, "outputs"):
            self._micro_clips = -(-now // 2)
            logger.info(f"out of memory: from here on {self._micro_clips} clips at once, with the same result")
        else:
            raise MissingDependencyError(
                f"out of memory with {now} clips at once and nothing left to run again: lower optimiser.batch_clips,"
                " use more processes, or optimiser.batch_norm=frozen, which can be computed in parts"
            )
        self._compile()
        self.set_training(True)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
