"""Outlines of active areas, and the score of a limit that they should touch and not exceed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Mask

Array = NDArray[np.float64]

SAMPLES = 64
BEYOND_CAP = 4.0  # tolerances: points further beyond a limit are outliers, which all cost the same
LEVEL_COSTS = (0.5, 0.75, 1.5, 1.5, 1.5, 1.5)  # of an outlier at each level of contrast; a point that supports counts 1


@dataclass(frozen=True)
class Outlines:
    """First and last active pixel of every row and column at several levels; NaN where none is active.

    Attributes:
        left: [T, H], column; likewise `right` (exclusive).
        top: [T, W], row; likewise `bottom` (exclusive).
    """

    left: Array
    right: Array
    top: Array
    bottom: Array


def sampling_step(side: int) -> int:
    """Return every how many rows or columns an outline is sampled for the search: about `SAMPLES` are enough."""
    return max(1, round(side / SAMPLES))


def trace_outlines(masks: Mask) -> Outlines:
    """Return the outlines of masks [T, H, W]."""
    height, width = masks.shape[1:]
    in_row, in_column = masks.any(axis=2), masks.any(axis=1)
    return Outlines(
        np.where(in_row, masks.argmax(axis=2), np.nan),
        np.where(in_row, width - masks[:, :, ::-1].argmax(axis=2), np.nan),
        np.where(in_column, masks.argmax(axis=1), np.nan),
        np.where(in_column, height - masks[:, ::-1].argmax(axis=1), np.nan),
    )


def trace_tops(masks: Mask, top: Array, first_rows: NDArray[np.int64]) -> Array:
    """Return the first active row at or below each of K rows [K, T, W], NaN where there is none.

    Args:
        masks: [T, H, W].
        top: upper outline [T, W] of all rows.
        first_rows: [K].
    """
    different, which = np.unique(first_rows, return_inverse=True)
    tops = [
        np.where(masks[:, row:].any(axis=1), masks[:, row:].argmax(axis=1) + row, np.nan) if row > 0 else top
        for row in different
    ]
    return np.stack(tops)[which]


def score_limits(points: Array, clipped: Mask, first: int, bins: int, tolerance: float) -> Array:
    """Score the positions `first`, `first` + 1, ... as a limit: points on it less the cost of the points beyond it.

    Args:
        points: [K, T, N] positions of N outline points at T levels in K coordinate systems, NaN where there is none.
        clipped: as `points`: whether a point is at the border of the image, where it supports nothing.
        first: position of the first bin.
        bins: number of positions.
        tolerance: half width of the support, px.

    Returns:
        [K, bins], in points of all levels.
    """
    count, levels = points.shape[:2]
    index = np.maximum(points - first, 0)
    is_missing = np.isnan(index)
    np.minimum(index, bins - 1, out=index)
    index[is_missing] = bins  # of no position
    numbers = index.astype(np.int64) + ((bins + 1) * np.arange(count))[:, None, None]
    costs = np.broadcast_to(np.array(LEVEL_COSTS[-levels:])[:, None], points.shape)
    total = (bins + 1) * count
    cost = np.bincount(numbers.ravel(), costs.ravel(), total).reshape(count, bins + 1)[:, :bins]
    visible = np.bincount(numbers[~clipped], minlength=total).reshape(count, bins + 1)[:, :bins]
    reach, cap = max(1, round(tolerance)), max(2, round(BEYOND_CAP * tolerance))
    before = np.zeros((count, bins + 2 * reach + 1), np.int64)  # written in parts: np.pad takes ten times as long
    inside = np.cumsum(visible, axis=1, out=before[:, reach + 1 : reach + 1 + bins])
    before[:, reach + 1 + bins :] = inside[:, -1:]
    support = before[:, 2 * reach + 1 :] - before[:, : -2 * reach - 1]
    tail = np.zeros((count, bins + reach + cap + 1))  # cost of the points at or after a position
    np.cumsum(cost[:, ::-1], axis=1, out=tail[:, bins - 1 :: -1])
    summed = np.zeros((count, tail.shape[1] + 1))
    np.cumsum(tail, axis=1, out=summed[:, 1:])
    beyond = (summed[:, reach + 1 + cap :] - summed[:, reach + 1 : -cap])[:, :bins] / cap
    result: Array = support - beyond
    return result
