"""A crop of each gray frame, mirrored, resized, amplified and standardised, in one pass on the CPU.

n frames of side S become P pixels a side. A frame is halved h times by means of 2 x 2, then read bilinearly at places
that are multiples of 1 / 2**b pixels, b = 8 - h. A weight then has b bits, a mean of 4**h gray levels 8 + 2 h, and
a pixel of the result 8 + 2 h + 2 b = 24: float32 holds it exactly. Whoever computes it, in whatever order, on whatever
device, gets the same bits.
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
    """Return min(slope * level, ceiling) - offset, where level is the gray level of the resized crop.

    Pixel (y, x) of the result lies at corner / 2**h + s * ((y, x) + 1/2) - 1/2 of the halved frame, where
    s = step / 2**(b - 1); places outside of it are moved to its edge. Equal to `augment_frames_reference`, bit for bit.

    Args:
        frames: gray levels.
        corner: row and column of each crop, pixels of the frame.
        flip: whether the crop is mirrored left to right.
        slope: result per gray level.
        pixels: P.
        step: distance of the result's pixels in units of 1 / 2**(b - 1) pixels of the halved frame.
        halvings: h, 0 .. 4.
        ceiling: where slope * level saturates.
        offset: taken off at the end.

    Returns:
        [n, 1, P, P] float32.

    Raises:
        RuntimeError: for another shape or dtype, or a number out of range.
    """
    varied: Tensor = torch.ops.usvs.augment_frames(frames, corner, flip, slope, pixels, step, halvings, ceiling, offset)
    return varied


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
    """Say in plain torch what `augment_frames` computes; arguments and result are the same."""
    halved = F.avg_pool2d(frames.unsqueeze(1).float(), 2**halvings).squeeze(1)  # [n, S', S']
    bits, last = WEIGHT_BITS - halvings, halved.shape[1] - 1
    place = corner.unsqueeze(2) * 2 ** (bits - halvings) - 2 ** (bits - 1) + step * (2 * torch.arange(pixels) + 1)
    place = place.clamp(0, last * 2**bits)  # [n, 2, P]
    row, column = (place // 2**bits).unbind(1)
    below, right = ((place % 2**bits).float() / 2**bits).unbind(1)
    n = torch.arange(len(frames))[:, None]
    level = halved
    for place, part in ((row, below.unsqueeze(2)), (column, right.unsqueeze(2))):
        level = level[n, place] * (1 - part) + level[n, (place + 1).clamp(max=last)] * part
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
