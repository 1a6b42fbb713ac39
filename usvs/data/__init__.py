"""Datasets, sampling, transforms and loaders: from a prepared store to batches.

`PairDataset`, `FrameDataset`, `StatelessBatchSampler` and `collate_pairs` work with `torch.utils.data.DataLoader` and a
training loop of one's own. Each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usvs.data.batch_sampler import StatelessBatchSampler as StatelessBatchSampler
    from usvs.data.frame_dataset import FrameDataset as FrameDataset
    from usvs.data.pair_batch import PairBatch as PairBatch
    from usvs.data.pair_dataset import PairDataset as PairDataset
    from usvs.data.pair_dataset import PairSample as PairSample
    from usvs.data.pair_dataset import SampleIndex as SampleIndex
    from usvs.data.pair_dataset import collate_pairs as collate_pairs

_MODULES = {
    "FrameDataset": "usvs.data.frame_dataset",
    "PairBatch": "usvs.data.pair_batch",
    "PairDataset": "usvs.data.pair_dataset",
    "PairSample": "usvs.data.pair_dataset",
    "SampleIndex": "usvs.data.pair_dataset",
    "StatelessBatchSampler": "usvs.data.batch_sampler",
    "collate_pairs": "usvs.data.pair_dataset",
}

__all__ = [
    "FrameDataset",
    "PairBatch",
    "PairDataset",
    "PairSample",
    "SampleIndex",
    "StatelessBatchSampler",
    "collate_pairs",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'usvs.data' has no attribute '{name}'")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        from usvs.utils.dependencies import is_missing_dependency, missing_dependency

        if is_missing_dependency(error):
            raise missing_dependency(error) from None
        raise


def __dir__() -> list[str]:
    return __all__
