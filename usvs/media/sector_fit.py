"""Robust fit of a sector's geometry to the outlines of what is active in the frames.

Evidence. The active areas at several levels of contrast have an outline each. Where the sector ends in a step from
bright to dark, at its edges, the outlines of all levels coincide in a straight line or an arc; where the image fades
(dark depth, a flank without contact, fluid) they are apart and irregular.

Fit. Every line and arc is scored by the outline points on it (support) less a cost for those beyond it, which would be
active pixels outside of the sector. For the edges, a Hough transform gives this score for all slopes and positions at
once. Both edges have the same slope, mirrored; if neither is dark, that is all. Else, edges that follow from one edge
and an arc or a beam, or from an arc alone, are candidates, too. Of all, the one is taken that has most support less the
costs of borders that are not seen, of active area outside and of dark area inside. Points at the border of the image
support nothing: the sector may continue beyond it.
"""

from dataclasses import dataclass, replace

import numpy as np

from usvs.media.sector_candidates import find_edges
from usvs.media.sector_curves import Curves, extend_curves, fit_curves, refine_curves
from usvs.media.sector_edges import Edges, find_headers, refine_edges, support_edges
from usvs.media.sector_evidence import Evidence
from usvs.media.sector_geometry import Curve, SectorGeometry
from usvs.media.sector_outlines import Array, Outlines, sampling_step, trace_outlines, trace_tops
from usvs.media.sector_support import measure_areas, measure_support

TOLERANCE_FRACTION, MIN_TOLERANCE_PX = 0.006, 1.5  # of the shorter side: distance of points that support a curve
ACTIVE = 0.99  # activity of a single active pixel
SEEN_SUPPORT = 0.5  # fraction of an edge or curve; with more, it is seen
FADED_SUPPORT = 0.1  # fraction of the bottom curve, as by chance; with less the depth is not seen to end
PARALLEL_SLOPE = 0.08  # of edges that may be the cuts of a wide sector
MIN_WINDOW_SLOPE = 0.25  # of the edges of such a sector
MIN_CORNERS = 0.08  # support of its corners, as a fraction of the height and width of what is left
CORNER_FRACTION = 0.05  # of width and height: a corner in which there must be no tissue
MIN_CUT = 0.4  # fraction of rows and levels that end at a cut
MIN_CUT_ROWS = 0.1  # fraction of the rows that must end before an edge, for a cut
CUT_QUANTILE = 0.85  # of the columns in which these end: dark rows end before a cut
MIN_EDGE_ROWS = 0.06  # of the height: rows of the edge above a cut
MIN_EDGE = 0.3  # fraction of the edge above a cut that is seen; else the flank may be without contact
MIN_TOGETHER = 0.25  # fraction of these that end in one column
MAX_AFTER = 0.02  # fraction of all rows that may end after it
UNSEEN_WEIGHT = 0.25  # cost of a visible pixel of a border that is not seen
OUTSIDE_WEIGHT = 3.0  # cost of active area outside
DARK_WEIGHT = 0.5  # cost of area inside that is not active
PRIOR_FRACTION = 0.05  # of the image's half perimeter: length of outline, not supported, that confidence starts with


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
    fitted = _fit(evidence, 0.0)
    if fitted is None:
        return None
    fit, candidate = fitted
    if fit.geometry.slope <= PARALLEL_SLOPE:
        fit = _fit_window(evidence, fit, candidate.curves_score) or fit
    else:
        fit = replace(fit, geometry=cut_sides(trace_outlines(evidence.masks), fit.geometry, _tolerance(evidence)))
    return replace(fit, geometry=fit.geometry.scaled(evidence.factor))


@dataclass(frozen=True)
class Candidate:
    """The best of some candidates, before its position is refined.

    Attributes:
        geometry: in reduced pixels.
        score: in outline points per level.
        seen_score: without the costs of what is not seen, outside or dark; `curves_score` is the part from curves.
        first_row: row below a header.
        support: supported length of the left, right, top and bottom border [4, T]; `visible` [4] is in the image.
    """

    geometry: SectorGeometry
    score: float
    seen_score: float
    curves_score: float
    first_row: int
    support: Array
    visible: Array

    @property
    def are_edges_seen(self) -> bool:
        """Whether most of both edges is seen."""
        return bool((self.support[:2].mean(axis=1) > SEEN_SUPPORT * np.maximum(self.visible[:2], 1)).all())

    def is_exact(self, border: int) -> bool:
        """Return whether most of a border is seen at every level of contrast, so that there is nothing beyond it."""
        return bool(self.support[border].min() > SEEN_SUPPORT * max(self.visible[border], 1))


def _score(evidence: Evidence, outlines: Outlines, edges: Edges, min_slope: float) -> Candidate:
    """Return the best of the pairs of edges, with its curves."""
    masks = evidence.masks
    levels, height, width = masks.shape
    tolerance = _tolerance(evidence)
    first_row = int(masks.any(axis=(0, 2)).argmax())
    first_rows = find_headers(evidence.activity > ACTIVE, evidence.painted, first_row, edges)
    trace = trace_tops(masks, outlines.top, first_rows)
    tops, top_scores = fit_curves(trace, edges, height, tolerance, first_rows)
    bottoms, bottom_scores = fit_curves(outlines.bottom, edges, height, tolerance)
    curves_scores = (top_scores + bottom_scores) / levels
    scores = edges.score + curves_scores
    if min_slope > 0:
        scores += support_edges(trace, edges, tolerance) / levels
    step = sampling_step(max(height, width))
    supports, lengths = measure_support(outlines, edges, tops, bottoms, 1.5 * tolerance, first_rows, step)
    seen_scores = scores
    scores = scores - UNSEEN_WEIGHT * (lengths - supports.mean(axis=2)).sum(axis=0)
    outside, dark = measure_areas(masks, edges, tops, bottoms)
    scores -= OUTSIDE_WEIGHT * outside + DARK_WEIGHT * dark
    best = int(scores.argmax())
    axis, half_width, slope = (float(one[best]) for one in (edges.axis, edges.half_width, edges.slope))
    geometry = SectorGeometry(axis, half_width, slope, tops.curve(best), bottoms.curve(best))
    return Candidate(
        geometry,
        float(scores[best]),
        float(seen_scores[best]),
        float(curves_scores[best]),
        int(first_rows[best]),
        supports[:, best],
        lengths[:, best],
    )


def _fit(evidence: Evidence, min_slope: float) -> tuple[Fit, Candidate] | None:
    """Fit a sector in reduced pixels, with edges of at least a slope; also return it before it was refined."""
    masks = evidence.masks
    _, height, width = masks.shape
    tolerance = _tolerance(evidence)
    outlines = trace_outlines(masks)
    if not masks.any():
        return None
    best: Candidate | None = None
    for edges in find_edges(outlines, height, width, tolerance):
        usable = edges.chosen(edges.slope >= min_slope)
        if len(usable.axis):
            found = _score(evidence, outlines, usable, min_slope)
            best = found if best is None or found.score > best.score else best
            if best.are_edges_seen:
                break  # no edge is dark
    if best is None:
        return None
    geometry = best.geometry
    geometry = refine_edges(outlines, geometry, tolerance, width)
    geometry = refine_curves(outlines, geometry, height, tolerance)
    is_exact = [best.is_exact(border) for border in (2, 3)]  # top, bottom
    if not all(is_exact):
        extended = extend_curves(geometry, evidence, best.first_row)
        geometry = replace(
            extended,
            top=geometry.top if is_exact[0] else extended.top,
            bottom=geometry.bottom if is_exact[1] else extended.bottom,
        )
    supports, visible = measure_support(
        outlines,
        Edges.of(geometry),
        Curves.of(geometry.top),
        Curves.of(geometry.bottom),
        1.5 * tolerance,
        np.array([best.first_row]),
    )
    support = supports.mean(axis=2)
    if is_cut(geometry, height, width) and support[3, 0] < FADED_SUPPORT * visible[3, 0]:
        geometry = replace(geometry, bottom=Curve(2.0 * height))
    geometry = reach_border(geometry, height, width, 2 * tolerance)
    prior = PRIOR_FRACTION * (height + width)
    confidence = float(support.sum() / (visible.sum() + prior))
    return Fit(geometry, best.score, confidence), best


def _fit_window(evidence: Evidence, parallel: Fit, curves_score: float) -> Fit | None:
    """Fit slanted edges between vertical limits where a screen cuts a wide sector; None if there are none.

    Of a wide sector that a screen cuts at both sides, little of the edges is left, and the cuts are longer. Between the
    cuts they are as the border of an image: only the corners of the sector decide.

    Args:
        evidence: of the complete image.
        parallel: sector with vertical edges.
        curves_score: the part of its score from its curves.
    """
    height, width = evidence.masks.shape[1:]
    tolerance, geometry = _tolerance(evidence), parallel.geometry
    first = max(0, round(geometry.axis - geometry.half_width))
    last = min(width, round(geometry.axis + geometry.half_width))
    outlines = trace_outlines(evidence.masks)
    corner = max(1, round(CORNER_FRACTION * (last - first)))
    depths = [outlines.top[:, one] for one in (slice(first, first + corner), slice(last - corner, last))]
    if last - first < 4 * corner or min(np.median(np.nan_to_num(one, nan=height)) for one in depths) < (
        geometry.top.row + CORNER_FRACTION * height
    ):
        return None  # there is tissue in a corner
    inner = _fit(evidence.columns(first, last), MIN_WINDOW_SLOPE)
    if inner is None or inner[1].seen_score < curves_score:
        return None
    if inner[1].seen_score - inner[1].curves_score < MIN_CORNERS * (height + last - first):
        return None
    cuts: list[float | None] = [
        float(at) if border > 2 * tolerance and (np.abs(points - at) <= 1.5 * tolerance).mean() > MIN_CUT else None
        for points, at, border in ((outlines.left, first, first), (outlines.right, last, width - last))
    ]
    found = inner[0].geometry.moved(first, 0)
    return replace(inner[0], geometry=replace(found, first_column=cuts[0], last_column=cuts[1]))


def _tolerance(evidence: Evidence) -> float:
    height, width = evidence.masks.shape[1:]
    return max(MIN_TOLERANCE_PX, TOLERANCE_FRACTION * float(min(height, width)))


def cut_sides(outlines: Outlines, geometry: SectorGeometry, tolerance: float) -> SectorGeometry:
    """Return the geometry with vertical cuts where rows end together, well before the edges."""
    height, width = outlines.left.shape[1], outlines.top.shape[1]
    rows = np.arange(height) + 0.5
    cuts: list[float | None] = []
    for points, sign in ((width - outlines.left, -1), (outlines.right, 1)):
        axis = geometry.axis if sign > 0 else width - geometry.axis
        edge = axis + geometry.half_width + geometry.slope * rows
        depth = geometry.bottom.row_at(np.abs(edge - axis))
        inside = (rows > geometry.top.row) & (rows < depth)
        beyond = (edge - points > 3 * tolerance) & (points < width - 3 * tolerance) & inside
        ends = points[beyond]
        cut = None
        is_above = (edge < np.quantile(ends, CUT_QUANTILE)) & inside if len(ends) else inside
        on_edge = (np.abs(points - edge) <= 1.5 * tolerance)[:, is_above]
        is_edge_seen = is_above.sum() > MIN_EDGE_ROWS * height and on_edge.mean() > MIN_EDGE
        if is_edge_seen and len(ends) > MIN_CUT_ROWS * height * len(points):
            # Rows that end in the dark end anywhere; those at a cut end together, and none after it.
            at = float(np.quantile(ends, CUT_QUANTILE))
            after = ((points > at + 1.5 * tolerance) & inside).mean()
            if (np.abs(ends - at) <= 1.5 * tolerance).mean() > MIN_TOGETHER and after < MAX_AFTER:
                cut = at if sign > 0 else width - at
        cuts.append(cut)
    return replace(geometry, first_column=cuts[0], last_column=cuts[1])


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
