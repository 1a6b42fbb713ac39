"""Robust fit of a sector's geometry to the outlines of what is active in the frames.

Evidence. The active pixels at several levels of contrast have an outline each. Where the image ends in a step, at the
edges of the sector, the outlines of all levels coincide in a straight line or an arc; where it fades (dark depth, a
flank without contact, fluid) they are apart and irregular.

Fit. Every line and arc is scored by the outline points on it (support) minus the outline points beyond it, which would
be active pixels outside of the sector; inside, nothing needs to be active. For lines, a Hough transform gives this score for
all slopes and positions at once. Both edges have the same slope, mirrored, so one visible edge and an arc
determine the other edge. Outline points at the border of the image are beyond every line inside the image and support none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Curve, Mask, SectorGeometry

Array = NDArray[np.float64]

# Edges: angles to the vertical; transducers open at most by 2 x 60 degrees.
ANGLE_STEP_DEGREES, MAX_ANGLE_DEGREES = 1.5, 57.0
TOLERANCE_FRACTION = 0.008  # of the shorter side: distance at which an outline point supports a curve, at least 1.5 px
BEYOND_CAP = 4.0  # tolerances: points further beyond are outliers, each costs the same
BEYOND_WEIGHT = 1.5  # cost of an outlier, in supporting points
WIDTH_WEIGHT = 0.05  # cost per pixel of width, so that of two equally supported sectors the narrower one is taken
CANDIDATES = 3  # positions per slope and side
EXAMINED = 20  # pairs of edges for which arcs are fitted


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


@dataclass(frozen=True)
class Fit:
    """A geometry and what supports it; `score` and `possible` are in outline points per level."""

    geometry: SectorGeometry
    score: float
    confidence: float


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


def score_positions(points: Array, clipped: Mask, first: int, bins: int, tolerance: float) -> Array:
    """Return support minus cost of the bins `first`, `first` + 1, ... as a limit that points should not exceed.

    Args:
        points: [K, N] positions, NaN where there is none.
        clipped: [K, N] points at the border of the image; they support nothing.
        first: position of bin 0.
        bins: number of positions.
        tolerance: half width of the support, px.

    Returns:
        [K, bins].
    """
    count = points.shape[0]
    offset = (np.arange(count) * bins)[:, None]
    is_point = ~np.isnan(points)
    index = np.clip(np.nan_to_num(points, nan=0.0) - first, 0, bins - 1).astype(np.int64) + offset
    every = np.bincount(index[is_point], minlength=count * bins).reshape(count, bins)
    visible = np.bincount(index[is_point & ~clipped], minlength=count * bins).reshape(count, bins)
    reach, cap = max(1, round(tolerance)), max(2, round(BEYOND_CAP * tolerance))
    cumulative = np.pad(np.cumsum(visible, axis=1), ((0, 0), (reach + 1, reach)), mode="edge")
    cumulative[:, : reach + 1] = 0
    support = cumulative[:, 2 * reach + 1 :] - cumulative[:, : -2 * reach - 1]
    tail = np.pad(np.cumsum(every[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, reach + cap + 1)))  # points >= bin
    summed = np.pad(np.cumsum(tail, axis=1), ((0, 0), (1, 0)))
    beyond = (summed[:, reach + 1 + cap :] - summed[:, reach + 1 : -cap])[:, :bins] / cap
    result: Array = support - BEYOND_WEIGHT * beyond
    return result


def fit_geometry(masks: Mask) -> Fit | None:
    """Fit a sector to masks of active pixels [T, H, W], from little to much contrast; None if nothing is active."""
    if not masks.any():
        return None
    height, width = masks.shape[1:]
    tolerance = max(1.5, TOLERANCE_FRACTION * min(height, width))
    outlines = trace_outlines(masks)
    best: Fit | None = None
    for axis, half_width, slope, score in _edge_candidates(outlines, height, width, tolerance):
        fit = _fit_curves(masks, outlines, (axis, half_width, slope), score, tolerance)
        if best is None or fit.score > best.score:
            best = fit
    return best


def _edge_candidates(
    outlines: Outlines, height: int, width: int, tolerance: float
) -> Iterator[tuple[float, float, float, float]]:
    """Yield axis, half width in row 0, slope and score of the best pairs of edges."""
    levels = outlines.left.shape[0]
    rows = np.arange(height) + 0.5
    slopes = np.tan(np.radians(np.arange(0, MAX_ANGLE_DEGREES, ANGLE_STEP_DEGREES)))
    reach = int(slopes[-1] * height) + 2
    # Both sides as limits to the right of which nothing should be active: the left one is mirrored.
    sides = []
    for edge in (width - outlines.left, outlines.right):
        points = (edge[None] - slopes[:, None, None] * rows).reshape(len(slopes), -1)
        clipped = np.broadcast_to((edge >= width - 1)[None], (len(slopes), *edge.shape)).reshape(points.shape)
        sides.append(score_positions(points, clipped, -reach, reach + width + 2, 1.5 * tolerance) / levels)
    found: list[tuple[float, float, float, float]] = []
    for number, slope in enumerate(slopes):
        left, right = (_peaks(side[number], CANDIDATES, int(4 * tolerance)) for side in sides)
        for left_bin, left_score in left:
            for right_bin, right_score in right:
                first, last = width - (left_bin - reach + 0.5), right_bin - reach + 0.5  # columns in row 0
                half_width, axis = (last - first) / 2, (first + last) / 2
                extent = min(width, axis + half_width + slope * height) - max(0, axis - half_width - slope * height)
                if extent > 0.1 * width:
                    found.append((axis, half_width, slope, left_score + right_score - WIDTH_WEIGHT * extent))
    found.sort(key=lambda one: -one[3])
    yield from found[:EXAMINED]


def _peaks(scores: Array, count: int, apart: int) -> list[tuple[int, float]]:
    scores, found = scores.copy(), []
    for _ in range(count):
        best = int(scores.argmax())
        found.append((best, float(scores[best])))
        scores[max(0, best - apart) : best + apart + 1] = -np.inf
    return found


def _fit_curves(
    masks: Mask, outlines: Outlines, edges: tuple[float, float, float], edge_score: float, tolerance: float
) -> Fit:
    axis, half_width, slope = edges
    levels, height, width = masks.shape
    across = np.arange(width) + 0.5 - axis
    apex = -half_width / slope if slope > 0 else None
    reach = half_width + slope * height
    inside = np.abs(across) < reach
    top, top_score = _fit_curve(-outlines.top[:, inside], across[inside], apex, -1, height, tolerance)
    bottom, bottom_score = _fit_curve(outlines.bottom[:, inside], across[inside], apex, 1, height, tolerance)
    score = edge_score + (top_score + bottom_score) / levels
    return Fit(SectorGeometry(axis, half_width, slope, top, bottom), score, 0.0)


def _fit_curve(
    points: Array, across: Array, apex: float | None, sign: int, height: int, tolerance: float
) -> tuple[Curve, float]:
    """Fit the bottom curve (sign 1), or the top curve to negated rows (sign -1)."""
    clipped = (points >= height - 1) if sign > 0 else (points >= -1)
    candidates = []
    for centre in (None, apex) if apex is not None else (None,):
        positions = points if centre is None else sign * np.hypot(across, sign * points - centre)
        low = np.nanmin(positions, initial=0.0)
        high = np.nanmax(positions, initial=0.0)
        first, bins = int(low) - 2, int(high - low) + 6
        scores = score_positions(positions.reshape(1, -1), clipped.reshape(1, -1), first, bins, tolerance)[0]
        best = int(scores.argmax())
        limit = sign * (first + best + 0.5)
        candidates.append((float(scores[best]), Curve(limit if centre is None else centre + limit, centre)))
    score, curve = max(candidates, key=lambda one: one[0])
    return curve, score
