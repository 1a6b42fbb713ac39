"""Losses and gradients of a batch: at once, in micro-batches, over ranks, and with less memory where it runs out."""

import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError, ResourceError
from usvs.models.batch_norm_act import fuse_batch_norms
from usvs.models.narrow_convolution import widen_convolutions
from usvs.ops.recompute import recomputing
from usvs.training.activation_checkpointing import recompute_blocks
from usvs.training.batch_norm import apply_policy, freeze_statistics, has_batch_norm
from usvs.training.branches import BranchThreads, has_branches
from usvs.training.compilation import CompiledModule, compile_module
from usvs.training.distributed import Ranks
from usvs.training.gradient_buckets import GradientSum
from usvs.training.memory_estimate import estimate_bytes
from usvs.training.micro_batches import (
    BatchShard,
    BufferSnapshot,
    DropoutShards,
    TrainableModule,
    backward_micro_batch,
    complete_shard,
    concatenate_outputs,
    micro_batch_slices,
    split_gradients,
)
from usvs.training.random_state import seeded
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.training.threads import ThreadPlan, is_small, plan_threads
from usvs.utils.preview import available_memory_bytes
from usvs.utils.text import size_text

logger: logging.Logger = logging.getLogger(__name__)


class BatchCompute:
    """Runs the forward and backward pass of a module on this rank's rows of a batch.

    Args:
        module: a `TrainableModule`, on its device.
        device: where it is.
        optimiser: batch-norm policy.
        run: precision, compiler, micro-batches and activation checkpointing.
        ranks: the processes of the run.

    Raises:
        ConfigError: where the settings need micro-batches or several processes and the module has no `outputs`.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, optimiser: OptimiserSettings, run: RunSettings, ranks: Ranks
    ) -> None:
        apply_policy(module, optimiser.batch_norm, ranks)
        self.module: nn.Module
        self.device: torch.device
        self.run: RunSettings
        self.ranks: Ranks
        self.module, self.device, self.run, self.ranks = module, device, run, ranks
        self.policy = optimiser.batch_norm if has_batch_norm(module) else "frozen"
        self._sum = GradientSum([p for p in module.parameters() if p.requires_grad], ranks)
        self._buffers = BufferSnapshot(module)
        self.threads: ThreadPlan = plan_threads(module, device, run)
        self._mode: bool | None = None
        self._micro_clips: int | None = None
        self._recomputes = run.activation_checkpointing and self._recompute()
        if run.micro_batch_clips is not None:
            self._limit_clips(run.micro_batch_clips)
        self._is_memory_planned = device.type != "cpu" or ranks.count > 1  # a GPU reports that its memory ran out
        self._compile()

    def gradients(self, batch: tuple[Tensor, ...], shard: BatchShard | None, seed: int) -> Any:
        """Return the losses and leave every parameter's gradient, summed over ranks, in its `grad`.

        Where memory runs out in a single process, this batch and all later ones are computed with less memory and the
        same result.

        Args:
            batch: this rank's rows of the module's inputs.
            shard: which rows of the global batch they are; None: all of them.
            seed: of dropout.

        Raises:
            ResourceError: where memory runs out and nothing is left that would save some.
        """
        self._plan_memory(batch)
        self.set_training(True)
        self._buffers.save()
        while True:
            self.module.zero_grad(set_to_none=True)
            try:
                return self._gradients(self.to_device(batch), shard or complete_shard(batch[0].size(0)), seed)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Outside the except block, since the error holds a reference to the graph.
            self.restore_buffers()
            self._save_memory(batch[0].size(0))

    def forward(self, batch: tuple[Tensor, ...]) -> Any:
        """Return the losses of a batch of which this process has every row."""
        result = self.compiled(*self.to_device(batch))
        return self._trainable.loss(result, None) if self._is_split else result

    def set_training(self, mode: bool) -> None:
        """Switch training mode; frozen batch-norm statistics stay frozen."""
        if self._mode is mode:
            return
        for module in (self.module, self.compiled):
            module.train(mode)
            if self.policy == "frozen":
                freeze_statistics(module)
        self._mode = mode

    def restore_buffers(self) -> None:
        """Undo what the last `gradients` did to the running statistics."""
        self._buffers.restore()

    def to_device(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """Move a batch; masks (bool) stay on the host, since they decide how much is computed."""
        return [t if t.dtype == torch.bool else t.to(self.device, non_blocking=True) for t in batch]

    def precision(self) -> AbstractContextManager[Any]:
        """Return a context in which computation has the run's precision."""
        half = self.run.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def _training(self) -> ExitStack:
        """Return a context for the forward pass of a training step."""
        stack = ExitStack()
        half = self.run.precision == "bfloat16"
        # Casts of weights would stay in autocast's cache to the end of the forward pass.
        if half:
            stack.enter_context(torch.autocast(self.device.type, torch.bfloat16, cache_enabled=not self._drops_norms))
        if self._drops_norms:
            stack.enter_context(recomputing())
        return stack

    @property
    def _is_split(self) -> bool:
        return self.ranks.count > 1 or self._micro_clips is not None

    @property
    def _trainable(self) -> TrainableModule:
        return cast("TrainableModule", self.module)

    def _compile(self) -> None:
        if self._is_split and not hasattr(self.module, "outputs"):
            raise ConfigError(
                f"{type(self.module).__name__} has no method 'outputs': micro-batches and several processes need it"
                " (see usvs.training.micro_batches.TrainableModule)"
            )
        how = "eager" if self._recomputes else self.run.compile  # recomputation cannot be scripted; results are equal
        fuses = self.device.type == "cpu" and self.ranks.count == 1 and how != "inductor"
        fuse_batch_norms(self.module, fuses)
        if self.device.type == "cpu" and self.run.precision == "bfloat16":
            widen_convolutions(self.module)
        # A small network has little to save; blocks that are recomputed keep no maps.
        self._drops_norms = fuses and self.run.recompute_norms and not self._recomputes and not is_small(self.module)
        self.compiled: CompiledModule = compile_module(self.module, how, "outputs" if self._is_split else "forward")
        self._dropout_shards = DropoutShards(self.compiled)
        divides = (
            self.threads.of_branches > 1 and not self._is_split and how != "inductor" and has_branches(self.module)
        )
        self._branches = BranchThreads(self.compiled) if divides else None
        self._mode = None

    def _gradients(self, inputs: list[Tensor], shard: BatchShard, seed: int) -> Any:
        slices = micro_batch_slices(inputs[0].size(0), self._micro_clips)
        if len(slices) > 1:
            return self._micro_batch_gradients(inputs, slices, shard, seed)
        if self._branches is not None:
            self._dropout_shards.assign(shard)
            with seeded(seed, self.device):
                return self._branches.gradients(inputs, self.run.precision == "bfloat16")
        with self._training():
            result = self._run(inputs, shard, seed)
            if self._is_split:
                result = self._global_loss(result)
        self._sum.start()
        if result.total.requires_grad:  # False where the batch has nothing to learn from
            result.total.backward()
        self._sum.finish()
        return result

    def _micro_batch_gradients(self, inputs: list[Tensor], slices: list[slice], shard: BatchShard, seed: int) -> Any:
        def run(rows: slice) -> Any:
            return self._run([tensor[rows] for tensor in inputs], BatchShard(shard.rows[rows], shard.batch_size), seed)

        with torch.no_grad(), self.precision():
            parts = [run(rows) for rows in slices]
        outputs = concatenate_outputs(parts)
        with self.precision():
            result = self._global_loss(outputs)
        result.total.backward()
        for rows, gradients in zip(slices, split_gradients(outputs, parts), strict=True):
            with self._training():
                again = run(rows)
            if rows is slices[-1]:
                self._sum.start()
            backward_micro_batch(again, gradients)
        self._sum.finish()
        return result

    def _global_loss(self, outputs: Any) -> Any:
        return self._trainable.loss(outputs, self._trainable.global_batch(outputs, self.ranks))

    def _run(self, inputs: list[Tensor], shard: BatchShard, seed: int) -> Any:
        self._dropout_shards.assign(shard)
        with seeded(seed, self.device):
            return self.compiled(*inputs)

    def _recompute(self) -> bool:
        return recompute_blocks(self.module) > 0

    def _limit_clips(self, clips: int) -> None:
        if self.policy == "frozen":
            self._micro_clips = clips
        elif not self._recomputes:
            # Batch statistics need all rows in every layer, in the backward pass too.
            self._recomputes = self._recompute()
            if not self._recomputes:
                raise ConfigError(
                    "run.micro_batch_clips: batch norm needs the statistics of the complete batch, and"
                    f" {type(self.module).__name__} has no blocks to recompute: expected optimiser.batch_norm=frozen,"
                    f" got {self.policy}"
                )
            logger.info(
                "run.micro_batch_clips: batch norm needs the statistics of the complete batch, so activations are"
                " recomputed in the backward pass instead, with the same result; optimiser.batch_norm=frozen saves more"
            )

    def _plan_memory(self, batch: tuple[Tensor, ...]) -> None:
        """Before the first batch: use less memory where it would not suffice.

        On a CPU nothing reports that memory ran out: the system ends the process.
        """
        if self._is_memory_planned:
            return
        self._is_memory_planned = True
        clips = batch[0].size(0)
        needed = (
            estimate_bytes(self.module, batch, self.run.precision, self._drops_norms) if not self._recomputes else None
        )
        available = available_memory_bytes()
        if needed is None or needed * min(1.0, (self._micro_clips or clips) / clips) < available:
            return
        logger.warning(
            f"a step of {clips} clips needs about {size_text(needed)} of memory, {size_text(available)} are available"
        )
        try:
            self._save_memory(clips)
        except ResourceError as error:  # an estimate ends nothing
            logger.warning(f"{error}; trying all the same")

    def _save_memory(self, clips: int) -> None:
        """Switch to a way of computing the same numbers with less memory."""
        current = min(clips, self._micro_clips or clips)
        if self.ranks.count > 1:
            raise ResourceError(
                f"rank {self.ranks.number}: out of memory with {clips} clips; use more processes,"
                " run.activation_checkpointing=true, or run.micro_batch_clips with optimiser.batch_norm=frozen"
            )
        if not self._recomputes and self._recompute():
            self._recomputes = True
            logger.warning("out of memory: activations are recomputed in the backward pass from now on, same result")
        elif self.policy == "frozen" and current > 1 and hasattr(self.module, "outputs"):
            self._micro_clips = -(-current // 2)
            logger.warning(f"out of memory: micro-batches of {self._micro_clips} clips from now on, same result")
        else:
            raise ResourceError(
                f"out of memory with {current} clips at once: lower optimiser.batch_clips, use more processes, or"
                " optimiser.batch_norm=frozen, which allows micro-batches"
            )
        self._compile()
        self.set_training(True)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
