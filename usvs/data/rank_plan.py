"""Whose clips of a batch are whose, where several processes share it."""

from dataclasses import dataclass

import numpy as np

from usvs.data.pair_sampling import BoolArray
from usvs.data.sampling_plan import Plan, PlanBatch
from usvs.errors import ConfigError
from usvs.utils.permutation import Int64Array


def check_share(clips: int, rank: int, ranks: int) -> None:
    """Refuse more ranks than there are clips in a batch.

    Raises:
        ConfigError: saying so.
    """
    if not 0 <= rank < ranks <= clips:
        raise ConfigError(f"{ranks} processes for batches of {clips} clips: expected at least one clip each")


def dealt_rows(rows: Int64Array, rank: int, ranks: int) -> Int64Array:
    """Return which of a batch's rows are a rank's, where they are dealt out one by one: [b] int64, ascending."""
    return np.sort(rows[rank::ranks]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class SharedPlan(Plan):
    """The part of each of a plan's batches that one rank computes; all parts together are the plan's batch.

    The clips are dealt out one by one, those first whose pairs count, so that every rank has as much to do as the next,
    by one clip. `batch_size` stays the whole batch's.

    Attributes:
        rank: whose part, from 0.
        ranks: how many there are.

    Raises:
        ConfigError: where there are more ranks than clips in a batch.
    """

    rank: int
    ranks: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.batch_size, self.rank, self.ranks)

    def batch(self, epoch: int, step: int) -> PlanBatch:
        """Return this rank's part of batch `step` of an epoch."""
        whole = super().batch(epoch, step)
        rows = self.rows(whole.pair_valid)
        return PlanBatch._make(field[rows] for field in whole)

    def rows(self, pair_valid: BoolArray) -> Int64Array:
        """Return which rows of a whole batch are this rank's: [b] int64, ascending."""
        return dealt_rows(np.argsort(~pair_valid, kind="stable"), self.rank, self.ranks)

    def rows_at(self, global_step: int) -> Int64Array:
        """Return the rows of this rank in the batch of a run's step, counted over epochs."""
        return self.rows(self.whole_batch_at(global_step).pair_valid)

    def whole_batch_at(self, global_step: int) -> PlanBatch:
        """Return all ranks' parts of the batch of a run's step."""
        return super().batch(*divmod(global_step, self.steps_per_epoch))
