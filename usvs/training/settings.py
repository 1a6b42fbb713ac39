"""Settings of the optimiser and of how a run is carried out."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings


class OptimiserSettings(Settings):
    """The optimiser and its schedule (section 2.4)."""

    kind: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    clip_norm: float = Field(2.0, gt=0)  # our reading: the paper clips but gives no value
    schedule: Literal["step", "one_cycle"] = "step"
    step_epochs: int = Field(20, ge=1)  # epochs between divisions of the learning rate by ten
    epochs: int = Field(80, ge=1)
    batch_clips: int = Field(32, ge=1)  # over all processes
    # statistics in training: of the global batch, of each process's rows, or the running ones, unchanged
    batch_norm: Literal["sync", "per_rank", "frozen"] = "sync"


class RunSettings(Settings):
    """How a run is executed; of these only `seed` and `precision` change the weights."""

    seed: int = Field(0, ge=0)
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["torchscript", "inductor", "eager"] = "torchscript"
    loader: Literal["torch", "dali"] = "torch"
    activation_checkpointing: bool = False  # recompute blocks in the backward pass: a third more time, far less memory
    micro_batch_clips: int | None = Field(None, ge=1)  # clips a micro-batch; None: all of a process at once
    loader_workers: int = Field(1, ge=0)
    log_every_steps: int = Field(10, ge=1)
    validate_every_steps: int = Field(200, ge=1)
    checkpoint_every_steps: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
