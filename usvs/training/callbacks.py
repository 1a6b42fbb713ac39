"""User code that a run calls at certain events."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from usvs.training.trainer import Trainer


class Callback(Protocol):
    """Methods that a run calls; all are optional, and a class may define any of them without inheriting.

    Only the first process of a run has callbacks, so they must not use collective operations. An exception from a
    callback ends the run; the last checkpoint stays. A subclass overrides what it needs, the rest does nothing.
    """

    def on_start(self, trainer: Trainer, total_steps: int) -> None:
        """Called before the first step.

        Args:
            trainer: with the module, the optimiser and the number of updates made so far.
            total_steps: updates of the complete run.
        """
        return

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each update.

        Args:
            step: updates made so far.
            values: losses, accuracies, gradient norm and learning rate.
        """
        return

    def on_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each validation, with the values that are logged."""
        return

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Called when a checkpoint is saved; a background thread may still be writing `folder`."""
        return

    def on_end(self, step: int) -> None:
        """Called after the last step, once all checkpoints are written; not after an error or an interruption."""
        return


class Callbacks:
    """Calls the methods that each of some callbacks has, in their order."""

    def __init__(self, callbacks: Sequence[Any] = ()) -> None:
        self._callbacks = tuple(callbacks)

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of every callback that has it."""
        for callback in self._callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(*arguments)
