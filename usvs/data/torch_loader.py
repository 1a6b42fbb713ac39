"""The default loader of pretraining: a plan's batches from a prepared store, read on threads."""

from collections.abc import Iterator
from dataclasses import dataclass

from usvs.data.pair_batch import PairBatch, read_pairs
from usvs.data.prefetch import load_in_order, step_range
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.settings import PairSettings
from usvs.store.prepared import PreparedStore


@dataclass(frozen=True, eq=False)
class PairLoader:
    """Loads the batches of a plan; without state, so any range of steps can be loaded at any time.

    Attributes:
        store: the prepared scans; the plan's scan numbers refer to it.
        plan: the samples of each step.
        settings: how they are read, and on how many threads.
    """

    store: PreparedStore
    plan: SamplingPlan
    settings: PairSettings

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step, counted over epochs (epoch * steps_per_epoch + step of the epoch)."""
        return read_pairs(self.store, self.plan.batch_at(step), self.settings)

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of steps start_step .. stop_step - 1, loaded ahead on `loader_workers` threads.

        Raises:
            ConfigError: at once, for an invalid range.
            UsvsError: when the iterator reaches a step that cannot be loaded; the message names the step.
        """
        steps = step_range(start_step, stop_step)
        return load_in_order(self.batch, steps, self.settings.loader_workers)
