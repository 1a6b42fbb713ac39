"""Shape of an ultrasound sector: two straight edges, mirror images of each other, between a top and a bottom curve.

One shape covers all transducers: convex and phased arrays have edges that meet in an apex and arcs about it, linear
arrays have parallel edges and lines, a linear array with steered outer beams (virtual convex) has slanted edges and
lines. Lengths are in pixels of the image; a pixel (column, row) covers column .. column + 1 and row .. row + 1.
"""

import json
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A curve across the sector that is symmetric about its axis.

    Attributes:
        row: where it crosses the axis.
        centre: row of the centre of the circle of which it is the lower arc; None for a horizontal line.
    """

    row: float
    centre: float | None = None

    def mask_below(self, across: NDArray[np.float32], down: NDArray[np.float32]) -> Mask:
        """Return which points are below the curve; `across` is their distance from the axis, `down` their row."""
        if self.centre is None:
            return down >= self.row
        outside: Mask = np.hypot(across, down - self.centre) >= self.row - self.centre
        return outside & (down >= self.centre)

    def row_at(self, across: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the row of the curve at distances from the axis; the row of the centre beyond the ends of the arc."""
        if self.centre is None:
            return np.full(across.shape, self.row)
        squared: NDArray[np.float64] = np.maximum((self.row - self.centre) ** 2 - across**2, 0)
        return self.centre + np.sqrt(squared)

    def scaled(self, factor: float) -> "Curve":
        """Return the curve in an image that is larger by `factor`."""
        return Curve(self.row * factor, None if self.centre is None else self.centre * factor)

    def moved(self, down: float) -> "Curve":
        """Return the curve moved down."""
        return Curve(self.row + down, None if self.centre is None else self.centre + down)


@dataclass(frozen=True)
class SectorGeometry:
    """A sector in an image; parts of it may be beyond the image's border.

    Attributes:
        axis: column of the axis of symmetry.
        half_width: distance of the edges from the axis in row 0; negative if the apex is inside the image.
        slope: what this distance gains per row; 0 for parallel edges.
        top: curve along the transducer.
        bottom: curve at the largest depth.
        first_column: where the screen cuts the sector vertically on the left; None if it does not.
        last_column: likewise on the right (exclusive).
    """

    axis: float
    half_width: float
    slope: float
    top: Curve
    bottom: Curve
    first_column: float | None = None
    last_column: float | None = None

    @property
    def apex(self) -> float | None:
        """Row in which the edges meet; None for parallel edges."""
        return -self.half_width / self.slope if self.slope > 0 else None

    def to_json(self) -> str:
        """Return the values as JSON, see `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "SectorGeometry":
        """Read what `to_json` returned."""
        values = json.loads(text)
        top, bottom = (Curve(**values.pop(name)) for name in ("top", "bottom"))
        return cls(top=top, bottom=bottom, **values)

    def draw_mask(self, height: int, width: int) -> Mask:
        """Return which pixels of an image [height, width] have their centre in the sector."""
        across = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - self.axis)
        down = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
        between = np.abs(across) <= self.half_width + self.slope * down
        if self.first_column is not None:
            between &= across >= self.first_column - self.axis
        if self.last_column is not None:
            between &= across <= self.last_column - self.axis
        mask: Mask = between & self.top.mask_below(across, down) & ~self.bottom.mask_below(across, down)
        return mask

    def with_edges(self, axis: float, half_width: float, slope: float) -> "SectorGeometry":
        """Return the sector with other edges; arcs stay about the apex and cross the axis where they did."""
        centre = -half_width / slope if slope > 0 else None
        top, bottom = (Curve(one.row, None if one.centre is None else centre) for one in (self.top, self.bottom))
        return replace(self, axis=axis, half_width=half_width, slope=slope, top=top, bottom=bottom)

    def scaled(self, factor: float) -> "SectorGeometry":
        """Return the sector in an image that is larger by `factor`."""
        return SectorGeometry(
            self.axis * factor,
            self.half_width * factor,
            self.slope,
            self.top.scaled(factor),
            self.bottom.scaled(factor),
            None if self.first_column is None else self.first_column * factor,
            None if self.last_column is None else self.last_column * factor,
        )

    def moved(self, right: float, down: float) -> "SectorGeometry":
        """Return the sector moved to the right and down."""
        return replace(
            self,
            axis=self.axis + right,
            half_width=self.half_width - self.slope * down,
            top=self.top.moved(down),
            bottom=self.bottom.moved(down),
            first_column=None if self.first_column is None else self.first_column + right,
            last_column=None if self.last_column is None else self.last_column + right,
        )

    def unfold(self, image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        """Resample an image along its beams: columns are beams from left to right, rows are depths from top to bottom.

        Beams start at the apex, or are parallel. What is beyond the image's border, or cut off by the screen, is 0.

        Returns:
            uint8 [height, width].
        """
        lateral = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
        depth = ((np.arange(height) + 0.5) / height)[:, None]
        apex = self.apex
        if apex is None:
            across = lateral * self.half_width + 0 * depth
            down = self.top.row + depth * (self.bottom.row - self.top.row) + 0 * lateral
        else:
            angle = lateral * np.arctan(self.slope)
            start, end = (_beam_length(curve, apex, angle) for curve in (self.top, self.bottom))
            radius = start + depth * (end - start)
            across, down = radius * np.sin(angle), apex + radius * np.cos(angle)
        columns, rows = (across + self.axis - 0.5).astype(np.float32), (down - 0.5).astype(np.float32)
        # The border is repeated, so that a beam along it is not darkened; what is truly beyond it is zeroed.
        resampled = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        first = 0 if self.first_column is None else max(0.0, self.first_column)
        last = image.shape[1] if self.last_column is None else min(image.shape[1], self.last_column)
        beyond = (columns < first - 0.5) | (columns > last - 0.5) | (rows < -0.5) | (rows > image.shape[0] - 0.5)
        resampled[beyond] = 0
        return np.asarray(resampled, dtype=np.uint8)


def _beam_length(curve: Curve, apex: float, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from the apex to a curve along beams at angles from the axis."""
    if curve.centre is None:
        return (curve.row - apex) / np.cos(angle)
    offset, radius = curve.centre - apex, curve.row - curve.centre
    # |(t sin, t cos - offset)| = radius
    inside = np.maximum(radius**2 - (offset * np.sin(angle)) ** 2, 0.0)
    length: NDArray[np.float64] = offset * np.cos(angle) + np.sqrt(inside)
    return length
