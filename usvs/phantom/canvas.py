"""Maps of tissue to draw on: scattering, specular reflection and attenuation of the beam."""

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.phantom.geometry import FloatArray

MAP_PIXELS = 512
MAP_REACH = 2.8  # distance from the origin to the border of the maps, in tissue units
PIXELS_PER_UNIT = MAP_PIXELS / (2 * MAP_REACH)
SUBPIXEL_BITS = 4

Points = NDArray[np.float64]


def ellipse(
    x: float, y: float, across: float, down: float, tilt: float = 0.0, start: float = 0.0, stop: float = 360.0
) -> Points:
    """Return points [n, 2] on an ellipse with the given half axes; angles in degrees, clockwise from the right."""
    turn = np.deg2rad(np.linspace(start, stop, max(12, round((stop - start) / 6))))
    u, v = across * np.cos(turn), down * np.sin(turn)
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return np.stack([x + c * u - s * v, y + s * u + c * v], axis=1)


def curve(*knots: tuple[float, float]) -> Points:
    """Return points [n, 2] of a smooth line (Catmull-Rom) through the given knots."""
    k = np.array([knots[0], *knots, knots[-1]])
    t = np.linspace(0, 1, 10, endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(k[:-3], k[1:-2], k[2:-1], k[3:], strict=True)
    ]
    return np.concatenate([*parts, k[-1:]])


class Placement:
    """A random map from the anatomy's own frame to the tissue frame: mirror, scale, rotation, bending and shift."""

    def __init__(self, rng: np.random.Generator, rotation: float, scale: float, shift: tuple[float, float]) -> None:
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        stretch = rng.uniform(0.9, 1.1)
        c, s = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
        self.matrix: NDArray[np.float64] = (
            scale * np.array([[c, -s], [s, c]]) @ np.diag([mirror * stretch, 1 / stretch])
        )
        self.shift: NDArray[np.float64] = np.array(shift)
        self.scale = scale
        self.waves: NDArray[np.float64] = rng.uniform(1.5, 3.5, (3, 2))
        self.phases: NDArray[np.float64] = rng.uniform(0, 2 * np.pi, (3, 2))
        self.sway: NDArray[np.float64] = rng.uniform(0.0, 0.022, (3, 2))

    def __call__(self, points: Points) -> Points:
        """Map points [n, 2] of the anatomy's own frame into the tissue frame."""
        angle = points[:, None, ::-1] * self.waves + self.phases  # [n, 3, 2]
        bent = points + (self.sway * np.sin(angle)).sum(axis=1)
        return np.asarray(bent @ self.matrix.T + self.shift, np.float64)


class Canvas:
    """Maps [MAP_PIXELS, MAP_PIXELS]: scatter amplitude, specular (mirror) amplitude, attenuation per sample."""

    def __init__(self, apex: tuple[float, float], scatter: float) -> None:
        self.apex: NDArray[np.float64] = np.array(apex)
        self.scatter: FloatArray = np.full((MAP_PIXELS, MAP_PIXELS), scatter, np.float32)
        self.mirror: FloatArray = np.zeros((MAP_PIXELS, MAP_PIXELS), np.float32)
        self.attenuation: FloatArray = np.zeros((MAP_PIXELS, MAP_PIXELS), np.float32)

    def fill(self, points: Points, scatter: float, attenuation: float = 0.0) -> None:
        """Set scatter amplitude (1 is soft tissue, 0 is fluid) and attenuation inside an outline [n, 2]."""
        outline = [_map_points(points)]
        cv2.fillPoly(self.scatter, outline, scatter, shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.mirror, outline, 0.0, shift=SUBPIXEL_BITS)
        cv2.fillPoly(self.attenuation, outline, attenuation, shift=SUBPIXEL_BITS)

    def wall(
        self, points: Points, thickness: float, level: float, attenuation: float = 0.0, facing: float = 0.8
    ) -> None:
        """Draw a specular line [n, 2]; it reflects less where it is parallel to the beam.

        Args:
            points: of the line, in the tissue frame.
            thickness: in tissue units.
            level: mirror amplitude where the line is perpendicular to the beam.
            attenuation: per sample; bone casts a shadow.
            facing: fraction of the amplitude that depends on the angle to the beam.
        """
        pixels = _map_points(points)
        width = max(1, round(thickness * PIXELS_PER_UNIT))
        along = np.diff(points, axis=0)
        beam = (points[:-1] + points[1:]) / 2 - self.apex
        cross = np.abs(along[:, 0] * beam[:, 1] - along[:, 1] * beam[:, 0])
        square_on = cross / (np.linalg.norm(along, axis=1) * np.linalg.norm(beam, axis=1) + 1e-9)
        levels = level * (1 - facing + facing * square_on**2)
        for start, stop, bright in zip(pixels[:-1], pixels[1:], levels, strict=True):
            cv2.line(self.mirror, start.tolist(), stop.tolist(), float(bright), width, cv2.LINE_8, SUBPIXEL_BITS)
        if attenuation > 0:
            cv2.polylines(self.attenuation, [pixels], False, attenuation, width, cv2.LINE_8, SUBPIXEL_BITS)


def map_scale_and_origin() -> tuple[float, float]:
    """Return scale and origin of the map: pixel = unit * scale + origin."""
    return PIXELS_PER_UNIT, (MAP_PIXELS - 1) / 2


def _map_points(points: Points) -> NDArray[np.int32]:
    scale, origin = map_scale_and_origin()
    fixed = (points * scale + origin) * (1 << SUBPIXEL_BITS)
    return np.clip(np.round(fixed), -(1 << 20), 1 << 20).astype(np.int32)
