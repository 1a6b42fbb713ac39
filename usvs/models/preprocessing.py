"""Gray frames to network input: crop, mirror, resize, gain and standardisation.

One transform serves training, evaluation and `Encoder.preprocess`. Crop positions are on the grid on which the
resize is exact in float32 (`usvs.ops.augment_frames`), so that every data loader computes the same bits.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from usvs import ops
from usvs.errors import DataError
from usvs.utils.permutation import Float64Array

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


class PilImage(Protocol):
    """An image of PIL, which is not imported for this."""

    @property
    def mode(self) -> str:
        """Kind of its pixels, for example ``L`` for gray levels of 8 bits."""
        ...

    def convert(self, mode: str) -> Any:
        """Return the image with pixels of another kind."""
        ...


# uint8 arrays or tensors [H, W], [H, W, 3], [n, H, W], [n, H, W, C] or [n, C, H, W] with C 1 or 3; PIL images; lists.
Images: TypeAlias = npt.NDArray[Any] | Tensor | PilImage | Sequence[Any]

# Mean and standard deviation of gray levels in 0 .. 1 that frames are standardised with. Not from the paper: rounded
# values of what is inside the sector of typical scans.
GRAY_MEAN, GRAY_SPREAD = 0.25, 0.25
CEILING, OFFSET = 1 / GRAY_SPREAD, GRAY_MEAN / GRAY_SPREAD  # white and black in standardised units
CROP_FRACTION = 0.9  # side of the central crop over side of the frame, as in both training profiles


class AugmentParams(NamedTuple):
    """Augmentation parameters of n frames.

    Attributes:
        top: [n] vertical position of the square crop, 0 (topmost) to below 1 (lowest).
        left: [n] horizontal position, 0 (leftmost) to below 1 (rightmost).
        flip: [n] bool, mirrored left to right.
        gain: [n] factor on the displayed gray level, which saturates at white.
        shift: [n, 2] pixels by which the crop is moved down and right, clipped to the frame.
        zoom: [n] factor of at least 1 that the side of the crop is divided by.
    """

    top: Float64Array
    left: Float64Array
    flip: npt.NDArray[np.bool_]
    gain: Float64Array
    shift: npt.NDArray[np.int64]
    zoom: Float64Array


def identity_params(n: int) -> AugmentParams:
    """Return the parameters of evaluation for n frames: the central crop, nothing else."""
    centre = np.full(n, 0.5)
    one = np.ones(n)
    return AugmentParams(centre, centre, np.zeros(n, np.bool_), one, np.zeros((n, 2), np.int64), one)


class CropGrid(NamedTuple):
    """Sampling grid of a square crop of a frame; see `usvs.ops.augment_frames`.

    Attributes:
        side: of the frame, pixels.
        frame_pixels: P, side of the result.
        halvings: how often the frame is halved before it is sampled, so that no pixel is skipped.
        step: pixels of the halved frame per pixel of the result without zoom, in units of 1 / 2**(7 - halvings).
    """

    side: int
    frame_pixels: int
    halvings: int
    step: int

    def steps(self, params: AugmentParams) -> npt.NDArray[np.int64]:
        """Return the step of each crop [n]."""
        return np.maximum(1, np.floor(self.step / params.zoom)).astype(np.int64)

    def scales(self, params: AugmentParams) -> Float64Array:
        """Return the pixels of the halved frame per pixel of the result, for each crop [n]."""
        return self.steps(params) / float(2 ** (ops.WEIGHT_BITS - 1 - self.halvings))

    def extents(self, params: AugmentParams) -> Float64Array:
        """Return the side of each crop [n], in pixels of the frame."""
        return self.scales(params) * float(self.frame_pixels * 2**self.halvings)

    def corners(self, params: AugmentParams) -> npt.NDArray[np.int64]:
        """Return row and column of each crop's top left corner [n, 2], in pixels of the frame."""
        largest = np.maximum(0, self.side - np.ceil(self.extents(params)).astype(np.int64))[:, None]
        position = np.stack([params.top, params.left], axis=1)
        corner = np.floor(position * (largest + 1)).astype(np.int64)
        shifted: npt.NDArray[np.int64] = np.clip(corner + params.shift, 0, largest)
        return shifted

    @classmethod
    def fit(cls, side: int, frame_pixels: int, crop_fraction: float) -> "CropGrid":
        """Return the grid of a crop of `crop_fraction` of a frame's side.

        The crop is smaller than asked for by what the grid cannot express: less than `frame_pixels` / 128 pixels of the
        halved frame.

        Args:
            side: of the square frame, pixels.
            frame_pixels: side of the result; a smaller frame is enlarged.
            crop_fraction: side of the crop over `side`.
        """
        crop = max(1, round(crop_fraction * side))
        halvings = min(max(0, int(np.log2(crop / frame_pixels))), ops.MOST_HALVINGS)
        unit = 2 ** (ops.WEIGHT_BITS - 1 - halvings)
        return cls(side, frame_pixels, halvings, max(1, int(crop * unit / 2**halvings / frame_pixels)))


def slopes(gain: Float64Array) -> Float32Array:
    """Return standardised units per gray level under each gain [n]."""
    return (gain / (255 * GRAY_SPREAD)).astype(np.float32)


def apply_params(frames: UInt8Array | Tensor, params: AugmentParams, grid: CropGrid, frame_pixels: int) -> Tensor:
    """Crop, mirror, amplify, resize and standardise frames.

    Args:
        frames: uint8 [n, S, S] gray levels; a tensor may be on a GPU, and so is the result then, with the same bits.
        params: of the n frames.
        grid: of the crop, for frames of side S and results of side P.
        frame_pixels: P.

    Returns:
        float32 [n, 1, P, P]: (min(gain * level / 255, 1) - `GRAY_MEAN`) / `GRAY_SPREAD`.
    """
    steps, corners, slope = grid.steps(params), grid.corners(params), slopes(params.gain)
    levels = frames if isinstance(frames, Tensor) else torch.from_numpy(frames)
    device = levels.device
    augment = ops.augment_frames if device.type == "cpu" else ops.augment_frames_reference
    result = torch.empty(len(frames), 1, frame_pixels, frame_pixels, device=device)
    for step in np.unique(steps).tolist():  # one step for each zoom
        rows = np.flatnonzero(steps == step)
        every, chosen = len(rows) == len(frames), torch.from_numpy(rows).to(device)
        part = augment(
            levels if every else levels[chosen],
            torch.from_numpy(corners[rows]).to(device),
            torch.from_numpy(params.flip[rows]).to(device),
            torch.from_numpy(slope[rows]).to(device),
            frame_pixels,
            step,
            grid.halvings,
            CEILING,
            OFFSET,
        )
        if every:
            return part
        result[chosen] = part
    return result


def preprocess_images(images: Images, frame_pixels: int, crop_fraction: float = CROP_FRACTION) -> Tensor:
    """Return images as the evaluation of usvs feeds them to a network; no randomness.

    Square gray images give what `usvs.data.transforms.evaluation_frames` gives for prepared frames. Colour is averaged
    over the three channels. Of an image that is not square the central square is used; what is outside is ignored, so
    crop to the sector first where it is not in the centre. Images smaller than `frame_pixels` are enlarged.

    Args:
        images: uint8 gray levels or RGB, 0 .. 255: an array or a tensor [H, W], [H, W, 3], [n, H, W], [n, H, W, C] or
            [n, C, H, W] with C 1 or 3; a PIL image; or a list of any of these, whose sizes may differ. A 3-dimensional
            array is one RGB image where its last dimension is 3, and n gray images otherwise.
        frame_pixels: P, side of the result.
        crop_fraction: side of the central crop over the side of the square.

    Returns:
        float32 [n, 1, P, P] on the CPU.

    Raises:
        DataError: for another dtype or shape, and where there is no image.
    """
    frames = [square for item in _as_list(images) for square in _gray_squares(item)]
    if not frames:
        raise DataError("images: expected at least one, got none")
    results = []
    for stack in frames:
        grid = CropGrid.fit(stack.shape[-1], frame_pixels, crop_fraction)
        results.append(apply_params(stack, identity_params(len(stack)), grid, frame_pixels))
    return torch.cat(results)


def prepared_side(frame_pixels: int, crop_fraction: float) -> int:
    """Return the side of prepared frames from which an input of `frame_pixels` is cropped: 72 for 64, 256 for 224."""
    return 8 * math.ceil(frame_pixels / crop_fraction / 8)


def _as_list(images: Images) -> Sequence[Any]:
    return images if isinstance(images, (list, tuple)) else [images]


def _gray_squares(item: Any) -> list[UInt8Array]:
    """Return the central squares [k, S, S] of the k images of one array, tensor or PIL image; none where k is 0."""
    gray = _gray_levels(_as_array(item))
    height, width = gray.shape[1:]
    side = min(height, width)
    if side == 0:
        raise DataError(f"images: expected at least one pixel a side, got shape {list(gray.shape)}")
    top, left = (height - side) // 2, (width - side) // 2
    square = np.require(gray[:, top : top + side, left : left + side], requirements=("C", "W"))  # for torch.from_numpy
    return [square] if len(square) else []


def _as_array(item: Any) -> npt.NDArray[Any]:
    if isinstance(item, Tensor):
        return item.detach().cpu().numpy()
    if hasattr(item, "convert") and hasattr(item, "mode"):  # PIL, which is not imported for this
        if str(item.mode).startswith(("I", "F")):
            raise DataError(f"images: expected a PIL image of 8 bits a channel, got mode '{item.mode}'")
        return np.asarray(item if item.mode == "L" else item.convert("RGB"))
    return np.asarray(item)


def _gray_levels(array: npt.NDArray[Any]) -> UInt8Array:
    """Return gray levels [k, H, W] of an array in any of the accepted layouts."""
    if array.dtype != np.uint8:
        raise DataError(f"images: expected uint8 gray levels or RGB in 0 .. 255, got {array.dtype}")
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        return _channel_mean(array[None], axis=3) if array.shape[2] == 3 else array
    if array.ndim == 4:
        for axis in (3, 1):
            if array.shape[axis] in (1, 3):
                return _channel_mean(array, axis)
    raise DataError(
        "images: expected shape [H, W], [H, W, 3], [n, H, W], [n, H, W, C] or [n, C, H, W] with C 1 or 3, "
        f"got {list(array.shape)}"
    )


def _channel_mean(array: UInt8Array, axis: int) -> UInt8Array:
    channels = array.shape[axis]
    # half a level up before the division: the mean rounded to the nearest level
    mean: UInt8Array = ((array.sum(axis=axis, dtype=np.uint16) + channels // 2) // channels).astype(np.uint8)
    return mean
