"""Transforms of prepared frames: keyed augmentation for training, the central crop for evaluation.

The parameters of a frame are drawn from its key alone, so that every loader and worker computes the same sample. The
transform itself is `usvs.models.preprocessing`'s.
"""

from typing import get_args

import numpy as np
from torch import Tensor

from usvs.config import Profile
from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.settings import AugmentSettings
from usvs.errors import ConfigError
from usvs.models.preprocessing import (
    AugmentParams,
    CropGrid,
    UInt8Array,
    apply_params,
    identity_params,
)
from usvs.store.settings import prepare_profile
from usvs.utils.permutation import Float64Array, UInt64Array, keyed_bits, uniform_from_bits
from usvs.utils.text import shell_command

ZOOM_NUMBER = 4 + 2 * ORDER_FRAMES  # of a frame's random numbers; those before it are taken


def training_frames(frames: UInt8Array, keys: UInt64Array, frame_pixels: int, settings: AugmentSettings) -> Tensor:
    """Augment each frame independently.

    Args:
        frames: uint8 [n, S, S] as prepared.
        keys: uint64 [n], one per frame.
        frame_pixels: P, side of the result, at most S.
        settings: ranges of the augmentation.

    Returns:
        float32 [n, 1, P, P], standardised.

    Raises:
        ConfigError: where the prepared frames are smaller than `frame_pixels`.
    """
    return transform_frames(frames, draw_augment_params(keys, settings), frame_pixels, settings.crop_fraction)


def evaluation_frames(frames: UInt8Array, frame_pixels: int, settings: AugmentSettings) -> Tensor:
    """Crop the centre of each frame and resize it, without randomness.

    Args:
        frames: uint8 [n, S, S] as prepared.
        frame_pixels: P, side of the result, at most S.
        settings: of the training; only `crop_fraction` is used.

    Returns:
        float32 [n, 1, P, P], standardised.

    Raises:
        ConfigError: where the prepared frames are smaller than `frame_pixels`.
    """
    return transform_frames(frames, identity_params(len(frames)), frame_pixels, settings.crop_fraction)


def draw_augment_params(keys: UInt64Array, settings: AugmentSettings) -> AugmentParams:
    """Draw the augmentation parameters of each frame from its key [n]."""
    top, left, flip, gain = uniform_from_bits(keyed_bits(keys, 4)).T
    decibels = (2 * gain - 1) * settings.gain_db
    no_shift = np.zeros((len(keys), 2), np.int64)
    zoom = settings.zoom ** uniform_from_bits(keyed_bits(keys, ZOOM_NUMBER + 1))[:, ZOOM_NUMBER]
    return AugmentParams(top, left, (flip < 0.5) & settings.flip, 10 ** (decibels / 20), no_shift, zoom)


def draw_shared_augment_params(keys: UInt64Array, count: int, settings: AugmentSettings) -> AugmentParams:
    """Draw equal parameters for each group of `count` consecutive frames, so that the frames differ by content only.

    Without zoom, which hides what moves.

    Args:
        keys: uint64 [n], one per group.
        count: frames per group.
        settings: with `order_jitter_pixels` above 0 the crop of each frame is shifted by up to that many pixels, as in
            Lee et al. (ICCV 2017), so that frames cannot be matched by their edges.

    Returns:
        The parameters of n * count frames.
    """
    jitter = settings.order_jitter_pixels
    uniform = uniform_from_bits(keyed_bits(keys, 4 + 2 * count))[:, 4:]  # the first four are `draw_augment_params`'s
    shift = np.floor(uniform * (2 * jitter + 1)).astype(np.int64) - jitter
    params = draw_augment_params(np.repeat(keys, count), settings)
    return params._replace(shift=shift.reshape(-1, 2), zoom=np.ones(len(params.zoom)))


def transform_frames(
    frames: UInt8Array | Tensor, params: AugmentParams, frame_pixels: int, crop_fraction: float
) -> Tensor:
    """Crop, flip, resize and standardise frames with given parameters.

    Args:
        frames: uint8 [n, S, S] as prepared; as a tensor also on a GPU.
        params: of the n frames.
        frame_pixels: P, side of the result, at most S.
        crop_fraction: side of the crop over S.

    Returns:
        float32 [n, 1, P, P], standardised.

    Raises:
        ConfigError: where the prepared frames are smaller than `frame_pixels`.
    """
    return apply_params(frames, params, crop_grid(frames.shape[-1], frame_pixels, crop_fraction), frame_pixels)


def crop_grid(side: int, frame_pixels: int, crop_fraction: float) -> CropGrid:
    """Return `CropGrid.fit` for prepared frames, which are never enlarged.

    Raises:
        ConfigError: where the prepared frames are smaller than the network's input.
    """
    if side < frame_pixels:
        profiles = [name for name in get_args(Profile) if prepare_profile(name).frame_pixels == side]
        fitting = " or ".join(f"--profile {name}" for name in profiles)
        raise ConfigError(
            f"frames of the store: expected at least {frame_pixels} pixels a side (model.frame_pixels), got {side}; "
            + (f"the store was prepared for {fitting}: add that, " if profiles else "")
            + f"set model.frame_pixels to at most {side}, or prepare the store again: "
            + shell_command("usvs", "prepare", "STORE", "--set", f"frame_pixels={frame_pixels}")
        )
    return CropGrid.fit(side, frame_pixels, crop_fraction)


def transform_points(
    points: Float64Array, params: AugmentParams, side: int, frame_pixels: int, crop_fraction: float
) -> Float64Array:
    """Map points of prepared frames to their coordinates in the result of `transform_frames`.

    Args:
        points: [n, k, 2] x and y as fractions of the prepared frame; NaN stays NaN.
        params: of the n frames.
        side: S of the prepared frames.
        frame_pixels: P, side of the result.
        crop_fraction: side of the crop over S.

    Returns:
        [n, k, 2] as fractions of the result; outside of 0 .. 1 for points outside of the crop.
    """
    grid = crop_grid(side, frame_pixels, crop_fraction)
    moved = (points * side - grid.corners(params)[:, None, ::-1]) / grid.extents(params)[:, None, None]
    moved[..., 0] = np.where(params.flip[:, None], 1 - moved[..., 0], moved[..., 0])
    return moved
