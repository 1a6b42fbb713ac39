"""Settings of the optimiser and of how a run is carried out."""

import re
from typing import Literal

from pydantic import Field, field_validator

from usvs.config import Settings
from usvs.data.settings import LoaderName


class OptimiserSettings(Settings):
    """The optimiser and its schedule (section 2.4)."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate at the start (step), or the largest (one_cycle)."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay."""
    clip_norm: float = Field(2.0, gt=0)
    """Gradients are scaled down to this norm; our reading: the paper clips but gives no value."""
    schedule: Literal["step", "one_cycle"] = "step"
    """step: the learning rate is divided by ten every step_epochs; one_cycle: it rises and falls once."""
    step_epochs: int = Field(20, ge=1)
    """Epochs between divisions of the learning rate by ten."""
    epochs: int = Field(80, ge=1)
    """Passes over the training clips."""
    batch_clips: int = Field(32, ge=1)
    """Clips, or labelled frames, in a step's batch, over all processes."""
    batch_norm: Literal["sync", "per_rank", "frozen"] = "sync"
    """Statistics in training: of the global batch, of each process's rows, or the running ones, unchanged."""


class RunSettings(Settings):
    """How a run is executed; of these only `seed` and `precision` change the weights."""

    seed: int = Field(0, ge=0)
    """Of weights, sampling and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto: a CUDA device where there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; bfloat16 is automatic mixed precision."""
    compile: Literal["torchscript", "inductor", "eager"] = "torchscript"
    """How the networks are compiled; eager: not at all."""
    loader: LoaderName = "torch"
    """Data-loading backend; torch and dali give the same samples, dali-video decodes the archive's H.264 on a GPU."""
    threads: int | None = Field(None, ge=1)
    """Threads that compute on a CPU; none: as many as torch would use. A small network has one for each stream, with
    the same result as with one."""
    recompute_norms: bool = True
    """Compute normalised maps again in the backward pass instead of keeping them, where batch norm is fused (a CPU,
    one process, not inductor) and the network is not small: about half the activations, the same result."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass: a third more time, far less memory."""
    micro_batch_clips: int | None = Field(None, ge=1)
    """Clips in a micro-batch; none: all of a process at once."""
    loader_workers: int = Field(1, ge=0)
    """Threads that load batches; 0 loads in the training thread."""
    log_every_steps: int = Field(10, ge=1)
    """Steps between lines of metrics.jsonl."""
    validate_every_steps: int = Field(200, ge=1)
    """Steps between validations."""
    checkpoint_every_steps: int = Field(500, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of newest checkpoints that are kept, beside the best one."""

    @field_validator("device")
    @classmethod
    def _check_device(cls, name: str) -> str:
        if not re.fullmatch(r"auto|cpu|meta|(cuda|mps|xpu)(:\d+)?", name):
            raise ValueError("expected auto, cpu, cuda or cuda:N")
        return name
