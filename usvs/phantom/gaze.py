"""Simulated gaze of the sonographer: fixations on the landmarks of the plane, saccades between them, blinks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JITTER_FRACTION = 0.012  # of the frame, around the fixated landmark
SCATTER_FRACTION = 0.02  # standard deviation of a fixation's offset from its landmark
SACCADE_SECONDS = 0.04
MAIN_LANDMARK_PROBABILITY = 0.65


@dataclass(frozen=True)
class Gaze:
    """Samples of an eye tracker: seconds [m], points [m, 2] as fractions of the frame (NaN if not valid), valid [m]."""

    seconds: NDArray[np.float64]
    points: NDArray[np.float64]
    valid: NDArray[np.bool_]


def simulate_gaze(
    rng: np.random.Generator,
    duration_seconds: float,
    rate_hz: float,
    landmarks: Callable[[float], NDArray[np.float64]],
) -> Gaze:
    """Simulate the gaze of a scan.

    Args:
        rng: stream of the scan's gaze.
        duration_seconds: of the scan.
        rate_hz: mean rate of the tracker; its sample times vary slightly.
        landmarks: function of the time: landmarks [k, 2] on the screen as fractions of the frame, the main one first.
    """
    count = int(duration_seconds * rate_hz)
    seconds = (np.arange(count) + rng.uniform(0, 0.3, count)) / rate_hz
    aim, offset, next_jump, jump_start = 0, np.zeros(2), 0.0, -1.0
    origin = point = landmarks(0.0)[0]
    points = np.empty((count, 2))
    for row, now in enumerate(seconds):
        targets = landmarks(float(now))
        if now >= next_jump:
            origin, jump_start = point, float(now)
            aim = 0 if rng.random() < MAIN_LANDMARK_PROBABILITY else int(rng.integers(0, len(targets)))
            offset = rng.normal(0, SCATTER_FRACTION, 2)
            next_jump = now + rng.gamma(4.0, 0.1) + 0.12
        target = targets[min(aim, len(targets) - 1)] + offset
        part = min(1.0, (now - jump_start) / SACCADE_SECONDS)
        point = origin + (target - origin) * part
        points[row] = point
    points += rng.normal(0, JITTER_FRACTION / 2, points.shape)
    valid = ~_blinks(rng, seconds) & np.all((points >= 0) & (points <= 1), axis=1)
    points[~valid] = np.nan
    return Gaze(seconds, points, valid)


def gaze_at(gaze: Gaze, frame_seconds: NDArray[np.float64], half_width: float) -> NDArray[np.float32]:
    """Return the mean of the valid samples around each frame [n, 2]; NaN if there is none."""
    seconds, points = gaze.seconds[gaze.valid], gaze.points[gaze.valid]
    first = np.searchsorted(seconds, frame_seconds - half_width)
    last = np.searchsorted(seconds, frame_seconds + half_width)
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(points, axis=0)])
    count = (last - first)[:, None].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sums[last] - sums[first]) / count, np.float32)


def _blinks(rng: np.random.Generator, seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    closed = np.zeros(len(seconds), np.bool_)
    now = float(rng.exponential(4.0))
    while len(seconds) and now < seconds[-1]:
        stop = now + float(rng.uniform(0.1, 0.3))
        closed |= (seconds >= now) & (seconds < stop)
        now = stop + 0.5 + float(rng.exponential(4.0))
    return closed
