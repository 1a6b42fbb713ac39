"""How a prepared frame becomes a network's input: cropped, mirrored, amplified, resized, standardised.

Training varies a frame by a key alone, so that a sample looks the same whoever loads it; evaluation has no randomness.
Places lie on a grid on which the resize is exact in float32 (`usvs.ops.augment_frames`): every loader gives the same bits.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from usvs import ops
from usvs.data.settings import AugmentSettings
from usvs.errors import ConfigError
from usvs.utils.permutation import Float64Array, UInt64Array, keyed_bits, uniform_from_bits

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

# Gray levels are displayed in 0 .. 1; ours: about the mean and spread of a fan's inside.
GRAY_MEAN, GRAY_SPREAD = 0.25, 0.25
CEILING, OFFSET = 1 / GRAY_SPREAD, GRAY_MEAN / GRAY_SPREAD  # white saturates; in standardised units


class AugmentParams(NamedTuple):
    """What is done to each of n frames.

    Attributes:
        top: [n] place of the square crop, 0 (topmost) to below 1 (lowest).
        left: [n] the same from left to right.
        flip: [n] bool, mirrored left to right.
        gain: [n] factor on the displayed gray level, which saturates at white.
        shift: [n, 2] pixels by which the crop is moved further down and right, as far as the frame goes.
    """

    top: Float64Array
    left: Float64Array
    flip: npt.NDArray[np.bool_]
    gain: Float64Array
    shift: npt.NDArray[np.int64]


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


def identity_params(n: int) -> AugmentParams:
    """Return what evaluation does to n frames: the central crop and nothing else."""
    centre = np.full(n, 0.5)
    return AugmentParams(centre, centre, np.zeros(n, np.bool_), np.ones(n), np.zeros((n, 2), np.int64))


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
    grid = crop_grid(frames.shape[-1], frame_pixels, crop_fraction)
    corner, slope = grid.corners(variation), slopes(variation.gain)
    flip = torch.from_numpy(variation.flip)
    return ops.augment_frames(
        torch.from_numpy(frames),
        torch.from_numpy(corner),
        flip,
        torch.from_numpy(slope),
        frame_pixels,
        grid.step,
        grid.halvings,
        CEILING,
        OFFSET,
    )


def slopes(gain: Float64Array) -> Float32Array:
    """Return the standardised units per gray level under each gain [n]."""
    return (gain / (255 * GRAY_SPREAD)).astype(np.float32)


class CropGrid(NamedTuple):
    """How a square crop of a prepared frame is laid onto the pixels of a network's input; see `usvs.ops.augment_frames`.

    Attributes:
        halvings: how often the frame is halved first, so that no pixel is skipped.
        step: pixels of the halved frame per pixel of the result, in units of 1 / 2**(7 - halvings).
        extent: side of the crop, pixels of the frame.
        room: how far down or right the crop's corner can lie, pixels of the frame.
    """

    halvings: int
    step: int
    extent: float
    room: int

    @property
    def scale(self) -> float:
        """Pixels of the halved frame per pixel of the result."""
        return self.step / float(2 ** (ops.WEIGHT_BITS - 1 - self.halvings))

    def corners(self, variation: AugmentParams) -> npt.NDArray[np.int64]:
        """Return row and column of each crop [n, 2], in pixels of the frame."""
        place = np.stack([variation.top, variation.left], axis=1)
        corner = np.floor(place * (self.room + 1)).astype(np.int64)
        moved: npt.NDArray[np.int64] = np.clip(corner + variation.shift, 0, self.room)
        return moved


def crop_grid(side: int, frame_pixels: int, crop_fraction: float) -> CropGrid:
    """Lay out the crop of `crop_fraction` of a frame's side; it is smaller by what the grid cannot express.

    Raises:
        ConfigError: where the frames are smaller than what is asked for.
    """
    if side < frame_pixels:
        raise ConfigError(
            f"model.frame_pixels is {frame_pixels}, but the store's frames have {side}: "
            f"prepare the store again with frame_pixels of at least {frame_pixels}, or ask for less"
        )
    crop = max(1, round(crop_fraction * side))
    halvings = min(max(0, int(np.log2(crop / frame_pixels))), ops.MOST_HALVINGS)
    unit = 2 ** (ops.WEIGHT_BITS - 1 - halvings)
    step = max(1, int(crop * unit / 2**halvings / frame_pixels))
    extent = step / unit * frame_pixels * 2**halvings
    return CropGrid(halvings, step, extent, side - int(np.ceil(extent)))


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
