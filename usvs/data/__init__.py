"""Datasets, sampling, transforms and loaders: from a prepared store to batches.

`PairDataset`, `FrameDataset`, `StatelessBatchSampler` and `collate_pairs` work with `torch.utils.data.DataLoader` and a
training loop of one's own. Each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usvs.data.frame_dataset import FrameDataset as FrameDataset

_MODULES = {"FrameDataset": "usvs.data.frame_dataset"}

__all__ = ["FrameDataset"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'usvs.data' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
