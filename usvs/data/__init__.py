"""Datasets, sampling, transforms and loaders: from a prepared store to batches.

`PairDataset`, `FrameDataset`, `StatelessBatchSampler` and `collate_pairs` work with `torch.utils.data.DataLoader` and a
training loop of one's own. Each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from usvs.data.batch_sampler import StatelessBatchSampler as StatelessBatchSampler
    from usvs.data.frame_dataset import FrameDataset as FrameDataset
    from usvs.data.pair_batch import PairBatch as PairBatch
    from usvs.data.pair_dataset import PairDataset as PairDataset
    from usvs.data.pair_dataset import PairSample as PairSample
    from usvs.data.pair_dataset import SampleIndex as SampleIndex
    from usvs.data.pair_dataset import collate_pairs as collate_pairs

lazy_attributes(
    "usvs.data",
    {
        "batch_sampler": ("StatelessBatchSampler",),
        "frame_dataset": ("FrameDataset",),
        "pair_batch": ("PairBatch",),
        "pair_dataset": ("PairDataset", "PairSample", "SampleIndex", "collate_pairs"),
    },
)
