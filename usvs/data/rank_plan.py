"""Division of each global batch among the ranks of a distributed run."""

from dataclasses import dataclass

import numpy as np

from usvs.data.pair_sampling import BoolArray
from usvs.data.sampling_plan import PlanBatch, SamplingPlan
from usvs.errors import ConfigError
from usvs.utils.permutation import Int64Array


def check_ranks(clips: int, rank: int, ranks: int) -> None:
    """Check that every rank gets at least one clip of a batch.

    Raises:
        ConfigError: for more ranks than clips, or a rank that is out of range.
    """
    if not 0 <= rank < ranks <= clips:
        raise ConfigError(
            f"{ranks} processes for batches of {clips} clips: expected at least one clip per process; use fewer"
            " processes or larger batches"
        )


def rank_rows(rows: Int64Array, rank: int, ranks: int) -> Int64Array:
    """Return one rank's rows of a global batch, every `ranks`-th of `rows`: [b] int64, ascending."""
    return np.sort(rows[rank::ranks]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class RankPlan(SamplingPlan):
    """One rank's part of each global batch of a plan; the parts of all ranks together are the plan's batch.

    Clips are assigned in turn, first those with valid pairs, so that the ranks' numbers of valid pairs differ by at
    most one. `batch_size` stays the global batch's.

    Attributes:
        rank: of this process, from 0.
        ranks: number of processes.
        uses_pairs: whether the loss uses pairs; without, no speech is read.
        uses_order: whether the loss uses the order task; without, no order frames are read.

    Raises:
        ConfigError: for more ranks than clips per batch.
    """

    rank: int
    ranks: int
    uses_pairs: bool = True
    uses_order: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranks(self.batch_size, self.rank, self.ranks)

    def batch(self, epoch: int, step: int) -> PlanBatch:
        """Return this rank's part of batch `step` of an epoch."""
        global_batch = super().batch(epoch, step)
        rows = self.rows(global_batch.pair_valid)
        own = PlanBatch._make(field[rows] for field in global_batch)
        if not self.uses_pairs:
            nowhere = np.full_like(own.speech_scan, -1)
            own = own._replace(speech_scan=nowhere, negative_scan=nowhere)
        return own if self.uses_order else own._replace(order_valid=np.zeros_like(own.order_valid))

    def rows(self, pair_valid: BoolArray) -> Int64Array:
        """Return this rank's rows of a global batch: [b] int64, ascending."""
        return rank_rows(np.argsort(~pair_valid, kind="stable"), self.rank, self.ranks)

    def rows_at(self, global_step: int) -> Int64Array:
        """Return this rank's rows of the global batch of a run's step, counted over epochs."""
        return self.rows(self.global_batch_at(global_step).pair_valid)

    def global_batch_at(self, global_step: int) -> PlanBatch:
        """Return the global batch of a run's step, counted over epochs."""
        return super().batch(*divmod(global_step, self.steps_per_epoch))
