"""Robust fit of a sector's geometry to the outlines of what is active in the frames.

Evidence. The active areas at several levels of contrast have an outline each. Where the sector ends in a step from
bright to dark, at its edges, the outlines of all levels coincide in a straight line or an arc; where the image fades
(dark depth, a flank without contact, fluid) they are apart and irregular.

Fit. Every line and arc is scored by the outline points on it (support) less a cost for those beyond it, which would be
active pixels outside of the sector; inside, nothing needs to be active. For the edges, a Hough transform gives this
score for all slopes and positions at once. Both edges have the same slope, mirrored, so that one visible edge and an
arc determine the other edge. Points at the border of the image support nothing: the sector may continue beyond it.
"""

from dataclasses import dataclass, replace

import numpy as np

from usvs.media.sector_curves import extend_curves, fit_curves, refine_curves
from usvs.media.sector_edges import find_edges, find_headers, refine_edges
from usvs.media.sector_evidence import Evidence
from usvs.media.sector_geometry import Curve, SectorGeometry
from usvs.media.sector_outlines import Outlines, trace_outlines, trace_tops

TOLERANCE_FRACTION, MIN_TOLERANCE_PX = 0.006, 1.5  # of the shorter side: distance of points that support a curve
ACTIVE = 0.99  # activity of a single active pixel
FADED_SUPPORT = 0.1  # fraction of the bottom curve, as by chance; with less the depth is not seen to end
PRIOR_FRACTION = 0.1  # of the image's half perimeter: length of outline, half supported, that confidence starts with


@dataclass(frozen=True)
class Fit:
    """A fitted sector.

    Attributes:
        geometry: in pixels of the frames.
        score: in outline points per level; only those of the same frames are comparable.
        confidence: fraction of the visible outline that is supported, 0 .. 1.
    """

    geometry: SectorGeometry
    score: float
    confidence: float


def fit_geometry(evidence: Evidence) -> Fit | None:
    """Fit a sector to the evidence; None if nothing is active."""
    masks = evidence.masks
    levels, height, width = masks.shape
    tolerance = max(MIN_TOLERANCE_PX, TOLERANCE_FRACTION * min(height, width))
    outlines = trace_outlines(masks)
    edges = find_edges(outlines, height, width, tolerance)
    if not masks.any() or not len(edges.axis):
        return None
    first_rows = find_headers(evidence.activity > ACTIVE, evidence.painted, edges)
    tops, top_scores = fit_curves(trace_tops(masks, first_rows), edges, height, tolerance, is_top=True)
    bottoms, bottom_scores = fit_curves(outlines.bottom, edges, height, tolerance, is_top=False)
    scores = edges.score + (top_scores + bottom_scores) / levels
    best = int(scores.argmax())
    axis, half_width, slope = (float(one[best]) for one in (edges.axis, edges.half_width, edges.slope))
    geometry = SectorGeometry(axis, half_width, slope, tops[best], bottoms[best])
    geometry = refine_edges(outlines, geometry, tolerance, width)
    geometry = refine_curves(outlines, geometry, height, tolerance)
    geometry = extend_curves(geometry, evidence, int(first_rows[best]))
    support, visible = measure_support(outlines, geometry, height, width, 1.5 * tolerance)
    if is_cut(geometry, height, width) and support[3] < FADED_SUPPORT * visible[3]:
        geometry = replace(geometry, bottom=Curve(2.0 * height))
    geometry = reach_border(geometry, height, width, 2 * tolerance)
    prior = PRIOR_FRACTION * (height + width)
    confidence = float((sum(support) + 0.5 * prior) / (sum(visible) + prior))
    return Fit(geometry.scaled(evidence.factor), float(scores[best]), confidence)


def reach_border(geometry: SectorGeometry, height: int, width: int, distance: float) -> SectorGeometry:
    """Move lines that are this near to the border of the image beyond it: the image cuts the sector there."""
    top, bottom = geometry.top, geometry.bottom
    if top.centre is None and top.row <= distance:
        top = Curve(-1.0)
    if bottom.centre is None and bottom.row >= height - distance:
        bottom = Curve(height + 1.0)
    first, last = geometry.axis - geometry.half_width, geometry.axis + geometry.half_width
    if geometry.slope == 0:
        first = -1.0 if first <= distance else first
        last = width + 1.0 if last >= width - distance else last
    return replace(geometry, axis=(first + last) / 2, half_width=(last - first) / 2, top=top, bottom=bottom)


def is_cut(geometry: SectorGeometry, height: int, width: int) -> bool:
    """Return whether an edge leaves the image above the bottom curve: then the image was cut out of the screen."""
    row = min(geometry.bottom.row, height)
    reach = geometry.half_width + geometry.slope * row
    return geometry.axis - reach < 0 or geometry.axis + reach > width


def measure_support(
    outlines: Outlines, geometry: SectorGeometry, height: int, width: int, tolerance: float
) -> tuple[list[float], list[float]]:
    """Return how much of the left, right, top and bottom outline is supported, and how much is in the image; px."""
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5 - geometry.axis
    support, visible = [], []
    for points, sign in ((outlines.left, -1), (outlines.right, 1)):
        column = geometry.axis + sign * (geometry.half_width + geometry.slope * down)
        # Arcs end higher at the edges than on the axis.
        end = [one.row_at(np.abs(column - geometry.axis)) for one in (geometry.top, geometry.bottom)]
        shown = (column > 1) & (column < width - 1) & (down > end[0]) & (down < end[1])
        visible.append(float(shown.sum()))
        support.append(float((shown & (np.abs(points - column) <= tolerance)).mean(axis=0).sum()))
    for points, curve in ((outlines.top, geometry.top), (outlines.bottom, geometry.bottom)):
        row = curve.row_at(np.abs(across))
        shown = (row > 1) & (row < height - 1) & (np.abs(across) < geometry.half_width + geometry.slope * row)
        visible.append(float(shown.sum()))
        support.append(float((shown & (np.abs(points - row) <= tolerance)).mean(axis=0).sum()))
    return support, visible
