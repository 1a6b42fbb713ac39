"""One batch of pretraining: what a plan asks for, read from the prepared store and varied."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.sampling_plan import PlanBatch
from usvs.data.settings import AugmentSettings
from usvs.data.transforms import draw_augment_params, draw_shared_augment_params, transform_frames
from usvs.errors import ConfigError, DataError
from usvs.models.preprocessing import AugmentParams, UInt8Array
from usvs.store.prepared import PreparedScan, PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.utils.permutation import Float64Array, keyed_bits


class PairBatch(NamedTuple):
    """B clips with K pairs each, P pixels a side, S samples a speech piece; contiguous.

    All on the CPU, but for frames that DALI decoded on a GPU.

    Attributes:
        frames: [B, K, 1, P, P] float32 standardised gray levels.
        order_frames: [B, 4, 1, P, P] float32, in the order shown; zeros where the clip does not show the order task.
        speech: [B, K, S] float32 in [-1, 1); zeros where the clip has no sound.
        negative_speech: [B, K, S] float32; zeros where there is no hard negative.
        pair_valid: [B] bool, whether the clip counts in Eq. 1 and Eq. 2.
        order_class: [B] int64 in 0 .. 11.
        order_valid: [B] bool, whether the clip shows the order task.
        clip: [B] int64 row of the clip in the plan's table; its pairs may be another clip's, see `PlanBatch`.
    """

    frames: Tensor
    order_frames: Tensor
    speech: Tensor
    negative_speech: Tensor
    pair_valid: Tensor
    order_class: Tensor
    order_valid: Tensor
    clip: Tensor


def read_pairs(store: PreparedStore, planned: PlanBatch, settings: PretrainSettings) -> PairBatch:
    """Read, decode and vary what `planned` names; a pure function of its arguments.

    Raises:
        DataError: where a prepared scan is damaged or does not hold what the plan was made from.
        ConfigError: where the store's frames are smaller than the model's, or its speech has another rate.
    """
    pixels, crop = settings.model.frame_pixels, settings.augment.crop_fraction
    pairs, ordered = _read_frames(store, planned)
    of_pairs, of_order = pair_variations(planned, settings.augment)
    frames = transform_frames(pairs, of_pairs, pixels, crop)
    return gather_pairs(store, planned, settings, frames, transform_frames(ordered, of_order, pixels, crop))


def pair_variations(planned: PlanBatch, settings: AugmentSettings) -> tuple[AugmentParams, AugmentParams]:
    """Draw what is done to the pairs' frames [B * K] and, alike in each clip, to those to be ordered [O * 4]."""
    groups = planned.frame_seconds.shape[1]
    keys = keyed_bits(planned.augment_key, groups + 1)  # one a pair's frame, and one for the four order frames
    tied = draw_shared_augment_params(keys[planned.order_valid, groups], ORDER_FRAMES, settings)
    return draw_augment_params(keys[:, :groups].ravel(), settings), tied


def gather_pairs(
    store: PreparedStore, planned: PlanBatch, settings: PretrainSettings, frames: Tensor, order_frames: Tensor
) -> PairBatch:
    """Put speech and answers to a batch's frames, [B * K, 1, P, P] and of O clips in order [O * 4, 1, P, P].

    Errors as of `read_pairs`.
    """
    clips, pixels = len(planned.clip), settings.model.frame_pixels
    shown = order_frames.view(-1, ORDER_FRAMES, 1, pixels, pixels)
    if len(shown) < clips:
        shown = shown.new_zeros(clips, *shown.shape[1:]).index_put_((torch.from_numpy(planned.order_valid),), shown)
    return PairBatch(
        frames.view(clips, -1, 1, pixels, pixels),
        shown,
        _read_speech(store, planned.speech_scan, planned.speech_start_seconds, settings),
        _read_speech(store, planned.negative_scan, planned.negative_start_seconds, settings),
        torch.from_numpy(planned.pair_valid),
        torch.from_numpy(planned.order_class),
        torch.from_numpy(planned.order_valid),
        torch.from_numpy(planned.clip),
    )


def planned_moments(planned: PlanBatch) -> tuple[tuple[NDArray[np.int32], Float64Array], ...]:
    """Return scans and moments of the pairs, [B] and [B, K], and of the O clips that show the order task, [O, 4]."""
    shown = planned.order_valid
    return (planned.pair_scan, planned.frame_seconds), (planned.scan[shown], planned.order_seconds[shown])


def planned_frames(
    store: PreparedStore, scans: NDArray[np.int32], seconds: Float64Array
) -> Iterator[tuple[PreparedScan, NDArray[np.int64]]]:
    """Yield each clip's scan [B] and the numbers of its frames at `seconds` [B, k].

    Raises:
        DataError: where the scans' frames are not of one size, or not coded in one way.
    """
    for number, moments in zip(scans.tolist(), seconds, strict=True):
        scan, first = store.scan(number), store.scan(int(scans[0]))
        for name in ("frame_pixels", "codec"):
            one, other = getattr(first.manifest, name), getattr(scan.manifest, name)
            if one != other:
                raise DataError(f"the store's scans have {name} {one} and {other}, expected one: prepare it again")
        yield scan, scan.nearest_frames(moments)


def _read_frames(store: PreparedStore, planned: PlanBatch) -> tuple[UInt8Array, UInt8Array]:
    """The frames of the pairs and those of the O clips in order, flat: [B * K, S, S] and [O * 4, S, S].

    A scan's frames are read together, so that one asked for more than once is decoded once.
    """
    side = store.scan(int(planned.pair_scan[0])).frame_pixels
    expected: dict[int, tuple[list[int], list[UInt8Array]]] = {}
    flat = []
    for scans, seconds in planned_moments(planned):
        flat.append(np.empty((seconds.size, side, side), np.uint8))
        targets = iter(flat[-1])
        for number, (_, frames) in zip(scans.tolist(), planned_frames(store, scans, seconds), strict=True):
            numbers, places = expected.setdefault(number, ([], []))
            numbers += frames.tolist()
            places += [next(targets) for _ in frames]
    for number, (numbers, places) in expected.items():
        store.scan(number).read_frames(np.asarray(numbers), places)
    return flat[0], flat[1]


def _read_speech(
    store: PreparedStore, scans: NDArray[np.int32], starts: Float64Array, settings: PretrainSettings
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
