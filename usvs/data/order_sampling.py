"""The frame-order task: four frames of a clip, shuffled, to be told apart up to reversal (section 2.3).

Played forward or backward is the same class, so 4! = 24 orders make 12 classes. The scheme is that of H.-Y. Lee et al.,
"Unsupervised representation learning by sorting sequences", ICCV 2017, doi:10.1109/ICCV.2017.79. The numbering of the
classes is ours and is written out, so that a checkpoint's order head keeps its meaning.
"""

import numpy as np
import numpy.typing as npt

from usvs.store.settings import ClipSettings
from usvs.utils.permutation import Float64Array, Int64Array

ORDER_FRAMES = 4

# Class c shows the frames in this order or in its reverse; of the two, the lexicographically smaller stands here.
ORDER_CLASSES: npt.NDArray[np.int64] = np.array(
    [
        (0, 1, 2, 3),
        (0, 1, 3, 2),
        (0, 2, 1, 3),
        (0, 2, 3, 1),
        (0, 3, 1, 2),
        (0, 3, 2, 1),
        (1, 0, 2, 3),
        (1, 0, 3, 2),
        (1, 2, 0, 3),
        (1, 3, 0, 2),
        (2, 0, 1, 3),
        (2, 1, 0, 3),
    ],
    dtype=np.int64,
)
ORDER_CLASSES.flags.writeable = False

# All 24 orders: rows 2c and 2c + 1 are class c, forward and backward.
SHOWN_ORDERS: npt.NDArray[np.int64] = np.stack([ORDER_CLASSES, ORDER_CLASSES[:, ::-1]], axis=1).reshape(-1, 4)
SHOWN_ORDERS.flags.writeable = False


def chronological_seconds(
    start_seconds: Float64Array, phase: Float64Array, jitter: Float64Array, settings: ClipSettings
) -> Float64Array:
    """Return when the four frames of each clip were seen: evenly spaced, each moved a little, the whole placed freely.

    Args:
        start_seconds: [B] starts of the clips.
        phase: [B] uniform in [0, 1), where in the clip the four lie.
        jitter: [B, 4] uniform in [0, 1), mapped to plus or minus `order_jitter_seconds`.
        settings: spacing, jitter and length of the clip; their record sees to it that the four fit.

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
        order: [B] row of SHOWN_ORDERS, uniform in 0 .. 23.

    Returns:
        shown [B, 4], where shown[:, k] = chronological[:, p[k]] with p the row; class [B] int64 in 0 .. 11.
    """
    return np.take_along_axis(chronological, SHOWN_ORDERS[order], axis=1), order // 2
