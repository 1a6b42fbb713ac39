"""Checkpoints written while training goes on: the tensors are copied at once, the files follow on a thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from usvs.training.checkpoint import Checkpoint, checkpoint_folder, save_checkpoint


class CheckpointSaver:
    """Saves a run's checkpoints, one at a time and in order; closing it waits for the last.

    Args:
        folder: where they go.
        keep: how many of the last ones stay, beside the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usvs-checkpoint")
        self._writing: Future[Path] | None = None

    def save(self, step: int, checkpoint: Checkpoint, best_step: int | None = None) -> Path:
        """Copy a checkpoint and begin to write it; waits for the one before.

        Args:
            step: whose it is.
            checkpoint: its tensors may change once this has returned.
            best_step: the step whose checkpoint is the best so far and stays.

        Raises:
            MissingDependencyError: where the one before could not be written.
        """
        self.wait()
        kept = Checkpoint(_copied(checkpoint.model), _copied(checkpoint.optimiser), checkpoint.state)
        self._writing = self._thread.submit(save_checkpoint, self.folder, step, kept, self.keep, best_step)
        return checkpoint_folder(self.folder, step)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            MissingDependencyError: where it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
