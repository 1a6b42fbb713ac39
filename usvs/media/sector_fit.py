"""Robust fit of a sector's geometry to the outlines of what is active in the frames.

Evidence. The active pixels at several levels of contrast have an outline each. Where the image ends in a step, at the
edges of the sector, the outlines of all levels coincide in a straight line or an arc; where it fades (dark depth, a
flank without contact, fluid) they are apart and irregular.

Fit. Every line and arc is scored by the outline points on it (support) minus a cost for those beyond it, which would
be active pixels outside of the sector; inside, nothing needs to be active. For the edges, a Hough transform gives this
score for all slopes and positions at once. Both edges have the same slope, mirrored, so that one visible edge and an
arc determine the other edge. Points at the border of the image support nothing: the sector may continue beyond it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Curve, Mask, SectorGeometry

Array = NDArray[np.float64]

# Edges: angles to the vertical; transducers open at most by 2 x 57 degrees.
ANGLE_STEP_DEGREES, MAX_ANGLE_DEGREES = 1.5, 57.0
TOLERANCE_FRACTION = 0.006  # of the shorter side: distance at which an outline point supports a curve, at least 1.5 px
BEYOND_CAP = 4.0  # tolerances: points further beyond are outliers, each costs the same
LEVEL_COSTS = (0.5, 0.75, 1.5, 1.5, 1.5)  # cost of an outlier of each level, in supporting points
WIDTH_WEIGHT = 0.05  # cost per pixel of width, so that of two equally supported sectors the narrower one is taken
PEAKS = 3  # positions per slope and side
WIDENED = (0.08, 0.16, 0.24)  # of the width: by how much an unsupported edge is moved outwards
PAIRS, ONE_SIDED = 24, 6  # candidates: pairs of edges, and pairs of which one edge is widened


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
    """A geometry and what supports it, in outline points per level."""

    geometry: SectorGeometry
    score: float
    edge_support: tuple[float, float]
    curve_support: tuple[float, float]


@dataclass(frozen=True)
class Edges:
    """Candidate pairs of edges [K]; see `SectorGeometry`."""

    axis: Array
    half_width: Array
    slope: Array
    score: Array


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


def score_positions(points: Array, clipped: Mask, costs: Array, first: int, bins: int, tolerance: float) -> Array:
    """Return support minus cost of the bins `first`, `first` + 1, ... as a limit that points should not exceed.

    Args:
        points: [K, N] positions, NaN where there is none.
        clipped: [K, N] points at the border of the image; they support nothing.
        costs: [N] of a point beyond the limit.
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
    cost = np.broadcast_to(costs, points.shape)[is_point]
    every = np.bincount(index[is_point], cost, minlength=count * bins).reshape(count, bins)
    visible = np.bincount(index[is_point & ~clipped], minlength=count * bins).reshape(count, bins)
    reach, cap = max(1, round(tolerance)), max(2, round(BEYOND_CAP * tolerance))
    cumulative = np.pad(np.cumsum(visible, axis=1), ((0, 0), (reach + 1, reach)), mode="edge")
    cumulative[:, : reach + 1] = 0
    support = cumulative[:, 2 * reach + 1 :] - cumulative[:, : -2 * reach - 1]
    tail = np.pad(np.cumsum(every[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, reach + cap + 1)))  # points >= bin
    summed = np.pad(np.cumsum(tail, axis=1), ((0, 0), (1, 0)))
    beyond = (summed[:, reach + 1 + cap :] - summed[:, reach + 1 : -cap])[:, :bins] / cap
    result: Array = support - beyond
    return result


def fit_geometry(evidence) -> Fit | None:
    """Fit a sector to masks of active pixels [T, H, W], from little to much contrast; None if nothing is active."""
    masks = evidence.masks
    if not masks.any():
        return None
    height, width = masks.shape[1:]
    tolerance = max(1.5, TOLERANCE_FRACTION * min(height, width))
    outlines = trace_outlines(masks)
    edges = _edge_candidates(outlines, height, width, tolerance)
    if not len(edges.axis):
        return None
    headers = find_headers(evidence.raw, edges)
    nearest = np.where(masks, np.arange(height)[:, None], 4 * height)
    nearest = np.minimum.accumulate(nearest[:, ::-1], axis=1)[:, ::-1].astype(np.float64)  # first active row from each row on
    nearest[nearest > height] = np.nan
    tops, top_scores = _fit_curves(nearest[:, headers].transpose(1, 0, 2), edges, height, tolerance, is_top=True)
    bottoms, bottom_scores = _fit_curves(outlines.bottom, edges, height, tolerance, is_top=False)
    scores = edges.score + (top_scores + bottom_scores) / len(masks)
    best = int(scores.argmax())
    edges_of_best = tuple(float(one[best]) for one in (edges.axis, edges.half_width, edges.slope))
    geometry = refine_edges(outlines, SectorGeometry(*edges_of_best, tops[best], bottoms[best]), tolerance)
    fitted = extend_by_profile(geometry, evidence, int(headers[best]), height)
    return Fit(fitted, float(scores[best]), (0.0, 0.0), (float(top_scores[best]) / len(masks), float(bottom_scores[best]) / len(masks)))


def _edge_candidates(outlines: Outlines, height: int, width: int, tolerance: float) -> Edges:
    """Return the best pairs of edges."""
    levels = outlines.left.shape[0]
    rows = np.arange(height) + 0.5
    slopes = np.tan(np.radians(np.arange(0, MAX_ANGLE_DEGREES, ANGLE_STEP_DEGREES)))
    reach = int(slopes[-1] * height) + 2
    # Both sides as limits to the right of which nothing should be active: the left one is mirrored.
    sides = []
    for edge in (width - outlines.left, outlines.right):
        points = (edge[None] - slopes[:, None, None] * rows).reshape(len(slopes), -1)
        clipped = np.broadcast_to((edge >= width - 1)[None], (len(slopes), *edge.shape)).reshape(points.shape)
        costs = np.repeat(np.array(LEVEL_COSTS), height)
        sides.append(score_positions(points, clipped, costs, -reach, reach + width + 2, 1.5 * tolerance) / levels)
    (left, left_score), (right, right_score) = (_peaks(side, int(4 * tolerance)) for side in sides)
    slope = np.broadcast_to(slopes[:, None, None], (len(slopes), PEAKS, PEAKS))
    shape = slope.shape
    pairs = [
        np.broadcast_to(one, shape).ravel()
        for one in (left[:, :, None], left_score[:, :, None], right[:, None], right_score[:, None], slope)
    ]
    pairs += _widen_one(pairs, width)
    left_position, left_value, right_position, right_value, slope = pairs[:5]
    if len(pairs) > 5:
        left_position, left_value, right_position, right_value, slope = (
            np.concatenate([one, other]) for one, other in zip(pairs[:5], pairs[5:], strict=True)
        )
    first, last = width - (left_position - reach + 0.5), right_position - reach + 0.5  # columns in row 0
    axis, half_width = (first + last) / 2, (last - first) / 2
    extent = np.minimum(width, axis + half_width + slope * height) - np.maximum(0, axis - half_width - slope * height)
    score = left_value + right_value - WIDTH_WEIGHT * extent
    score[extent < 0.1 * width] = -np.inf
    chosen = _best_of_both_kinds(score, len(pairs[0]))
    return Edges(axis[chosen], half_width[chosen], slope[chosen], score[chosen])


def _best_of_both_kinds(score: Array, pairs: int) -> NDArray[np.int64]:
    kept = [np.argsort(-score[:pairs], kind="stable")[:PAIRS], np.argsort(-score[pairs:], kind="stable") + pairs]
    chosen = np.concatenate([kept[0], kept[1]])
    return chosen[np.isfinite(score[chosen])]


def _widen_one(pairs: list[Array], width: int) -> list[Array]:
    """Return copies of the pairs with the best single edges whose other edge is moved outwards."""
    left, left_score, right, right_score, slope = pairs
    found: list[list[float]] = []
    for own, other, is_left in ((right_score, left_score, True), (left_score, right_score, False)):
        for best in np.argsort(-(own + 0.25 * other), kind="stable")[:ONE_SIDED]:
            for fraction in WIDENED:
                moved = fraction * width
                found.append(
                    [
                        left[best] + moved * is_left,
                        left_score[best] if not is_left else 0.0,
                        right[best] + moved * (not is_left),
                        right_score[best] if is_left else 0.0,
                        slope[best],
                    ]
                )
    return list(np.array(found).T)


def _peaks(scores: Array, apart: int) -> tuple[Array, Array]:
    """Return positions and scores [K, PEAKS] of the best bins of each row, at least `apart` bins from each other."""
    scores = scores.copy()
    rows, bins = np.arange(len(scores)), np.arange(scores.shape[1])
    positions, values = [], []
    for _ in range(PEAKS):
        best = scores.argmax(axis=1)
        positions.append(best)
        values.append(scores[rows, best])
        scores[np.abs(bins - best[:, None]) <= apart] = -np.inf
    return np.stack(positions, axis=1).astype(np.float64), np.stack(values, axis=1)


def _fit_curves(
    outline: Array, edges: Edges, height: int, tolerance: float, is_top: bool
) -> tuple[list[Curve], Array]:
    """Return the best top or bottom curve for every pair of edges, and their scores [K]."""
    width = outline.shape[-1]
    sign = -1 if is_top else 1
    across = (np.arange(width) + 0.5 - edges.axis[:, None])[:, None, :]
    reach = edges.half_width[:, None, None] + edges.slope[:, None, None] * outline + tolerance
    rows = np.where(np.abs(across) <= reach, outline, np.nan)  # [K, T, W]
    steep = edges.slope > 1e-3
    apex = np.where(steep, -edges.half_width / np.where(steep, edges.slope, 1), -1e6)[:, None, None]
    arcs = apex + np.hypot(across, rows - apex)  # row in which the arc through a point crosses the axis
    clipped = (rows <= 1) if is_top else (rows >= height - 1)
    count = len(edges.axis)
    shaped = [sign * one.reshape(count, -1) for one in (rows, arcs)]
    first, bins = (-2 * height, 2 * height + 2) if is_top else (-2, 2 * height + 4)
    costs = np.repeat(np.array(LEVEL_COSTS), width)
    both = score_positions(np.concatenate(shaped), np.concatenate([clipped.reshape(count, -1)] * 2), costs, first, bins, tolerance)
    line, arc = both[:count], both[count:]
    arc[~steep] = -np.inf
    best_line, best_arc = line.argmax(axis=1), arc.argmax(axis=1)
    line_score, arc_score = line[np.arange(count), best_line], arc[np.arange(count), best_arc]
    curves = []
    for number in range(count):
        if arc_score[number] >= line_score[number]:
            curves.append(Curve(sign * (first + best_arc[number] + 0.5), float(apex[number, 0, 0])))
        else:
            curves.append(Curve(sign * (first + best_line[number] + 0.5)))
    return curves, np.maximum(line_score, arc_score)


def refine_edges(outlines: Outlines, geometry: SectorGeometry, tolerance: float) -> SectorGeometry:
    """Return the geometry with its edges fitted to the points that support them by least squares."""
    height = outlines.left.shape[1]
    rows = np.broadcast_to(np.arange(height) + 0.5, outlines.left.shape)
    axis, half_width, slope = geometry.axis, geometry.half_width, geometry.slope
    width = np.nanmax(outlines.right)
    for reach in (2.5 * tolerance, 1.5 * tolerance):
        systems = []
        for points, sign in ((outlines.left, -1), (outlines.right, 1)):
            expected = axis + sign * (half_width + slope * rows)
            near = (np.abs(points - expected) <= reach) & (points > 1) & (points < width - 1)
            systems.append((points[near], rows[near], np.full(near.sum(), sign)))
        values, at, side = (np.concatenate(one) for one in zip(*systems, strict=True))
        if len(values) < 20 or min(len(systems[0][0]), len(systems[1][0])) < 10:
            break
        matrix = np.stack([np.ones_like(values), side, side * at], axis=1)
        axis, half_width, slope = (float(one) for one in np.linalg.lstsq(matrix, values, rcond=None)[0])
        slope = max(slope, 0.0) if slope > 0.01 else 0.0
    centre = -half_width / slope if slope > 0 else None
    moved = [
        Curve(curve.row, None if curve.centre is None else centre) for curve in (geometry.top, geometry.bottom)
    ]
    return SectorGeometry(axis, half_width, slope, *moved)


HEADER_GAP_FRACTION = 0.04
HEADER_HEIGHT_FRACTION = 0.12
PROFILE_DIFFERENCE = 0.3


def extend_by_profile(geometry: SectorGeometry, evidence, first: int, last: int) -> SectorGeometry:
    """Move the curves outwards to where the mean activity between the edges no longer exceeds that beside them."""
    height, width = evidence.activity.shape
    across = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - geometry.axis)
    down = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5), (height, width))
    reach = np.maximum(geometry.half_width + geometry.slope * down, 1e-3)
    lateral = np.abs(across) / reach
    usable = ~evidence.clutter
    inside, beside = usable & (lateral < 0.96), usable & (lateral > 1.08) & (lateral < 1.7)
    moved = []
    for curve, is_top in ((geometry.top, True), (geometry.bottom, False)):
        depth = down if curve.centre is None else curve.centre + np.hypot(across, down - curve.centre)
        index = np.clip(depth, 0, 2 * height - 1).astype(np.int64)
        sums = [
            (np.bincount(index[part], evidence.activity[part], 2 * height), np.bincount(index[part], minlength=2 * height))
            for part in (inside, beside)
        ]
        (act_in, n_in), (act_out, n_out) = sums
        difference = act_in / np.maximum(n_in, 1) - np.where(n_out > 0.05 * n_in, act_out / np.maximum(n_out, 1), 0)
        difference = np.convolve(difference, np.ones(3) / 3, mode="same")
        active = (difference > PROFILE_DIFFERENCE) & (n_in > 3)
        row = curve.row
        if is_top:
            found = np.flatnonzero(active[max(0, first) : int(max(row, 0))])
            if len(found):
                extended = float(found[0] + max(0, first))
                row = extended if extended < row - 0.04 * height else row
        else:
            limit = 2 * height if last == height else last
            found = np.flatnonzero(active[:limit])
            if len(found):
                extended = float(found[-1] + 1)
                row = extended if extended > row + 0.04 * height else row
        moved.append(Curve(row, curve.centre))
    return replace(geometry, top=moved[0], bottom=moved[1])


def find_headers(active: Mask, edges: Edges) -> NDArray[np.int64]:
    """Return for every pair of edges the first row below a header [K]: a bar that continues beside the edges.

    Below a header there is nothing beside the edges; tissue beside wrong edges continues.
    """
    height, width = active.shape
    clear = max(3, round(HEADER_GAP_FRACTION * height))
    rows = np.arange(height // 4 + clear)
    summed = np.pad(np.cumsum(active[: len(rows)], axis=1), ((0, 0), (1, 0)))
    gap, band = 0.02 * width, 0.12 * width
    reach = np.maximum(edges.half_width[:, None] + edges.slope[:, None] * (rows + 0.5), 0) + gap
    first_row = np.zeros(len(edges.axis), np.int64)
    for first, last in (
        (edges.axis[:, None] - reach - band, edges.axis[:, None] - reach),
        (edges.axis[:, None] + reach, edges.axis[:, None] + reach + band),
    ):
        left, right = (np.clip(np.rint(one), 0, width).astype(np.int64) for one in (first, last))
        count, size = summed[rows, right] - summed[rows, left], right - left
        share = count / np.maximum(size, 1)
        crossed = (size > 0.5 * band) & (share > 0.75)
        tall = max(2, round(HEADER_HEIGHT_FRACTION * height))
        crossed[:, tall:] &= np.cumsum(crossed, axis=1)[:, tall:] - np.cumsum(crossed, axis=1)[:, :-tall] < tall
        following = np.cumsum(np.pad(share, ((0, 0), (1, 0))), axis=1)
        ends = (following[:, clear + 2 :] - following[:, 2:-clear]) / clear < 0.3  # of the rows after the next one
        limit = ends.shape[1]
        found = crossed[:, :limit] & ends
        first_row = np.maximum(first_row, np.where(found, rows[:limit] + 2, 0).max(axis=1))
    return first_row
