"""One batch of pretraining: the samples that a plan names, read from the prepared store and augmented."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.sampling_plan import PlanBatch
from usvs.data.settings import AugmentSettings, PairSettings
from usvs.data.transforms import draw_augment_params, draw_shared_augment_params, transform_frames
from usvs.errors import ConfigError, DataError
from usvs.models.preprocessing import AugmentParams, UInt8Array
from usvs.store.prepared import PreparedStore
from usvs.store.prepared_scan import PreparedScan
from usvs.utils.permutation import Float64Array, UInt64Array, keyed_bits, uniform_from_bits

FrameTransform = Callable[[Tensor], Tensor]  # uint8 [1, P, P] of one frame to a tensor of the same shape every time


class PairBatch(NamedTuple):
    """B clips with K pairs each, P pixels a side, S samples of speech per pair; all tensors are contiguous.

    All on the CPU, except for frames that DALI decoded on a GPU.

    Attributes:
        frames: [B, K, 1, P, P] float32 standardised gray levels.
        order_frames: [B, 4, 1, P, P] float32, in the order shown; zeros where the clip is not used for the order task.
        speech: [B, K, S] float32 in [-1, 1); zeros where the clip has no sound.
        negative_speech: [B, K, S] float32; zeros where there is no hard negative.
        pair_valid: [B] bool, whether the clip counts in Eq. 1 and Eq. 2.
        order_class: [B] int64 in 0 .. 11.
        order_valid: [B] bool, whether the clip is used for the order task.
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


def read_pairs(
    store: PreparedStore, planned: PlanBatch, settings: PairSettings, transform: FrameTransform | None = None
) -> PairBatch:
    """Read, decode and augment the samples of `planned`; a pure function of its arguments.

    Args:
        store: the prepared scans that the plan was made from.
        planned: the samples.
        settings: length and rate of the speech, size and augmentation of the frames.
        transform: used on each frame instead of the augmentation; see `PairDataset`.

    Raises:
        DataError: where a prepared scan is damaged or does not hold what the plan was made from.
        ConfigError: where the store's frames are smaller than `frame_pixels`, or its speech has another rate.
    """
    pairs, ordered = _read_frames(store, planned)
    if transform is not None:
        pair_keys, order_keys = _frame_keys(planned)
        frames = _apply(transform, pairs, pair_keys.ravel())
        order_frames = _apply(transform, ordered, np.repeat(order_keys, ORDER_FRAMES)) if len(ordered) else frames[:0]
        return assemble_batch(store, planned, settings, frames, order_frames)
    pixels, crop = settings.frame_pixels, settings.augment.crop_fraction
    pair_params, order_params = draw_pair_augmentation(planned, settings.augment)
    frames = transform_frames(pairs, pair_params, pixels, crop)
    return assemble_batch(store, planned, settings, frames, transform_frames(ordered, order_params, pixels, crop))


def draw_pair_augmentation(planned: PlanBatch, settings: AugmentSettings) -> tuple[AugmentParams, AugmentParams]:
    """Draw the parameters of the pairs' frames [B * K] and, equal within each clip, of the order frames [O * 4]."""
    pair_keys, order_keys = _frame_keys(planned)
    order_params = draw_shared_augment_params(order_keys, ORDER_FRAMES, settings)
    return draw_augment_params(pair_keys.ravel(), settings), order_params


def assemble_batch(
    store: PreparedStore, planned: PlanBatch, settings: PairSettings, frames: Tensor, order_frames: Tensor
) -> PairBatch:
    """Combine a batch's frames with its speech and labels.

    Args:
        store: the prepared scans.
        planned: the samples.
        settings: length and rate of the speech.
        frames: of the pairs, [B * K, ...].
        order_frames: of the O clips that are used for the order task, [O * 4, ...].

    Raises:
        DataError, ConfigError: as of `read_pairs`.
    """
    clips, groups = planned.frame_seconds.shape
    speeds = _speech_speeds(planned, settings.augment.speech_speed)
    shown = order_frames.view(-1, ORDER_FRAMES, *frames.shape[1:])
    if len(shown) < clips:
        shown = shown.new_zeros(clips, *shown.shape[1:]).index_put_((torch.from_numpy(planned.order_valid),), shown)
    return PairBatch(
        frames.view(clips, -1, *frames.shape[1:]),
        shown,
        _read_speech(store, planned.speech_scan, planned.speech_start_seconds, speeds[:, :groups], settings),
        _read_speech(store, planned.negative_scan, planned.negative_start_seconds, speeds[:, groups:], settings),
        torch.from_numpy(planned.pair_valid),
        torch.from_numpy(planned.order_class),
        torch.from_numpy(planned.order_valid),
        torch.from_numpy(planned.clip),
    )


def planned_frame_times(planned: PlanBatch) -> tuple[tuple[NDArray[np.int32], Float64Array], ...]:
    """Return scans and frame times of the pairs ([B], [B, K]) and of the O clips of the order task ([O], [O, 4])."""
    shown = planned.order_valid
    return (planned.pair_scan, planned.frame_seconds), (planned.scan[shown], planned.order_seconds[shown])


def locate_frames(
    store: PreparedStore, scans: NDArray[np.int32], seconds: Float64Array
) -> Iterator[tuple[PreparedScan, NDArray[np.int64]]]:
    """Yield, for each of B clips, its prepared scan and the numbers of the frames nearest to `seconds` [B, k].

    Raises:
        DataError: where the scans differ in frame size or codec.
    """
    if not len(scans):
        return
    first = store.scan(int(scans[0]))
    for number, times in zip(scans.tolist(), seconds, strict=True):
        scan = store.scan(number)
        for name in ("frame_pixels", "codec"):
            one, other = getattr(first.manifest, name), getattr(scan.manifest, name)
            if one != other:
                raise DataError(
                    f"prepared scans {first.scan_key} and {scan.scan_key}: expected one {name}, got {one} and {other};"
                    " prepare the store again"
                )
        yield scan, scan.nearest_frames(times)


def _frame_keys(planned: PlanBatch) -> tuple[UInt64Array, UInt64Array]:
    """Keys of the random numbers: one per pair's frame [B, K], one for the order frames of each of O clips [O]."""
    groups = planned.frame_seconds.shape[1]
    keys = keyed_bits(planned.augment_key, groups + 1)
    return keys[:, :groups], keys[planned.order_valid, groups]


def _apply(transform: FrameTransform, frames: UInt8Array, keys: UInt64Array) -> Tensor:
    """Transform each frame with torch's generator seeded by its key, so that equal keys get the same random numbers."""
    done = []
    with torch.random.fork_rng(devices=[]):
        for frame, key in zip(frames, keys.tolist(), strict=True):
            torch.default_generator.manual_seed(key)
            done.append(transform(torch.from_numpy(frame)[None]))
    return torch.stack(done)


def _read_frames(store: PreparedStore, planned: PlanBatch) -> tuple[UInt8Array, UInt8Array]:
    """Frames of the pairs [B * K, P, P] and of the O clips of the order task [O * 4, P, P], as prepared.

    All frames of a scan are read together, so that one that is needed twice is decoded once.
    """
    side = store.scan(int(planned.pair_scan[0])).frame_pixels
    requests: dict[int, tuple[list[int], list[UInt8Array]]] = {}
    flat = []
    for scans, seconds in planned_frame_times(planned):
        flat.append(np.empty((seconds.size, side, side), np.uint8))
        targets = iter(flat[-1])
        for number, (_, frames) in zip(scans.tolist(), locate_frames(store, scans, seconds), strict=True):
            numbers, buffers = requests.setdefault(number, ([], []))
            numbers += frames.tolist()
            buffers += [next(targets) for _ in frames]
    for number, (numbers, buffers) in requests.items():
        store.scan(number).read_frames(np.asarray(numbers), buffers)
    return flat[0], flat[1]


def _speech_speeds(planned: PlanBatch, largest: float) -> Float64Array:
    """Speed of each piece of speech [B, 2 K], the pairs' own and then the hard negatives', uniform in its logarithm."""
    groups = planned.frame_seconds.shape[1]
    bits = keyed_bits(planned.augment_key, 3 * groups + 1)[:, groups + 1 :]  # the first K + 1 are of the frames
    speeds: Float64Array = np.exp(np.log(largest) * (2 * uniform_from_bits(bits) - 1))
    return speeds


def _read_speech(
    store: PreparedStore, scans: NDArray[np.int32], starts: Float64Array, speeds: Float64Array, settings: PairSettings
) -> Tensor:
    samples = round(settings.clips.speech_seconds * settings.rate_hz)
    make = torch.zeros if (scans < 0).any() else torch.empty
    pieces = make(*scans.shape, samples)
    target = pieces.numpy()
    for row in zip(*np.nonzero(scans >= 0), strict=True):
        scan = store.scan(int(scans[row]))
        if scan.rate_hz != settings.rate_hz:
            raise ConfigError(
                f"spectrogram.rate_hz: expected {scan.rate_hz}, the sampling rate of the store's speech, got"
                f" {settings.rate_hz}; set it to {scan.rate_hz}, or prepare the store again"
            )
        played = round(samples * speeds[row])
        start = float(starts[row])
        if played != samples:
            played = min(played, scan.speech_samples)
            start = max(0.0, min(start, (scan.speech_samples - played) / scan.rate_hz))
        piece: NDArray[np.int16] | NDArray[np.float64] = scan.speech(start, played)
        if played != samples:
            piece = np.interp(np.linspace(0, played - 1, samples), np.arange(played), piece)
        np.multiply(piece, np.float32(1 / 32768), out=target[row], casting="same_kind")
    return pieces
