"""Candidates for the two straight edges of a sector, by a Hough transform of the outlines."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Mask, SectorGeometry
from usvs.media.sector_outlines import Array, Outlines, sampling_step, score_limits

# Angles to the vertical; transducers open at most by 2 x 57 degrees.
ANGLE_STEP_DEGREES, MAX_ANGLE_DEGREES = 1.5, 57.0
WIDTH_WEIGHT = 0.05  # cost per pixel of width, so that of two equally supported sectors the narrower one is taken
MIN_WIDTH_FRACTION = 0.1  # of the image
PEAKS = 3  # positions per slope and side
PAIRS, ONE_SIDED = 16, 6  # candidates: pairs of edges; edges of each side whose other edge follows from an arc
MIN_APEX_SLOPE = 0.1  # of an edge from which an arc determines the apex
ARC_LEVELS = 2  # levels from this one on have the arcs that determine the other edge
MIN_PAIRS = 10  # pairs of points per level that must meet the edge inside the image
AXIS_BIN_PX = 2.0  # precision of the agreement
PARALLEL_SLOPE = 0.01  # less is 0
MIN_POINTS = 10  # of an edge for a least-squares fit

# --- Headers: bars that cross the edges ---
HEADER_ROWS_FRACTION = 0.25  # of the image height: upper part in which a header may be
HEADER_HEIGHT_FRACTION = 0.12  # of the image height: a taller one is tissue beside wrong edges
BESIDE_FRACTIONS = (0.02, 0.12)  # of the image width: distance from the edge, and width, of the band that is inspected
CLEAR_FRACTION = 0.04  # of the image height: rows below a header in which there is nothing beside the edges
CROSSED, CLEAR = 0.8, 0.3  # fraction of the band that is active in a header, and below it
PAINTED = 0.5  # fraction of the band that is even in a header; tissue has texture


@dataclass(frozen=True)
class Edges:
    """Candidate pairs of edges [K], see `SectorGeometry`; `score` is in outline points per level."""

    axis: Array
    half_width: Array
    slope: Array
    score: Array

    def chosen(self, which: NDArray[np.bool_]) -> "Edges":
        """Return those that are chosen."""
        return Edges(self.axis[which], self.half_width[which], self.slope[which], self.score[which])


def find_edges(outlines: Outlines, height: int, width: int, tolerance: float) -> Edges:
    """Return the best pairs of edges of one slope, mirrored, and some of which one edge is not seen."""
    levels = len(outlines.left)
    slopes = np.tan(np.radians(np.arange(0, MAX_ANGLE_DEGREES, ANGLE_STEP_DEGREES)))
    step = sampling_step(height)
    rows, reach = np.arange(height)[::step] + 0.5, int(slopes[-1] * height) + 2
    # Both are limits to the right of which nothing should be active: the left edge is mirrored.
    sides = []
    for edge in (width - outlines.left[:, ::step], outlines.right[:, ::step]):
        points = edge[None] - slopes[:, None, None] * rows
        clipped = np.broadcast_to(edge >= width - 1, points.shape)
        scores = score_limits(points, clipped, -reach, reach + width + 2, 1.5 * tolerance) * (step / levels)
        positions, values = _find_peaks(scores, int(4 * tolerance))
        sides.append((positions - reach + 0.5, values))
    (left, left_score), (right, right_score) = sides
    shape = (len(slopes), PEAKS, PEAKS)
    table = [left[:, :, None], left_score[:, :, None], right[:, None], right_score[:, None], slopes[:, None, None]]
    pairs = np.stack([np.broadcast_to(one, shape).ravel() for one in table])
    candidates = np.concatenate([pairs, _complete_one(pairs, outlines, height, width)], axis=1)
    left_position, left_value, right_position, right_value, slope = candidates
    first, last = width - left_position, right_position  # columns in row 0
    axis, half_width = (first + last) / 2, (last - first) / 2
    extent = np.minimum(width, axis + half_width + slope * height) - np.maximum(0, axis - half_width - slope * height)
    score = left_value + right_value - WIDTH_WEIGHT * extent
    score[extent < MIN_WIDTH_FRACTION * width] = -np.inf
    best = np.argsort(-score[: pairs.shape[1]], kind="stable")[:PAIRS]
    chosen = np.concatenate([best, np.arange(pairs.shape[1], len(score))])
    chosen = chosen[np.isfinite(score[chosen])]
    return Edges(axis[chosen], half_width[chosen], slope[chosen], score[chosen])


def _find_peaks(scores: Array, apart: int) -> tuple[Array, Array]:
    """Return bins and scores [K, PEAKS] of the best bins of each row, at least `apart` bins from each other."""
    scores, bins = scores.copy(), np.arange(scores.shape[1])
    positions, values = [], []
    for _ in range(PEAKS):
        best = scores.argmax(axis=1)
        positions.append(best)
        values.append(scores[np.arange(len(scores)), best])
        scores[np.abs(bins - best[:, None]) <= apart] = -np.inf
    return np.stack(positions, axis=1).astype(np.float64), np.stack(values, axis=1)


def _complete_one(pairs: Array, outlines: Outlines, height: int, width: int) -> Array:
    """Return pairs with the best single edges whose other edge follows from an arc; it has no support of its own.

    An arc is about the apex, which is on the edge. Any two points of the arc have the same distance from it, so that
    their perpendicular bisector meets the edge in the apex. Most pairs of points of a visible arc agree.
    """
    made = []
    for own, score, other in ((0, 1, 3), (2, 3, 1)):  # positions and scores of the left, then of the right edges
        slanted = np.flatnonzero(pairs[4] > MIN_APEX_SLOPE)
        best = slanted[np.argsort(-(pairs[score] + 0.25 * pairs[other])[slanted], kind="stable")]
        _, first = np.unique(pairs[[own, 4]][:, best], axis=1, return_index=True)
        for number in best[np.sort(first)[:ONE_SIDED]]:
            position, slope = pairs[own, number], pairs[4, number]
            for outline in (outlines.top, outlines.bottom):
                rows = outline[ARC_LEVELS:] if own else outline[ARC_LEVELS:, ::-1]  # the edge is mirrored to the right
                for axis in _find_axes(rows, position, slope, height):
                    mirrored = width - axis + (position - axis)  # from the other side of the image
                    copy = np.zeros(5)
                    copy[own], copy[score], copy[2 - own], copy[4] = position, pairs[score, number], mirrored, slope
                    made.append(copy)
    return np.stack(made, axis=1) if made else np.zeros((5, 0))


def _find_axes(rows: Array, position: float, slope: float, height: int) -> list[float]:
    """Return the columns of the apex in which most pairs of points of an outline agree.

    Args:
        rows: outline [T, W].
        position: column of the right edge in row 0.
        slope: of the right edge.
        height: of the image.
    """
    levels, width = rows.shape
    step = sampling_step(width)
    columns, rows = np.arange(width)[::step] + 0.5, rows[:, ::step]
    rows = np.where((rows > 1) & (rows < height - 1), rows, np.nan)
    found = []
    for apart in (len(columns) // 6, len(columns) // 4, len(columns) // 3):
        across, down = columns[apart:] - columns[:-apart], rows[:, apart:] - rows[:, :-apart]
        middle, depth = (columns[apart:] + columns[:-apart]) / 2, (rows[:, apart:] + rows[:, :-apart]) / 2
        # (axis - middle) across + (apex - depth) down = 0, apex = (axis - position) / slope above row 0 ...
        with np.errstate(divide="ignore", invalid="ignore"):
            axis = (middle * across + depth * down + position * down / slope) / (across + down / slope)
        found.append(axis[np.isfinite(axis)])
    axes = np.concatenate(found)
    axes = axes[(axes > 0) & (axes < min(width, position + slope * height))]
    if len(axes) < MIN_PAIRS * levels:
        return []
    counts = np.convolve(np.bincount((axes / AXIS_BIN_PX).astype(np.int64), minlength=1), np.ones(3), mode="same")
    best = int(counts.argmax())
    near = np.abs(axes / AXIS_BIN_PX - best - 0.5) <= 1.5
    return [_median(axes[near])]


def _median(values: Array) -> float:
    """Return the median of values without NaN; `np.median` takes longer than everything else in `_find_axes`."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, (low, high))
    return float((ordered[low] + ordered[high]) / 2)


def find_headers(active: Mask, painted: Mask, first_row: int, edges: Edges) -> NDArray[np.int64]:
    """Return for every pair of edges the first row below a header [K]: a bar that continues beside the edges.

    Below a header there is nothing beside the edges; tissue beside wrong edges continues.

    Args:
        active: single active pixels [H, W].
        painted: pixels that may be of a header [H, W].
        first_row: first row of a dense area: above a header there is no tissue, but there may be letters.
        edges: [K] pairs.
    """
    height, width = active.shape
    clear, tall = (max(2, round(part * height)) for part in (CLEAR_FRACTION, HEADER_HEIGHT_FRACTION))
    rows = np.arange(int(HEADER_ROWS_FRACTION * height) + clear + 2)
    summed, summed_painted = (
        np.pad(np.cumsum(one[: len(rows)], axis=1), ((0, 0), (1, 0))) for one in (active, active & painted)
    )
    gap, band = (part * width for part in BESIDE_FRACTIONS)
    reach = np.maximum(edges.half_width[:, None] + edges.slope[:, None] * (rows + 0.5), 0) + gap
    below = np.zeros(len(edges.axis), np.int64)
    end = first_row + tall
    for near, far in ((edges.axis[:, None] - reach, -band), (edges.axis[:, None] + reach, band)):
        left, right = (np.clip(np.rint(one), 0, width).astype(np.int64) for one in sorted_pair(near, near + far))
        size = right - left
        fraction = (summed[rows, right] - summed[rows, left]) / np.maximum(size, 1)
        is_painted = (summed_painted[rows, right] - summed_painted[rows, left]) > PAINTED * size
        crossed = (size > 0.8 * band) & (fraction > CROSSED) & is_painted
        in_a_row = np.cumsum(crossed, axis=1)
        crossed[:, tall:] &= in_a_row[:, tall:] - in_a_row[:, :-tall] < tall
        cumulative = np.pad(np.cumsum(fraction, axis=1), ((0, 0), (1, 0)))
        is_clear = (cumulative[:, clear + 2 :] - cumulative[:, 2:-clear]) / clear < CLEAR  # from the row after the next
        found = crossed[:, : is_clear.shape[1]] & is_clear & (rows[: is_clear.shape[1]] < end)
        below = np.maximum(below, np.where(found, rows[: is_clear.shape[1]] + 2, 0).max(axis=1))
    return below


def support_edges(tops: Array, edges: Edges, tolerance: float) -> Array:
    """Return how many points of the upper outline are on each pair of edges [K]: of wide edges these are most.

    Args:
        tops: first active rows [K, T, W].
        edges: [K] pairs.
        tolerance: distance from an edge at which a point is on it.
    """
    step = sampling_step(tops.shape[-1])
    columns = np.arange(tops.shape[-1])[::step] + 0.5
    axis, half_width, slope = (one[:, None, None] for one in (edges.axis, edges.half_width, edges.slope))
    distance = (np.abs(columns - axis) - half_width - slope * tops[..., ::step]) / np.hypot(1, slope)
    on_edge = (np.abs(distance) <= 1.5 * tolerance) & (tops[..., ::step] > 1)
    counts: Array = on_edge.sum(axis=(1, 2)) * np.where(edges.slope > MIN_APEX_SLOPE, float(step), 0.0)
    return counts


def sorted_pair(one: Array, other: Array) -> tuple[Array, Array]:
    """Return the smaller and the larger of each pair of values."""
    return np.minimum(one, other), np.maximum(one, other)


def refine_edges(outlines: Outlines, geometry: SectorGeometry, tolerance: float, width: int) -> SectorGeometry:
    """Return the geometry with its edges fitted by least squares to the points that support them, if both have some."""
    levels, height = outlines.left.shape
    rows = np.broadcast_to(np.arange(height) + 0.5, (levels, height))
    axis, half_width, slope = geometry.axis, geometry.half_width, geometry.slope
    for reach in (2.5 * tolerance, 1.5 * tolerance):
        values, signs, at = [], [], []
        for points, sign in ((outlines.left, -1.0), (outlines.right, 1.0)):
            near = np.abs(points - axis - sign * (half_width + slope * rows)) <= reach
            near &= (points > 1) & (points < width - 1)
            values.append(points[near])
            at.append(rows[near])
            signs.append(np.full(int(near.sum()), sign))
        if min(len(one) for one in values) < MIN_POINTS * levels / 2:
            break
        side, row = np.concatenate(signs), np.concatenate(at)
        matrix = np.stack([np.ones_like(side), side, side * row], axis=1)
        axis, half_width, slope = (float(one) for one in np.linalg.lstsq(matrix, np.concatenate(values), rcond=None)[0])
        if slope < PARALLEL_SLOPE:
            half_width, slope = half_width + slope * height / 2, 0.0
    return geometry.with_edges(axis, half_width, slope)
