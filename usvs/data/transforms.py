"""Transforms of prepared frames: keyed augmentation for training, the central crop for evaluation.

The parameters of a frame are drawn from its key alone, so that every loader and worker computes the same sample. The
transform itself is `usvs.models.preprocessing`'s.
"""

import numpy as np
from torch import Tensor

from usvs.data.settings import AugmentSettings
from usvs.errors import ConfigError
from usvs.models.preprocessing import (
    AugmentParams,
    CropGrid,
    UInt8Array,
    apply_params,
    identity_params,
)
from usvs.utils.permutation import Float64Array, UInt64Array, keyed_bits, uniform_from_bits


def training_frames(frames: UInt8Array, keys: UInt64Array, frame_pixels: int, settings: AugmentSettings) -> Tensor:
    """Vary each frame on its own.

    Args:
        frames: uint8 [n, P, P] as prepared.
        keys: uint64 [n], one a frame.
        frame_pixels: side of the result, at most P.
        settings: how far frames are varied.

    Returns:
        float32 [n, 1, frame_pixels, frame_pixels], standardised.

    Raises:
        ConfigError: where the prepared frames are smaller than what is asked for.
    """
    return transform_frames(frames, draw_augment_params(keys, settings), frame_pixels, settings.crop_fraction)


def evaluation_frames(frames: UInt8Array, frame_pixels: int, settings: AugmentSettings) -> Tensor:
    """Crop the centre of each frame, by the share training crops, and resize it; otherwise as `training_frames`."""
    return transform_frames(frames, identity_params(len(frames)), frame_pixels, settings.crop_fraction)


def draw_augment_params(keys: UInt64Array, settings: AugmentSettings) -> AugmentParams:
    """Draw what is done to each frame from its key [n]."""
    top, left, flip, gain = uniform_from_bits(keyed_bits(keys, 4)).T
    decibels = (2 * gain - 1) * settings.gain_db
    no_shift = np.zeros((len(keys), 2), np.int64)
    return AugmentParams(top, left, (flip < 0.5) & settings.flip, 10 ** (decibels / 20), no_shift)


def draw_shared_augment_params(keys: UInt64Array, count: int, settings: AugmentSettings) -> AugmentParams:
    """Draw one variation for each group of `count` frames in a row, so that nothing but the content tells them apart.

    Args:
        keys: uint64 [n], one a group.
        count: frames a group.
        settings: with `order_jitter_pixels` above 0 the crop of each frame is moved by up to so much, as Lee et al.
            (ICCV 2017) do against matching by edges of the frame.

    Returns:
        The variation of n * count frames.
    """
    reach = settings.order_jitter_pixels
    uniform = uniform_from_bits(keyed_bits(keys, 4 + 2 * count))[:, 4:]  # the first four are `draw_augment_params`'s
    shift = np.floor(uniform * (2 * reach + 1)).astype(np.int64) - reach
    one = draw_augment_params(np.repeat(keys, count), settings)
    return one._replace(shift=shift.reshape(-1, 2))


def transform_frames(frames: UInt8Array, variation: AugmentParams, frame_pixels: int, crop_fraction: float) -> Tensor:
    """Apply a variation; arguments, result and errors as of `training_frames`."""
    return apply_params(frames, variation, crop_grid(frames.shape[-1], frame_pixels, crop_fraction), frame_pixels)


def crop_grid(side: int, frame_pixels: int, crop_fraction: float) -> CropGrid:
    """Return `CropGrid.fit` for prepared frames, which are never enlarged.

    Raises:
        ConfigError: where the prepared frames are smaller than the network's input.
    """
    if side < frame_pixels:
        raise ConfigError(
            f"model.frame_pixels is {frame_pixels}, but the store's frames have {side}: "
            f"prepare the store again with frame_pixels of at least {frame_pixels}, or ask for less"
        )
    return CropGrid.fit(side, frame_pixels, crop_fraction)


def transform_points(
    points: Float64Array, variation: AugmentParams, side: int, frame_pixels: int, crop_fraction: float
) -> Float64Array:
    """Move points of prepared frames to where `transform_frames` puts what is under them.

    Args:
        points: [n, k, 2] x and y as shares of the prepared frame; NaN stays NaN.
        variation: of the n frames.
        side: P of the prepared frames.
        frame_pixels: side of the result, as of `transform_frames`.
        crop_fraction: as of `transform_frames`.

    Returns:
        [n, k, 2] as shares of the result; outside of 0 .. 1 where the crop leaves the point out.
    """
    grid = crop_grid(side, frame_pixels, crop_fraction)
    moved = (points * side - grid.corners(variation)[:, None, ::-1]) / grid.extent
    moved[..., 0] = np.where(variation.flip[:, None], 1 - moved[..., 0], moved[..., 0])
    return moved
