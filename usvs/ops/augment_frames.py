"""Crop, mirror, resize, gain and standardisation of gray frames, in one pass on the CPU.

Notation: n frames of side S, results of side P, h halvings. A frame is halved h times by means of 2 x 2 pixels, then
interpolated bilinearly at positions that are multiples of 1 / 2**b pixels, b = 8 - h. A weight then has b bits, a mean
of 4**h gray levels 8 + 2 h bits, and a pixel of the result 8 + 2 h + 2 b = 24 bits, which float32 holds exactly. So
every implementation gives the same bits, in any order of operations and on any device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHT_BITS = 8
MOST_HALVINGS = 4


def augment_frames(
    frames: Tensor,  # [n, S, S] uint8
    corner: Tensor,  # [n, 2] int64
    flip: Tensor,  # [n] bool
    slope: Tensor,  # [n] float32
    pixels: int,
    step: int,
    halvings: int,
    ceiling: float,
    offset: float,
) -> Tensor:
    """Crop, mirror, resize and standardise gray frames: min(slope * level, ceiling) - offset of each resized crop.

    Pixel (y, x) of the result is at position corner / 2**h + s * ((y, x) + 1/2) - 1/2 of the halved frame, where
    s = step / 2**(b - 1); positions outside of the frame are clamped to its edge. Equal to `augment_frames_reference`,
    bit for bit. Not differentiable.

    Args:
        frames: [n, S, S] uint8, gray levels, on the CPU.
        corner: [n, 2] int64, row and column of each crop's top left corner, in pixels of the frame, 0 .. S - 1.
        flip: [n] bool, whether the crop is mirrored left to right.
        slope: [n] float32, units of the result per gray level.
        pixels: P, side of the result.
        step: distance between pixels of the result, in units of 1 / 2**(b - 1) pixels of the halved frame.
        halvings: h, 0 .. 4.
        ceiling: value at which slope * level saturates.
        offset: subtracted at the end.

    Returns:
        [n, 1, P, P] float32.

    Raises:
        RuntimeError: for another shape or dtype, or a number out of range.
    """
    augmented: Tensor = torch.ops.usvs.augment_frames(
        frames, corner, flip, slope, pixels, step, halvings, ceiling, offset
    )
    return augmented


def augment_frames_reference(
    frames: Tensor,  # [n, S, S] uint8
    corner: Tensor,  # [n, 2] int64
    flip: Tensor,  # [n] bool
    slope: Tensor,  # [n] float32
    pixels: int,
    step: int,
    halvings: int,
    ceiling: float,
    offset: float,
) -> Tensor:
    """Compute `augment_frames` in plain torch; same arguments and result."""
    halved = F.avg_pool2d(frames.unsqueeze(1).float(), 2**halvings).squeeze(1)  # [n, S', S']
    bits, last = WEIGHT_BITS - halvings, halved.shape[1] - 1
    position = (
        corner.unsqueeze(2) * 2 ** (bits - halvings)
        - 2 ** (bits - 1)
        + step * (2 * torch.arange(pixels, device=frames.device) + 1)
    )
    position = position.clamp(0, last * 2**bits)  # [n, 2, P]
    row, column = (position // 2**bits).unbind(1)
    row_weight, column_weight = ((position % 2**bits).float() / 2**bits).unbind(1)
    n = torch.arange(len(frames), device=frames.device)[:, None]
    level = halved
    for index, weight in ((row, row_weight.unsqueeze(2)), (column, column_weight.unsqueeze(2))):
        level = level[n, index] * (1 - weight) + level[n, (index + 1).clamp(max=last)] * weight
        level = level.transpose(1, 2)  # [n, S', P], then [n, P, P]
    level = torch.where(flip[:, None, None], level.flip(2), level)
    return ((level * slope[:, None, None]).clamp(max=ceiling) - offset).unsqueeze(1)


def _fake(
    frames: Tensor,
    corner: Tensor,
    flip: Tensor,
    slope: Tensor,
    pixels: int,
    step: int,
    halvings: int,
    ceiling: float,
    offset: float,
) -> Tensor:
    return slope.new_empty(frames.shape[0], 1, pixels, pixels)


torch.library.register_fake("usvs::augment_frames", _fake)
