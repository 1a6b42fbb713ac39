"""Asynchronous checkpoints: the tensors are copied at once, the files are written by a thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from usvs.training.checkpoint import Checkpoint, checkpoint_folder, save_checkpoint


class CheckpointSaver:
    """Saves a run's checkpoints, one at a time and in order; `close` waits for the last.

    Args:
        folder: of the checkpoints.
        keep: how many of the latest are kept, beside the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder: Path
        self.keep: int
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usvs-checkpoint")
        self._writing: Future[Path] | None = None

    def save(self, step: int, checkpoint: Checkpoint, best_step: int | None = None) -> Path:
        """Copy a checkpoint and start writing it, after the previous one is written.

        Args:
            step: number of updates made.
            checkpoint: its tensors may change once this has returned.
            best_step: the step of the best checkpoint so far, which is kept.

        Returns:
            The folder it is being written to.

        Raises:
            ResourceError: where the previous one could not be written.
        """
        self.wait()
        kept = Checkpoint(_copied(checkpoint.model), _copied(checkpoint.optimiser), checkpoint.state)
        self._writing = self._thread.submit(save_checkpoint, self.folder, step, kept, self.keep, best_step)
        return checkpoint_folder(self.folder, step)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            ResourceError: where it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Wait until everything is on disk and stop the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
