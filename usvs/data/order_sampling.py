"""The frame-order task: predict the order of four shuffled frames of a clip, up to reversal (section 2.3).

An order and its reverse are one class, so 4! = 24 orders make 12 classes. The scheme is that of H.-Y. Lee et al.,
"Unsupervised representation learning by sorting sequences", ICCV 2017, doi:10.1109/ICCV.2017.79. The numbering of the
classes is our own and is written out, so that the classes of a checkpoint's order head never change.
"""

from itertools import permutations

import numpy as np
import numpy.typing as npt

from usvs.store.settings import ClipSettings
from usvs.utils.permutation import Float64Array, Int64Array

ORDER_FRAMES = 4

# Class c is this order of the frames and its reverse; of the two, the lexicographically smaller is listed.
ORDER_CLASSES: npt.NDArray[np.int64] = np.array(
    [order for order in permutations(range(ORDER_FRAMES)) if order < order[::-1]], dtype=np.int64
)
ORDER_CLASSES.flags.writeable = False

# All 24 orders: rows 2c and 2c + 1 are class c, forward and backward.
FRAME_ORDERS: npt.NDArray[np.int64] = np.stack([ORDER_CLASSES, ORDER_CLASSES[:, ::-1]], axis=1).reshape(-1, 4)
FRAME_ORDERS.flags.writeable = False


def order_frame_seconds(
    start_seconds: Float64Array, phase: Float64Array, jitter: Float64Array, settings: ClipSettings
) -> Float64Array:
    """Return the times of the four frames of each clip: evenly spaced, each jittered, at a random place in the clip.

    Args:
        start_seconds: [B] starts of the clips.
        phase: [B] uniform in [0, 1), position of the four frames in the clip.
        jitter: [B, 4] uniform in [0, 1), mapped to plus or minus `order_jitter_seconds`.
        settings: spacing, jitter and length of the clip, validated so that the four frames fit.

    Returns:
        [B, 4] increasing times in [start, start + clip_seconds).
    """
    spacing, reach = settings.order_spacing_seconds, settings.order_jitter_seconds
    slack = settings.clip_seconds - (ORDER_FRAMES - 1) * spacing - 2 * reach
    first = start_seconds + reach + phase * max(slack, 0.0)
    seconds = first[:, None] + spacing * np.arange(ORDER_FRAMES) + reach * (2 * jitter - 1)
    last_moment = np.nextafter(start_seconds + settings.clip_seconds, start_seconds)
    return np.clip(seconds, start_seconds[:, None], last_moment[:, None])


def shuffle_frames(chronological: Float64Array, order: Int64Array) -> tuple[Float64Array, Int64Array]:
    """Return the times in the order shown, and the class of that order.

    Args:
        chronological: [B, 4] increasing times.
        order: [B] row of FRAME_ORDERS, uniform in 0 .. 23.

    Returns:
        shown [B, 4], where shown[:, k] = chronological[:, p[k]] with p the row; class [B] int64 in 0 .. 11.
    """
    return np.take_along_axis(chronological, FRAME_ORDERS[order], axis=1), order // 2
