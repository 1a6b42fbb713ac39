"""`StatelessBatchSampler`: the batches of pretraining for a `torch.utils.data.DataLoader`."""

from collections.abc import Iterator, Mapping

import numpy as np
from torch.utils.data import Sampler

from usvs.data.pair_dataset import PairDataset, SampleIndex
from usvs.data.rank_plan import RankPlan
from usvs.errors import ConfigError


class StatelessBatchSampler(Sampler[list[SampleIndex]]):
    """Yields the batches that `usvs.pretrain` makes with the same seed, batch size and settings.

    Batch `step` of epoch `e` is a pure function of (seed, e, step), so that one integer, the number of steps trained,
    resumes a run exactly, with any number of workers and ranks. Use it as ``batch_sampler`` of a `DataLoader`.

    After a complete pass, iterating again gives the next epoch; `set_epoch` chooses one. An incomplete last batch is
    dropped. All ranks yield the same number of batches, and their parts together are the global batch.

    Args:
        dataset: what is sampled.
        batch_size: clips per global batch, over all ranks; a smaller dataset gives batches of all its clips.
        seed: of order and draws; None: the dataset's.
        epoch: to start with.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ConfigError: for numbers out of range, or more processes than clips per batch.
    """

    def __init__(
        self,
        dataset: PairDataset,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.seed: int = dataset.seed if seed is None else seed
        self._plan = RankPlan(
            dataset.clips, dataset.settings.clips, dataset.objective, self.seed, batch_size, rank=rank, ranks=world_size
        )
        self._start = self._step = 0  # global steps: of the next pass's first batch, and of the next batch to yield
        self.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return self._plan.steps_per_epoch

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch, first = divmod(self._start, len(self))
        for step in range(first, len(self)):
            global_step = epoch * len(self) + step
            self._step = global_step + 1
            yield [SampleIndex(self.seed, epoch, number) for number in self._numbers(global_step)]
        self._start = (epoch + 1) * len(self)

    def set_epoch(self, epoch: int) -> None:
        """Start the next pass at the first batch of an epoch."""
        if epoch < 0:
            raise ConfigError(f"epoch: expected at least 0, got {epoch}")
        self._start = self._step = epoch * len(self)

    def state_dict(self, step: int | None = None) -> dict[str, int]:
        """Return the state to save with a checkpoint.

        Args:
            step: number of steps trained, over all epochs. None: the number of batches yielded, which runs ahead of
                training where a `DataLoader` has workers.
        """
        return {"step": self._step if step is None else step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after the step of a saved state: the next pass gives the rest of its epoch.

        Raises:
            ConfigError: for a state without a step.
        """
        step = state.get("step", -1)
        if step < 0:
            raise ConfigError(f"sampler state: expected a 'step' of at least 0, got {dict(state)}")
        self._start = self._step = step

    def _numbers(self, global_step: int) -> list[int]:
        """Numbers of the samples in the epoch that are this rank's."""
        size = self._plan.batch_size
        rows = np.arange(size) if self._plan.ranks == 1 else self._plan.rows_at(global_step)
        numbers: list[int] = (global_step % len(self) * size + rows).tolist()
        return numbers
