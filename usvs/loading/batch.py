"""One batch of pretraining: what a plan asks for, read from the prepared store and varied."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from usvs.archive.prepared import PreparedStore
from usvs.config import PretrainSettings
from usvs.errors import ConfigError, DataError
from usvs.loading.augment import UInt8Array, draw_tied_variation, training_frames, vary_frames
from usvs.sampling.order import ORDER_FRAMES
from usvs.sampling.permutation import Float64Array, keyed_bits
from usvs.sampling.plan import PlanBatch


class PairBatch(NamedTuple):
    """B clips with K pairs each, P pixels a side, S samples a speech piece; contiguous, on the CPU.

    Attributes:
        frames: [B, K, 1, P, P] float32 standardised gray levels.
        order_frames: [B, 4, 1, P, P] float32, in the order shown.
        speech: [B, K, S] float32 in [-1, 1); zeros where the clip has no sound.
        negative_speech: [B, K, S] float32; zeros where there is no hard negative.
        pair_valid: [B] bool, whether the clip counts in Eq. 1 and Eq. 2.
        order_class: [B] int64 in 0 .. 11.
        clip: [B] int64 row of the clip in the plan's table.
    """

    frames: Tensor
    order_frames: Tensor
    speech: Tensor
    negative_speech: Tensor
    pair_valid: Tensor
    order_class: Tensor
    clip: Tensor


def read_pairs(store: PreparedStore, planned: PlanBatch, settings: PretrainSettings) -> PairBatch:
    """Read, decode and vary what `planned` names; a pure function of its arguments.

    Raises:
        DataError: where a prepared scan is damaged or does not hold what the plan was made from.
        ConfigError: where the store's frames are smaller than the model's, or its speech has another rate.
    """
    pixels, augment = settings.model.frame_pixels, settings.augment
    clips, groups = planned.frame_seconds.shape
    pairs, ordered = _read_frames(store, planned)
    keys = keyed_bits(planned.augment_key, groups + 1)  # one a pair's frame, and one for the four order frames
    frames = training_frames(pairs, keys[:, :groups].ravel(), pixels, augment)
    tied = draw_tied_variation(keys[:, groups], ORDER_FRAMES, augment)
    order_frames = vary_frames(ordered, tied, pixels, augment.crop_fraction)
    return PairBatch(
        frames.view(clips, groups, 1, pixels, pixels),
        order_frames.view(clips, ORDER_FRAMES, 1, pixels, pixels),
        _read_speech(store, planned.speech_scan, planned.speech_start_seconds, settings),
        _read_speech(store, planned.negative_scan, planned.negative_start_seconds, settings),
        torch.from_numpy(planned.pair_valid),
        torch.from_numpy(planned.order_class),
        torch.from_numpy(planned.clip),
    )


def _read_frames(store: PreparedStore, planned: PlanBatch) -> tuple[UInt8Array, UInt8Array]:
    """The frames of the pairs and those to be ordered, flat: [B * K, S, S] and [B * 4, S, S]."""
    groups = planned.frame_seconds.shape[1]
    seconds = np.concatenate([planned.frame_seconds, planned.order_seconds], axis=1)
    side = store.scan(int(planned.scan[0])).frame_pixels
    pairs, ordered = (np.empty((len(seconds) * count, side, side), np.uint8) for count in (groups, ORDER_FRAMES))
    for i, (number, moments) in enumerate(zip(planned.scan.tolist(), seconds, strict=True)):
        scan = store.scan(number)
        if scan.frame_pixels != side:
            sides = sorted({side, scan.frame_pixels})
            raise DataError(
                f"the store's scans have frames of {sides} pixels, wanted one size: prepare the store again"
            )
        targets = [*pairs[i * groups : (i + 1) * groups], *ordered[i * ORDER_FRAMES : (i + 1) * ORDER_FRAMES]]
        scan.read_frames(scan.nearest_frames(moments), targets)
    return pairs, ordered


def _read_speech(
    store: PreparedStore, scans: npt.NDArray[np.int32], starts: Float64Array, settings: PretrainSettings
) -> Tensor:
    rate_hz = settings.spectrogram.rate_hz
    samples = round(settings.clips.speech_seconds * rate_hz)
    pieces = torch.zeros(*scans.shape, samples)
    target = pieces.numpy()
    for place in zip(*np.nonzero(scans >= 0), strict=True):
        scan = store.scan(int(scans[place]))
        if scan.rate_hz != rate_hz:
            raise ConfigError(
                f"spectrogram.rate_hz is {rate_hz}, but the store's speech has {scan.rate_hz}: prepare the store again"
            )
        np.multiply(scan.speech(float(starts[place]), samples), np.float32(1 / 32768), out=target[place])
    return pieces
