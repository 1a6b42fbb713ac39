"""The two straight edges of a sector: what crosses them, what is on them, and their exact position."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Mask, SectorGeometry
from usvs.media.sector_outlines import Array, Outlines, sampling_step

MIN_APEX_SLOPE = 0.1  # of an edge from which an arc determines the apex
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

    @classmethod
    def of(cls, geometry: SectorGeometry) -> "Edges":
        """Return the edges of a sector, without a score."""
        return cls(*(np.array([one]) for one in (geometry.axis, geometry.half_width, geometry.slope, 0.0)))


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
