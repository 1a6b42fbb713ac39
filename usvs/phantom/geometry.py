"""Geometry of the sector: the position of a convex transducer's image on the screen, and its beams in the tissue.

Three coordinate frames are used. Pixels: of the video frame, origin top left. Beams: (sample along the beam, beam).
Tissue: x to the right, y away from the transducer, origin in the centre of the sector's inscribed crop, in units of
half its shorter side, so that anatomy of size one fills the crop on every scanner.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from usvs.phantom.settings import PhantomSettings
from usvs.utils.seeds import stream

SAMPLES = 192  # along a beam
BEAMS = 128
TOP_BAR_PIXELS = 26

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class SectorGeometry:
    """A sector between two arcs around an apex, clipped by the frame; lengths in pixels, the angle in radians."""

    width: int
    height: int
    apex_x: float
    apex_y: float
    inner_radius: float
    outer_radius: float
    half_angle: float

    @cache  # noqa: B019 - a few plain numbers for each scanner
    def inscribed_crop(self) -> tuple[int, int, int, int]:
        """Return the largest rectangle in the sector, symmetric about its axis: left, top, right, bottom (excluded)."""
        top = np.linspace(self.apex_y + self.inner_radius, self.apex_y + self.outer_radius, 400)[:, None]
        half = np.linspace(1.0, self.width / 2, 400)[None, :]
        reach = np.minimum((top - self.apex_y) * np.tan(self.half_angle), self.apex_x)
        reach = np.minimum(reach, self.width - self.apex_x)
        bottom = self.apex_y + np.sqrt(np.maximum(self.outer_radius**2 - half**2, 0.0))
        bottom = np.minimum(bottom, self.height)
        area = np.where(half <= reach, 2 * half * (bottom - top), -1.0)
        row, column = np.unravel_index(int(np.argmax(area)), area.shape)
        w = float(half[0, column])
        return (
            int(np.ceil(self.apex_x - w)),
            int(np.ceil(top[row, 0])),
            int(np.floor(self.apex_x + w)),
            int(np.floor(bottom[0, column])),
        )

    def unit(self) -> tuple[float, float, float]:
        """Return origin x, origin y and unit length of the tissue frame, in pixels."""
        left, top, right, bottom = self.inscribed_crop()
        return (left + right) / 2, (top + bottom) / 2, min(right - left, bottom - top) / 2

    def to_pixels(self, tissue: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the tissue frame [..., 2] to pixels [..., 2]."""
        x, y, unit = self.unit()
        return np.asarray(tissue * unit + np.array([x, y]), np.float64)

    def apex_in_tissue(self) -> tuple[float, float]:
        """Return the origin of all beams, in the tissue frame."""
        x, y, unit = self.unit()
        return (self.apex_x - x) / unit, (self.apex_y - y) / unit

    def beam_points(self) -> tuple[FloatArray, FloatArray]:
        """Return x and y in the tissue frame of every sample of every beam, each [SAMPLES, BEAMS]."""
        x, y, unit = self.unit()
        radius = np.linspace(self.inner_radius, self.outer_radius, SAMPLES)[:, None]
        angle = np.linspace(-self.half_angle, self.half_angle, BEAMS)[None, :]
        across = (self.apex_x + radius * np.sin(angle) - x) / unit
        down = (self.apex_y + radius * np.cos(angle) - y) / unit
        return across.astype(np.float32), down.astype(np.float32)

    def pixel_beams(self) -> tuple[FloatArray, FloatArray]:
        """Return the beam and the sample of every pixel, each [height, width]; -1000 outside the sector."""
        rows, columns = np.mgrid[: self.height, : self.width].astype(np.float64)
        across, down = columns - self.apex_x, rows - self.apex_y
        radius, angle = np.hypot(across, down), np.arctan2(across, down)
        beam = (angle / self.half_angle + 1) / 2 * (BEAMS - 1)
        sample = (radius - self.inner_radius) / (self.outer_radius - self.inner_radius) * (SAMPLES - 1)
        outside = (np.abs(angle) > self.half_angle) | (sample < 0) | (sample > SAMPLES - 1) | (rows < TOP_BAR_PIXELS)
        beam[outside] = sample[outside] = -1000
        return beam.astype(np.float32), sample.astype(np.float32)


def draw_sector_geometry(seed: int, patient: int, settings: PhantomSettings) -> SectorGeometry:
    """Draw a patient's scanner: frame size, sector position, depth, curvature and opening."""
    rng = stream(seed, "patient", patient, "fan")
    width = 2 * round(settings.frame_width * rng.uniform(0.9, 1.1) / 2)
    height = 2 * round(settings.frame_height * rng.uniform(0.9, 1.1) / 2)
    depth = (height - TOP_BAR_PIXELS) * rng.uniform(0.9, 1.0)  # shown along the axis
    inner = depth * rng.uniform(0.25, 0.7)
    face = TOP_BAR_PIXELS + rng.uniform(0.0, 0.05) * height  # where the axis meets the transducer
    return SectorGeometry(
        width=width,
        height=height,
        apex_x=width * rng.uniform(0.46, 0.54),
        apex_y=face - inner,
        inner_radius=inner,
        outer_radius=inner + depth,
        half_angle=float(np.deg2rad(rng.uniform(28, 38))),
    )
