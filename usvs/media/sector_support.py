"""How much of a sector's border is seen, and what is active on the wrong side of it."""

import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_curves import Curves
from usvs.media.sector_edges import Edges
from usvs.media.sector_geometry import Mask
from usvs.media.sector_outlines import Array, Outlines

SOLID_LEVEL = 3  # of contrast, of active area that must be inside
AREA_SAMPLES = 40  # of the longer side, at which the area is inspected


def measure_areas(masks: Mask, edges: Edges, tops: Curves, bottoms: Curves) -> tuple[Array, Array]:
    """Return the clearly active area outside of K sectors [K], and the area inside that is never active [K].

    Both are in px: divided by the side of a square as large as the clearly active area.
    """
    step = max(1, round(max(masks.shape[1:]) / AREA_SAMPLES))
    sampled = masks[:, step // 2 :: step, step // 2 :: step]
    faint, solid = sampled[:SOLID_LEVEL].any(axis=0), sampled[SOLID_LEVEL]
    down, columns = ((np.arange(size) + 0.5) * step for size in solid.shape)
    across = columns - edges.axis[:, None]  # [K, W]
    reach = (edges.half_width[:, None] + edges.slope[:, None] * down)[:, :, None]
    inside = np.abs(across)[:, None] <= reach
    inside &= (down[:, None] >= tops.row_at(across)[:, None]) & (down[:, None] <= bottoms.row_at(across)[:, None])
    flat = inside.reshape(len(inside), -1).astype(np.float32)
    active, dark = (flat @ one.ravel().astype(np.float32) for one in (solid, ~faint))
    side = np.sqrt(max(1.0, float(solid.sum())))
    return (solid.sum() - active) * step / side, dark * step / side


def measure_support(
    outlines: Outlines,
    edges: Edges,
    tops: Curves,
    bottoms: Curves,
    tolerance: float,
    first_rows: NDArray[np.int64],
    step: int = 1,
) -> tuple[Array, Array]:
    """Return how much of the left, right, top and bottom border is supported, and how much is in the image, px.

    Args:
        outlines: of the active areas.
        edges: [K] pairs of edges.
        tops: [K] curves.
        bottoms: likewise.
        tolerance: distance of a point that supports a border.
        first_rows: rows [K] below headers; a line along a header or the image's border is not a border that is seen.
        step: every how many rows and columns are inspected.

    Returns:
        support [4, K, T] at each level of contrast, and visible length [4, K].
    """
    height, width = outlines.left.shape[1], outlines.top.shape[1]
    down, columns = np.arange(height)[::step] + 0.5, np.arange(width)[::step] + 0.5
    axis, half_width, slope = (one[:, None] for one in (edges.axis, edges.half_width, edges.slope))
    reach = half_width + slope * down  # [K, H]
    # Arcs end higher at the edges than on the axis.
    between = (down > tops.row_at(reach)) & (down < bottoms.row_at(reach))
    across = columns - axis
    supports, visible = [], []
    for points, column in ((outlines.left, axis - reach), (outlines.right, axis + reach)):
        shown = between & (column > 1) & (column < width - 1)
        near = np.abs(points[None, :, ::step] - column[:, None]) <= tolerance  # [K, T, H]
        visible.append(shown.sum(axis=1) * step)
        supports.append((near & shown[:, None]).sum(axis=2) * step)
    for points, curves in ((outlines.top, tops), (outlines.bottom, bottoms)):
        row = curves.row_at(across)
        distance = np.where(np.isnan(curves.centre), 2 * tolerance, 1.0)[:, None]
        shown = (row > first_rows[:, None] + distance) & (row < height - distance)
        shown &= np.abs(across) < half_width + slope * row
        near = np.abs(points[None, :, ::step] - row[:, None]) <= tolerance
        visible.append(shown.sum(axis=1) * step)
        supports.append((near & shown[:, None]).sum(axis=2) * step)
    return np.stack(supports), np.stack(visible)
