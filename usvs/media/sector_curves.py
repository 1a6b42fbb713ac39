"""The top and bottom curve of a sector with given edges: arcs about the apex, or horizontal lines."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_edges import Edges
from usvs.media.sector_evidence import Evidence
from usvs.media.sector_geometry import Curve, SectorGeometry
from usvs.media.sector_outlines import Array, Outlines, sampling_step, score_limits

FAR_PX = 1e6  # distance of the centre of what is straight
MIN_ARC_SLOPE = 1e-3  # of edges that meet in an apex
FAINT_LEVELS = 2  # that are not used for the exact position of a curve
MIN_POINTS = 10  # of a level, for an exact position
PROFILE_DIFFERENCE = 0.3  # of the mean activity between the edges and beside them, where there is still tissue
PROFILE_GAIN_FRACTION = 0.04  # of the image height; by less, a curve is not moved: codecs add noise around tissue
MIN_SUPPORT_PX = 1.0  # of all levels; a top curve with less is not seen, and a header ends at the sector
INSIDE, BESIDE = 0.96, (1.08, 1.7)  # distance from the axis over that of the edge, of the parts that are compared


@dataclass(frozen=True)
class Curves:
    """Candidate curves [K], see `Curve`; `centre` is NaN for a line."""

    row: Array
    centre: Array

    def row_at(self, across: Array) -> Array:
        """Return the rows of the curves at distances from the axis [K, N]; see `Curve.row_at`."""
        centre = np.where(np.isnan(self.centre), -FAR_PX, self.centre)[:, None]
        rows: Array = centre + np.sqrt(np.maximum((self.row[:, None] - centre) ** 2 - across**2, 0))
        return rows

    def curve(self, number: int) -> Curve:
        """Return one of them."""
        centre = float(self.centre[number])
        return Curve(float(self.row[number]), None if np.isnan(centre) else centre)

    @classmethod
    def of(cls, curve: Curve) -> "Curves":
        """Return a single curve."""
        return cls(np.array([curve.row]), np.array([np.nan if curve.centre is None else curve.centre]))


def fit_curves(
    outline: Array, edges: Edges, height: int, tolerance: float, first_rows: NDArray[np.int64] | None = None
) -> tuple[Curves, Array]:
    """Return the best top or bottom curve of every pair of edges, and their scores.

    Args:
        outline: first or last active rows [T, W], or [K, T, W].
        edges: [K] pairs of edges.
        height: of the image.
        tolerance: distance at which a point supports a curve.
        first_rows: rows [K] below headers, if `outline` is the upper one; None if it is the lower one.

    Returns:
        K curves, and their scores [K] in outline points of all levels.
    """
    is_top, step = first_rows is not None, sampling_step(outline.shape[-1])
    sign, count = -1 if is_top else 1, len(edges.axis)
    columns, outline = np.arange(outline.shape[-1])[::step] + 0.5, outline[..., ::step]
    axis, half_width, slope = (one[:, None, None] for one in (edges.axis, edges.half_width, edges.slope))
    across = columns - axis
    with np.errstate(invalid="ignore"):
        rows = np.where(np.abs(across) <= half_width + slope * outline + tolerance, outline, np.nan)  # [K, T, W]
        # A header cuts the sector as the border of the image does: points along either are not the sector's own.
        ends = height - 1 if first_rows is None else np.maximum(1, first_rows)[:, None, None]
        clipped = (rows >= ends) if first_rows is None else (rows <= ends)
    is_steep = edges.slope > MIN_ARC_SLOPE
    apex = np.where(is_steep, -edges.half_width / np.where(is_steep, edges.slope, 1), -FAR_PX)
    centre = apex[:, None, None]
    depth = rows - centre
    arcs = centre + np.sqrt(across * across + depth * depth)  # where the arc through a point crosses the axis
    first, bins = (-height, height + 2) if is_top else (-2, 2 * height + 4)
    points, both = sign * np.concatenate([rows, arcs]), np.concatenate([clipped, clipped])
    line, arc = np.split(score_limits(points, both, first, bins, tolerance), 2)
    arc[~is_steep] = -np.inf
    is_arc = arc.max(axis=1) >= line.max(axis=1)
    best = np.where(is_arc[:, None], arc, line)
    position = best.argmax(axis=1)
    scores = best[np.arange(count), position] * step
    found, centres = sign * (first + position + 0.5), np.where(is_arc, apex, np.nan)
    if first_rows is not None:
        is_unseen = (first_rows > 0) & (scores < MIN_SUPPORT_PX)
        found, centres = np.where(is_unseen, first_rows, found), np.where(is_unseen, np.nan, centres)
    return Curves(found, centres), scores


def refine_curves(outlines: Outlines, geometry: SectorGeometry, height: int, tolerance: float) -> SectorGeometry:
    """Return the geometry with its curves at the median of the points that support them, without the faintest levels.

    Codecs add noise around tissue, which is in the outlines of the faintest levels.
    """
    across = np.arange(outlines.top.shape[1]) + 0.5 - geometry.axis
    moved = []
    for curve, outline in ((geometry.top, outlines.top), (geometry.bottom, outlines.bottom)):
        rows = outline[FAINT_LEVELS:]
        crossing = rows if curve.centre is None else curve.centre + np.hypot(across, rows - curve.centre)
        near = np.abs(crossing - curve.row) <= 1.5 * tolerance
        near &= (rows > 1) & (rows < height - 1) & (np.abs(across) < geometry.half_width + geometry.slope * rows)
        is_seen = near.sum() >= MIN_POINTS * len(rows)
        moved.append(Curve(float(np.median(crossing[near])), curve.centre) if is_seen else curve)
    return replace(geometry, top=moved[0], bottom=moved[1])


def extend_curves(geometry: SectorGeometry, evidence: Evidence, first_row: int) -> SectorGeometry:
    """Move the curves outwards to where the mean activity between the edges no longer exceeds that beside them.

    The mean over the width of the sector shows depths that are too dim to have an outline, and strips along the
    transducer that are too thin.

    Args:
        geometry: with its edges, in reduced pixels.
        evidence: of the frames.
        first_row: row below a header.
    """
    height, width = evidence.activity.shape
    across = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - geometry.axis)
    down = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    lateral = np.abs(across) / np.maximum(geometry.half_width + geometry.slope * down, 1e-3)
    parts = [
        np.flatnonzero(~evidence.ignored & part)
        for part in (lateral < INSIDE, (lateral > BESIDE[0]) & (lateral < BESIDE[1]))
    ]
    activity, gain = evidence.activity.ravel(), PROFILE_GAIN_FRACTION * height
    moved = []
    for curve, is_top in ((geometry.top, True), (geometry.bottom, False)):
        depth = down + 0 * across if curve.centre is None else curve.centre + np.hypot(across, down - curve.centre)
        index = np.clip(depth, 0, 2 * height - 1).astype(np.int64).ravel()
        sums, counts = zip(
            *(
                (np.bincount(index[one], activity[one], 2 * height), np.bincount(index[one], minlength=2 * height))
                for one in parts
            ),
            strict=True,
        )
        inside, beside = (total / np.maximum(count, 1) for total, count in zip(sums, counts, strict=True))
        # With few pixels beside it, at the border of the image, the depth is judged by itself.
        difference = inside - np.where(counts[1] > 0.05 * counts[0], beside, 0)
        active = (np.convolve(difference, np.ones(3) / 3, mode="same") > PROFILE_DIFFERENCE) & (counts[0] > 3)
        found = np.flatnonzero(active[first_row:]) + first_row
        row = curve.row
        if len(found) and is_top and found[0] < row - gain:
            row = float(found[0])
        if len(found) and not is_top and found[-1] + 1 > row + gain:
            row = float(found[-1] + 1)
        moved.append(Curve(row, curve.centre))
    return replace(geometry, top=moved[0], bottom=moved[1])
