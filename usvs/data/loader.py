"""Which loader a run uses; both give the same samples."""

from collections.abc import Iterator
from typing import Protocol

import torch

from usvs.data.dali_frames import import_dali
from usvs.data.dali_loader import DaliPairLoader
from usvs.data.pair_batch import PairBatch
from usvs.data.sampling_plan import Plan
from usvs.data.torch_loader import PairLoader
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings


class Loader(Protocol):
    """What training asks of a loader."""

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step."""

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of a range of steps, loaded ahead; to be closed when it is left early."""


def make_loader(store: PreparedStore, plan: Plan, settings: PretrainSettings, device: torch.device) -> Loader:
    """Return the loader that `run.loader` names.

    Args:
        store: the prepared scans.
        plan: what each step is made of.
        settings: of the run.
        device: where DALI decodes; the torch loader's batches are on the CPU.

    Raises:
        MissingDependencyError: for ``dali`` where it is not installed.
    """
    if settings.run.loader == "torch":
        return PairLoader(store, plan, settings)
    import_dali()  # complains now rather than at the first batch
    return DaliPairLoader(store, plan, settings, device)
