"""Choice of the data-loading backend; all give the same samples, `dali-video` except for some gray levels."""

from collections.abc import Iterator
from typing import Protocol

import torch

from usvs.data.dali_frames import import_dali
from usvs.data.dali_loader import DaliPairLoader
from usvs.data.dali_video_loader import DaliVideoPairLoader, check_video_device
from usvs.data.pair_batch import PairBatch
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.settings import PairSettings
from usvs.data.torch_loader import PairLoader
from usvs.store.prepared import PreparedStore


class Loader(Protocol):
    """The interface of a loader, as pretraining uses it."""

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step."""

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of a range of steps, loaded ahead; close the iterator to stop early."""


def make_loader(store: PreparedStore, plan: SamplingPlan, settings: PairSettings, device: torch.device) -> Loader:
    """Return the loader that `settings.loader` names.

    Args:
        store: the prepared scans.
        plan: the samples of each step.
        settings: how they are read.
        device: where DALI decodes; the torch loader's batches are on the CPU.

    Raises:
        MissingDependencyError: where DALI is needed and not installed.
        ResourceError: for ``dali-video`` without a GPU.
    """
    if settings.loader == "torch":
        return PairLoader(store, plan, settings)
    if settings.loader == "dali-video":
        check_video_device(device)
    import_dali()  # raises here rather than at the first batch
    if settings.loader == "dali-video":
        return DaliVideoPairLoader(store, plan, settings, device)
    return DaliPairLoader(store, plan, settings, device)
