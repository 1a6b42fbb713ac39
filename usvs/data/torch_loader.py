"""The loader of pretraining: a plan's batches from a prepared store, as torch tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

from usvs.data.pair_batch import PairBatch, read_pairs
from usvs.data.prefetch import checked_steps, load_in_order
from usvs.data.sampling_plan import Plan
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings


@dataclass(frozen=True, eq=False)
class PairLoader:
    """Loads the batches a plan names; has no state, so any range of steps can be asked for at any time.

    Attributes:
        store: the prepared scans; the plan's scan numbers are its.
        plan: what each step is made of.
        settings: piece length, frame size, augmentation and `run.loader_workers`.
    """

    store: PreparedStore
    plan: Plan
    settings: PretrainSettings

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step, counted over epochs (epoch * steps_per_epoch + step in the epoch)."""
        return read_pairs(self.store, self.plan.batch_at(step), self.settings)

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of steps start_step .. stop_step - 1, loaded ahead on `run.loader_workers` threads.

        Raises:
            ConfigError: at once, for a range that is none.
            UsvsError: in its turn, where a step cannot be loaded; the message names the step.
        """
        steps = checked_steps(start_step, stop_step)
        return load_in_order(self.batch, steps, self.settings.run.loader_workers)
