"""Motion of the transducer: a steady drift, occasional changes of direction, and tremor of the hand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.phantom.geometry import FloatArray

TURN_PROBABILITY = 0.35
SMOOTHING_SECONDS = 0.3
TREMOR_UNITS = 0.006
MAX_DEGREES_PER_SECOND = 5.0


@dataclass(frozen=True)
class Pose:
    """Pose of the transducer in the tissue: shift in tissue units, rotation in radians, magnification."""

    x: float
    y: float
    turn: float
    zoom: float

    def slab_points(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Map points of the view to points of the tissue."""
        c, s = np.float32(np.cos(self.turn) / self.zoom), np.float32(np.sin(self.turn) / self.zoom)
        return c * x - s * y + np.float32(self.x), s * x + c * y + np.float32(self.y)

    def view_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points [k, 2] of the tissue to points of the view; the inverse of `slab_points`."""
        c, s = np.cos(self.turn) * self.zoom, np.sin(self.turn) * self.zoom
        moved = points - np.array([self.x, self.y])
        return np.asarray(moved @ np.array([[c, -s], [s, c]]), np.float64)


def draw_poses(rng: np.random.Generator, frames: int, rate_hz: float, speed: float) -> list[Pose]:
    """Draw the poses of all frames of one visit.

    Args:
        rng: the visit's stream.
        frames: number of frames.
        rate_hz: of the video.
        speed: of the drift, in tissue units per second.
    """
    heading = rng.uniform(0, 2 * np.pi)
    rates = np.empty((frames, 4))  # x, y, turn, log zoom; per second
    rates[:] = _leg(rng, heading, speed)
    if rng.random() < TURN_PROBABILITY:
        bend = round(frames * rng.uniform(0.3, 0.7))
        rates[bend:] = _leg(rng, heading + rng.choice([-1, 1]) * rng.uniform(np.pi / 4, np.pi), speed)
    rates *= 1 + 0.25 * np.sin(np.linspace(0, rng.uniform(1, 4), frames) + rng.uniform(0, 6))[:, None]
    path = np.cumsum(_smooth(rates, SMOOTHING_SECONDS * rate_hz), axis=0) / rate_hz
    path -= path.mean(axis=0)
    path += _smooth(rng.normal(0, TREMOR_UNITS, (frames, 4)) * 2, 0.12 * rate_hz) * np.array([1, 1, 0.4, 0.3])
    return [Pose(float(x), float(y), float(turn), float(np.exp(zoom))) for x, y, turn, zoom in path]


def _leg(rng: np.random.Generator, heading: float, speed: float) -> NDArray[np.float64]:
    turn = np.deg2rad(rng.uniform(-MAX_DEGREES_PER_SECOND, MAX_DEGREES_PER_SECOND))
    return np.array([speed * np.cos(heading), 0.7 * speed * np.sin(heading), turn, rng.uniform(-0.03, 0.03)])


def _smooth(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Average each column [n, k] over a window of about `width` rows, its ends repeated."""
    size = max(1, int(width)) | 1
    padded = np.pad(values, ((size // 2, size // 2), (0, 0)), mode="edge")
    kernel = np.hanning(size + 2)[1:-1]
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], axis=1)
