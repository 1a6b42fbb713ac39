"""Candidates for the two straight edges of a sector: lines by a Hough transform of the outlines, and apexes.

Most sectors show both edges. Where one is dark, the other one and an arc, or a beam at which the dark flank begins,
determine the apex; where both are, an arc alone does.
"""

from collections.abc import Iterator

import numpy as np

from usvs.media.sector_edges import MIN_APEX_SLOPE, Edges
from usvs.media.sector_outlines import Array, Outlines, sampling_step, score_limits

# Angles to the vertical; transducers open at most by 2 x 57 degrees.
ANGLE_STEP_DEGREES, MAX_ANGLE_DEGREES = 2.0, 57.0
WIDTH_WEIGHT = 0.05  # cost per pixel of width, so that of two equally supported sectors the narrower one is taken
AXIS_WEIGHT = 1.5  # cost per pixel between the axis and the middle of the image
MIN_WIDTH_FRACTION = 0.1  # of the image
PEAKS = 3  # positions per slope and side
PAIRS, ONE_SIDED = 12, 6  # candidates: pairs of edges; edges of each side whose other edge follows from an arc
ONE_SIDED_PAIRS = 16  # candidates of the latter
LINES, BEAMS = 6, 6  # limits of each side that may be a beam at a dark flank, and candidates with one
BEAM_WEIGHT = 0.4  # support of such a beam, over that of an edge
MIN_BEAM_SLOPE = 0.12  # difference of the slopes of an edge and a beam; two edges differ by less
MAX_APEX_FRACTION = 0.35  # of the image height: lowest apex
ARCS = 4  # candidates that start at the centre of an arc
ARC_LEVELS = 2  # levels from this one on have the arcs that determine the other edge
MIN_PAIRS = 10  # pairs of points per level that must meet the edge inside the image
AXIS_BIN_PX = 2.0  # precision of the agreement


def find_edges(outlines: Outlines, height: int, width: int, tolerance: float) -> Iterator[Edges]:
    """Yield the best pairs of edges of which both are seen, then those of which one or both are dark."""
    levels = len(outlines.left)
    slopes = np.tan(np.radians(np.arange(0, MAX_ANGLE_DEGREES, ANGLE_STEP_DEGREES)))
    step, middle = sampling_step(height), height / 2
    rows, reach = np.arange(height)[::step] + 0.5 - middle, int(slopes[-1] * middle) + 2
    # Both are limits to the right of which nothing should be active: the left edge is mirrored.
    limits = np.stack([width - outlines.left[:, ::step], outlines.right[:, ::step]])
    points = limits[:, None] - slopes[:, None, None] * rows  # [2, S, T, N]
    clipped = np.broadcast_to((limits >= width - 1)[:, None], points.shape)
    flat = (2 * len(slopes), *points.shape[2:])
    scores = score_limits(
        points.reshape(flat), clipped.reshape(flat), -reach, 2 * reach + width + 2, 1.5 * tolerance
    ) * (step / levels)
    positions, values = _find_peaks(scores, int(4 * tolerance))
    positions = positions - np.tile(slopes, 2)[:, None] * middle  # in row 0
    lines = np.stack([positions - reach + 0.5, values]).reshape(2, 2, len(slopes), PEAKS)
    (left, right), (left_score, right_score) = lines
    shape = (len(slopes), PEAKS, PEAKS)
    table = [left[:, :, None], left_score[:, :, None], right[:, None], right_score[:, None], slopes[:, None, None]]
    pairs = np.stack([np.broadcast_to(one, shape).ravel() for one in table])
    yield _choose(_mirror(pairs, width), PAIRS, height, width)
    one_sided = _mirror(_complete_one(pairs, outlines, height, width), width)
    beams, arcs = _pair_with_beams(lines, slopes, height, width), _open_arcs(outlines, height, width, tolerance)
    groups = [
        _choose(group, most, height, width)
        for group, most in ((one_sided, ONE_SIDED_PAIRS), (beams, BEAMS), (arcs, ARCS))
    ]
    fields = ("axis", "half_width", "slope", "score")
    yield Edges(*(np.concatenate([getattr(group, field) for group in groups]) for field in fields))


def _mirror(pairs: Array, width: int) -> Array:
    """Return [axis, half width, slope, score] of pairs [mirrored left, its score, right, its score, slope]."""
    first, last = width - pairs[0], pairs[2]  # columns in row 0
    return np.stack([(first + last) / 2, (last - first) / 2, pairs[4], pairs[1] + pairs[3]])


def _choose(candidates: Array, most: int, height: int, width: int) -> Edges:
    """Return the best of edges [axis, half width, slope, score], with the costs of width and of an axis at a side."""
    axis, half_width, slope, score = candidates
    extent = np.minimum(width, axis + half_width + slope * height) - np.maximum(0, axis - half_width - slope * height)
    score = score - WIDTH_WEIGHT * extent - AXIS_WEIGHT * np.abs(axis - width / 2)
    score[extent < MIN_WIDTH_FRACTION * width] = -np.inf
    chosen = np.argsort(-score, kind="stable")[:most]
    chosen = chosen[np.isfinite(score[chosen])]
    return Edges(axis[chosen], half_width[chosen], slope[chosen], score[chosen])


def _find_peaks(scores: Array, apart: int) -> tuple[Array, Array]:
    """Return bins and scores [K, PEAKS] of the best bins of each row, at least `apart` bins from each other."""
    scores, each = scores.copy(), np.arange(len(scores))
    around = np.arange(-apart, apart + 1)
    positions, values = [], []
    for _ in range(PEAKS):
        best = scores.argmax(axis=1)
        positions.append(best)
        values.append(scores[each, best])
        scores[each[:, None], np.clip(best[:, None] + around, 0, scores.shape[1] - 1)] = -np.inf
    return np.stack(positions, axis=1).astype(np.float64), np.stack(values, axis=1)


def _pair_with_beams(lines: Array, slopes: Array, height: int, width: int) -> Array:
    """Return edges [axis, half width, slope, score] of sectors with one dark flank.

    The dark flank ends at a beam. Beams start at the apex, so that the visible edge, which is steeper to the axis,
    meets the beam there, and the other edge mirrors the visible one.

    Args:
        lines: positions and scores [2] of the left, mirrored, and right [2] limits of each slope [S, PEAKS].
        slopes: [S].
        height: of the image.
        width: of the image.
    """
    kept = []
    for positions, scores in zip(*lines, strict=True):
        best = np.argsort(-scores, axis=None, kind="stable")[:LINES]
        kept.append((positions.ravel()[best], scores.ravel()[best], slopes[best // PEAKS]))
    (left, left_score, left_slope), (right, right_score, right_slope) = kept
    left, left_score, left_slope = left[:, None], left_score[:, None], left_slope[:, None]
    is_left, difference = left_slope > right_slope, np.abs(left_slope - right_slope)
    is_even = difference <= MIN_BEAM_SLOPE
    apex = (width - left - right) / np.maximum(left_slope + right_slope, 1e-9)  # row in which the two lines meet
    edge, beam = np.where(is_left, left_score, right_score), np.where(is_left, right_score, left_score)
    # Lines that are nearly mirrored are both edges of a sector that is a little tilted.
    slope = np.where(is_even, (left_slope + right_slope) / 2, np.maximum(left_slope, right_slope))
    middle = height / 2
    ends = width - left - left_slope * middle, right + right_slope * middle
    axis = np.where(is_even, (ends[0] + ends[1]) / 2, right + right_slope * apex)
    half_width = np.where(is_even, (ends[1] - ends[0]) / 2 - slope * middle, -slope * apex)
    score = edge + np.where(is_even, 1.0, BEAM_WEIGHT) * beam
    usable = (difference > 0) & (slope > MIN_APEX_SLOPE) & (axis > 0) & (axis < width)
    usable &= -half_width < slope * MAX_APEX_FRACTION * height
    return np.stack([np.broadcast_to(one, score.shape)[usable] for one in (axis, half_width, slope, score)])


def _open_arcs(outlines: Outlines, height: int, width: int, tolerance: float) -> Array:
    """Return edges [axis, half width, slope, score] that start at the centre of the arc that a curve is on."""
    centres = [
        centre
        for outline in (outlines.top, outlines.bottom)
        if (centre := _find_centre(outline[ARC_LEVELS:], height, width)) is not None
    ]
    if not centres:
        return np.zeros((4, 0))
    axis, apex = (np.array(one)[:, None, None] for one in zip(*centres, strict=True))
    levels, step = len(outlines.left), sampling_step(height)
    rows = np.arange(height)[::step] + 0.5
    unit = 1.5 * tolerance / (0.75 * height - apex.ravel().min())  # an angle as wide as the tolerance
    scores = np.zeros(())
    for edge, sign in ((outlines.left[:, ::step], -1), (outlines.right[:, ::step], 1)):
        angle = np.arctan2(sign * (edge - axis), rows - apex) / unit * 2
        at_border = np.broadcast_to((edge <= 1) if sign < 0 else (edge >= width - 1), angle.shape)
        bins = int(np.radians(MAX_ANGLE_DEGREES) / unit * 2)
        scores = scores + score_limits(angle, at_border, 0, bins, 2.0) * (step / levels)
    positions, values = _find_peaks(scores, 8)
    slope = np.tan((positions + 0.5) * unit / 2)
    axis, apex = (np.broadcast_to(one[:, :, 0], slope.shape) for one in (axis, apex))
    return np.stack([one.ravel() for one in (axis, -slope * apex, slope, values)])


def _find_centre(rows: Array, height: int, width: int) -> tuple[float, float] | None:
    """Return column and row of the centre that most triples of points of an outline [T, W] agree on, None if few do."""
    step = sampling_step(width)
    columns, rows = np.arange(width)[::step] + 0.5, rows[:, ::step]
    rows = np.where((rows > 1) & (rows < height - 1), rows, np.nan)
    found = []
    for apart in (len(columns) // 5, len(columns) // 3):
        gap = apart * step
        before, middle, after = rows[:, : -2 * apart], rows[:, apart:-apart], rows[:, 2 * apart :]
        # y0 - y1 and y2 - y1 of three equidistant points of a circle
        one, two = before - middle, after - middle
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (2 * gap**2 + one**2 + two**2) / (2 * (one + two))
            across = ((two**2 - one**2) / 2 - depth * (two - one)) / (2 * gap)
        found.append(np.stack([columns[apart:-apart] + across, middle + depth]).reshape(2, -1))
    axis, apex = np.concatenate(found, axis=1)
    usable = (axis > 0) & (axis < width) & (apex < MAX_APEX_FRACTION * height) & (apex > -4 * height)
    if usable.sum() < MIN_PAIRS * len(rows):
        return None
    axis, apex = axis[usable], apex[usable]
    counts = np.convolve(np.bincount((axis / (2 * AXIS_BIN_PX)).astype(np.int64)), np.ones(3), mode="same")
    near = np.abs(axis / (2 * AXIS_BIN_PX) - int(counts.argmax()) - 0.5) <= 1.5
    return _median(axis[near]), _median(apex[near])


def _complete_one(pairs: Array, outlines: Outlines, height: int, width: int) -> Array:
    """Return pairs with the best single edges whose other edge follows from an arc; it has no support of its own.

    An arc is about the apex, which is on the edge. Any two points of the arc have the same distance from it, so that
    their perpendicular bisector meets the edge in the apex. Most pairs of points of a visible arc agree. Without arcs
    the axis is in the middle of the image, as people cut pictures out.
    """
    made = []
    slanted = np.flatnonzero(pairs[4] > MIN_APEX_SLOPE)
    for own, score, other in ((0, 1, 3), (2, 3, 1)):  # positions and scores of the left, then of the right edges
        best = slanted[np.argsort(-(pairs[score] + 0.25 * pairs[other])[slanted], kind="stable")]
        keys = pairs[own, best] + 1e5 * np.rint(1e4 * pairs[4, best])
        _, first = np.unique(keys, return_index=True)
        chosen = best[np.sort(first)[:ONE_SIDED]]
        position, slope = pairs[own, chosen], pairs[4, chosen]
        for outline in (outlines.top, outlines.bottom, None):
            if outline is None:
                axis = np.full(len(position), width / 2)
            else:
                rows = outline[ARC_LEVELS:] if own else outline[ARC_LEVELS:, ::-1]  # the edge is mirrored to the right
                axis = _find_axes(rows, position, slope, height)
            seen = np.isfinite(axis)
            copy = np.zeros((5, int(seen.sum())))
            copy[own], copy[score], copy[4] = position[seen], pairs[score, chosen][seen], slope[seen]
            copy[2 - own] = width - axis[seen] + (position - axis)[seen]  # from the other side of the image
            made.append(copy)
    return np.concatenate(made, axis=1)


def _find_axes(rows: Array, position: Array, slope: Array, height: int) -> Array:
    """Return the columns of the apex [K] in which most pairs of points of an outline agree; NaN where few do.

    Args:
        rows: outline [T, W].
        position: columns of right edges in row 0 [K].
        slope: of these edges [K].
        height: of the image.
    """
    levels, width = rows.shape
    step = sampling_step(width)
    columns, rows = np.arange(width)[::step] + 0.5, rows[:, ::step]
    rows = np.where((rows > 1) & (rows < height - 1), rows, np.nan)
    parts = []
    for apart in (len(columns) // 6, len(columns) // 4, len(columns) // 3):
        across, down = columns[apart:] - columns[:-apart], rows[:, apart:] - rows[:, :-apart]
        middle, depth = (columns[apart:] + columns[:-apart]) / 2, (rows[:, apart:] + rows[:, :-apart]) / 2
        parts.append(
            np.stack([middle * across + depth * down, down, np.broadcast_to(across, down.shape)]).reshape(3, -1)
        )
    moment, down, across = np.concatenate(parts, axis=1)
    seen = np.isfinite(down)
    found = np.full(len(position), np.nan)
    if seen.sum() < MIN_PAIRS * levels:
        return found
    moment, down, across = moment[seen], down[seen], across[seen]
    # (axis - middle) across + (apex - depth) down = 0, apex = (axis - position) / slope above row 0 ...
    with np.errstate(divide="ignore", invalid="ignore"):
        axes = (moment + (position / slope)[:, None] * down) / (across + (1 / slope)[:, None] * down)
    last = np.minimum(width, position + slope * height)[:, None]
    usable = (axes > 0) & (axes < last)
    bins = int(width / AXIS_BIN_PX) + 2
    index = np.where(usable, axes / AXIS_BIN_PX, bins - 1).astype(np.int64) + bins * np.arange(len(position))[:, None]
    counts = np.bincount(index.ravel(), minlength=bins * len(position)).reshape(-1, bins)[:, :-1]
    summed = counts.copy()
    summed[:, 1:] += counts[:, :-1]
    summed[:, :-1] += counts[:, 1:]
    near = np.abs(axes / AXIS_BIN_PX - summed.argmax(axis=1)[:, None] - 0.5) <= 1.5
    near &= usable
    for number in np.flatnonzero(counts.sum(axis=1) >= MIN_PAIRS * levels):
        found[number] = _median(axes[number, near[number]])
    return found


def _median(values: Array) -> float:
    """Return the median of values without NaN; `np.median` takes longer than everything else in `_find_axes`."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, (low, high))
    return float((ordered[low] + ordered[high]) / 2)
