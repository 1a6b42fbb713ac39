"""`PairDataset`: the samples of pretraining as a torch dataset, for a training loop of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from usvs.data.pair_batch import FrameTransform, PairBatch, read_pairs
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.settings import AugmentSettings, PairSettings
from usvs.data.validation_split import PatientSplit, split_store
from usvs.errors import ConfigError, DataError
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore, check_clip_length
from usvs.store.settings import ClipSettings

SplitName = Literal["train", "validation", "all"]
PIXELS_MULTIPLE = 32  # output strides of the encoders divide it


class SampleIndex(NamedTuple):
    """Names one sample of a `PairDataset` completely; `StatelessBatchSampler` yields lists of these.

    Attributes:
        seed: of the draws.
        epoch: from 0.
        number: of the sample in the epoch, 0 .. len(dataset) - 1.
    """

    seed: int
    epoch: int
    number: int


class PairSample(NamedTuple):
    """One clip with K positive and K hard-negative pairs, and four frames for the order task (sections 2.1 to 2.3).

    P pixels a side, S samples of speech at `PairSettings.rate_hz`. Pair k is ``(frames[k], speech[k])``, its hard
    negative ``(frames[k], negative_speech[k])``.

    Attributes:
        frames: [K, 1, P, P] float32 standardised gray levels, or the stacked results of the dataset's `transform`.
        order_frames: [4, 1, P, P] likewise, in the order shown; zeros unless `order_valid`.
        speech: [K, S] float32 waveforms in [-1, 1) from the frames' clip; zeros where it has no sound.
        negative_speech: [K, S] float32 from a clip 1 .. D - 1 clips away in the same scan; zeros where there is none.
        pair_valid: whether the pairs count: there is a hard negative, and the clip is a high-affinity one.
        order_class: 0 .. 11, row of `usvs.data.order_sampling.ORDER_CLASSES`.
        order_valid: whether the clip is used for the order task.
        clip: row of the clip in `PairDataset.clips`.
        scan: keyed hash of the pairs' scan.
        frame_seconds: [K] float64 times of the frames, on the scan's clock.
        speech_start_seconds: [K] float64 starts of the speech; NaN where there is none.
        negative_start_seconds: [K] float64 starts of the hard-negative speech; NaN where there is none.
        speech_fraction: fraction of the pairs' clip that is speech (its affinity), 0 .. 1; NaN without sound.
    """

    frames: Tensor
    order_frames: Tensor
    speech: Tensor
    negative_speech: Tensor
    pair_valid: bool
    order_class: int
    order_valid: bool
    clip: int
    scan: str
    frame_seconds: Tensor
    speech_start_seconds: Tensor
    negative_start_seconds: Tensor
    speech_fraction: float


class PairDataset(Dataset[PairSample]):
    """Frame and speech pairs of a prepared store, one clip per sample.

    ``dataset[i]`` is a `PairSample`, a pure function of (seed, epoch, i): the i-th sample of the epoch's random order,
    in which every clip comes once. ``dataset[SampleIndex(seed, epoch, i)]`` names all three. The samples are those that
    `usvs.pretrain` draws with the same seed and settings. Objects can be pickled for workers of a `DataLoader`.

    Args:
        store: a prepared store's folder, or an open `PreparedStore`.
        split: the patients to use: ``train``, ``validation`` or ``all``. The first two are those of `usvs.pretrain`.
        transform: replaces the augmentation. It is called with one frame as uint8 tensor [1, H, W] as prepared, and
            returns a tensor of one shape. Torch's generator is seeded for each call, so that a random transform gives
            the same result for the same sample, and the same parameters for the four order frames.
        clips: clip length, K, D and further settings of the pairs; None: those that the store was indexed with, by
            default the paper's.
        patients: keyed hashes of the patients to use; None: all. The split is made among them.
        seed: of all draws.
        validation_fraction: fraction of the patients in the split ``validation``.
        augment: settings of the augmentation; None: the default, without flip and gain for ``validation``.
        frame_pixels: P; None: the largest multiple of 32 for which the random crop is not enlarged. Without effect
            where there is a `transform`.
        objective: only `affinity`, `resample_invalid_pairs`, `speech` and `order_fraction` matter; None: the paper's.

    Attributes:
        store: the open store.
        clips: the clips of the split, as a `ClipTable`; a sample's `clip` is a row of it.
        split: patients on both sides.
        settings: how pairs are read, as `PairSettings`.

    Raises:
        DataError: for a store that is not prepared, a patient without prepared scan, or a split without clips.
        ConfigError: for an unknown split, frames smaller than `frame_pixels`, or another clip length than the store's.
    """

    def __init__(
        self,
        store: str | Path | PreparedStore,
        split: SplitName = "train",
        transform: FrameTransform | None = None,
        clips: ClipSettings | None = None,
        patients: Sequence[str] | None = None,
        seed: int = 0,
        *,
        validation_fraction: float = 0.1,
        augment: AugmentSettings | None = None,
        frame_pixels: int | None = None,
        objective: ObjectiveSettings | None = None,
    ) -> None:
        if split not in get_args(SplitName):
            raise ConfigError(f"split: expected one of {', '.join(get_args(SplitName))}, got '{split}'")
        self.store: PreparedStore = store if isinstance(store, PreparedStore) else PreparedStore(Path(store))
        clips = self.store.clip_settings if clips is None else clips
        check_clip_length(self.store, clips)
        self.split: PatientSplit = split_store(self.store, 0.0 if split == "all" else validation_fraction, patients)
        self.split_name: SplitName = split
        self.clips: ClipTable = self._select_clips()
        if not len(self.clips):
            raise DataError(f"split '{split}': expected at least one clip, got none; use another validation_fraction")
        self.seed: int
        self.epoch: int
        self.transform: FrameTransform | None
        self.seed, self.epoch, self.transform = seed, 0, transform
        self.objective: ObjectiveSettings = ObjectiveSettings() if objective is None else objective
        if augment is None:
            augment = AugmentSettings(flip=False, gain_db=0.0) if split == "validation" else AugmentSettings()
        first = self.store.scan(int(self.clips.scan[0]))
        self.settings: PairSettings = PairSettings(
            clips=clips,
            augment=augment,
            frame_pixels=_largest_input(first.frame_pixels, augment) if frame_pixels is None else frame_pixels,
            rate_hz=first.rate_hz,
        )
        self._plans: dict[int, SamplingPlan] = {}

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int | SampleIndex) -> PairSample:
        seed, epoch, number = index if isinstance(index, SampleIndex) else (self.seed, self.epoch, index)
        number = range(len(self))[number]  # negative from the end, IndexError past it
        planned = self._plan(seed).samples(epoch, [number])
        batch = read_pairs(self.store, planned, self.settings, self.transform)
        return PairSample(
            frames=batch.frames[0],
            order_frames=batch.order_frames[0],
            speech=batch.speech[0],
            negative_speech=batch.negative_speech[0],
            pair_valid=bool(planned.pair_valid[0]),
            order_class=int(planned.order_class[0]),
            order_valid=bool(planned.order_valid[0]),
            clip=int(planned.clip[0]),
            scan=self.store.scans[int(planned.pair_scan[0])],
            frame_seconds=torch.from_numpy(planned.frame_seconds[0]),
            speech_start_seconds=torch.from_numpy(planned.speech_start_seconds[0]),
            negative_start_seconds=torch.from_numpy(planned.negative_start_seconds[0]),
            speech_fraction=float(self.clips.speech_fraction[planned.pair_clip[0]]),
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of samples that are indexed by number alone.

        Raises:
            ConfigError: for a negative number.
        """
        if epoch < 0:
            raise ConfigError(f"epoch: expected at least 0, got {epoch}")
        self.epoch = epoch

    def _plan(self, seed: int) -> SamplingPlan:
        if seed not in self._plans:
            self._plans[seed] = SamplingPlan(self.clips, self.settings.clips, self.objective, seed, batch_clips=1)
        return self._plans[seed]

    def _select_clips(self) -> ClipTable:
        groups = self.split.validation if self.split_name == "validation" else self.split.train
        return self.store.clips.select(self.split.clips_of(groups, self.store.clips.scan))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the clip table, which may be large; workers read it from the store."""
        return vars(self) | {"clips": None, "_plans": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.clips = self._select_clips()


def collate_pairs(samples: Sequence[PairSample]) -> PairBatch:
    """Combine samples into a `PairBatch` of CPU tensors: ``collate_fn`` of a `DataLoader` over a `PairDataset`.

    The batch holds waveforms; `usvs.audio.spectrogram.LogSpectrogram` computes spectrograms from them on the device.
    """
    columns = ([getattr(sample, name) for sample in samples] for name in PairBatch._fields)
    return PairBatch(*(torch.stack(c) if isinstance(c[0], Tensor) else torch.from_numpy(np.array(c)) for c in columns))


def _largest_input(prepared_pixels: int, augment: AugmentSettings) -> int:
    """The largest multiple of 32 that the random crop of a prepared frame covers; 32 at least."""
    crop = int(augment.crop_fraction * prepared_pixels)
    return max(crop // PIXELS_MULTIPLE, 1) * PIXELS_MULTIPLE
