"""Gaze samples of a scan on the scan clock, and their mean for each video frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import FULL_SCREEN, GazeAlignment
from usvs.archive.gaze_formats import read_gaze_recording
from usvs.errors import DataError
from usvs.media.box import Box

TRACKER_RATES_HZ = (1.0, 5000.0)  # range of sample rates of eye trackers, with a wide margin
DEFAULT_FRAME_SECONDS = 1 / 30  # duration of a frame in a video of one frame
EYES_APART = 0.05  # of the video's width and height: more than between the two eyes of one person
MAX_SPLIT_TIMES, MIN_SPLIT_TIMES = 0.02, 10  # of all times, and at least; single ones are errors of the tracker


@dataclass(frozen=True)
class GazeSamples:
    """Valid samples sorted by time, m of them.

    Attributes:
        seconds: times on the scan clock [m].
        x: horizontal position as a fraction of the video's width [m].
        y: vertical position as a fraction of the video's height [m].
        viewing_distance_mm: distance of the eyes from the screen, if it was recorded.
        note: what was assumed about the recording's clock, and whether its unit is doubtful.
    """

    seconds: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    viewing_distance_mm: float | None = None
    note: str | None = None


def read_gaze(path: str | Path, alignment: GazeAlignment | None = None, names: Sequence[str] = ()) -> GazeSamples:
    """Read a gaze recording in one of the formats of `usvs.archive.gaze_formats`.

    Args:
        path: csv or tsv; its format, units and clock are read from its header.
        alignment: clock and screen of the recording; None: the video filled the screen, the clock is as recorded.
        names: paths in the archive of the scan and of this file, by which one of several recordings is chosen.

    Raises:
        DataError: for an unknown format, an invalid value, and if no sample is valid.
    """
    alignment = alignment or GazeAlignment()
    recording = read_gaze_recording(Path(path), names)
    zero = recording.zero if alignment.zero is None else alignment.zero
    clock_rate = recording.ticks_per_second * (1 + alignment.drift_ppm * 1e-6)
    seconds = (recording.ticks - zero) / clock_rate + alignment.offset_seconds
    left, top, right, bottom = alignment.picture if recording.on_screen else FULL_SCREEN
    x, y = (recording.x - left) / (right - left), (recording.y - top) / (bottom - top)
    is_valid = np.isfinite(seconds) & np.isfinite(x) & np.isfinite(y)
    order = np.argsort(seconds[is_valid], kind="stable")
    if not len(order):
        raise DataError(f"gaze: no valid sample: expected at least one, got {len(seconds)} samples that are not valid")
    seconds, x, y = seconds[is_valid][order], x[is_valid][order], y[is_valid][order]
    _check_one_position_at_a_time(seconds, x, y)
    is_clock_stated = alignment.zero is not None or bool(alignment.offset_seconds)
    notes = (None if is_clock_stated else recording.note, _rate_note(seconds))
    note = "; ".join(part for part in notes if part) or None
    return GazeSamples(seconds, x, y, recording.viewing_distance_mm, note)


def _check_one_position_at_a_time(seconds: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Check that sorted samples are of one person: the mean of two would be where neither looks.

    Raises:
        DataError: where many times have two positions that are further apart than those of two eyes.
    """
    is_split = (np.diff(seconds) == 0) & (np.hypot(np.diff(x), np.diff(y)) > EYES_APART)
    times = len(np.unique(seconds))
    if (split := len(np.unique(seconds[1:][is_split]))) > max(MAX_SPLIT_TIMES * times, MIN_SPLIT_TIMES):
        raise DataError(
            f"gaze: several positions at one time: expected one person's, got two at {split} of {times} times, the "
            f"first at {seconds[1:][is_split][0]:.3f} s"
        )


def _rate_note(seconds: NDArray[np.float64]) -> str | None:
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    low, high = TRACKER_RATES_HZ
    if step == 0 or low <= 1 / step <= high:
        return None
    return f"gaze: expected {low:g} to {high:g} samples per second, got {1 / step:.3g}: check the clock's unit"


def average_gaze_per_frame(
    samples: GazeSamples, frame_seconds: NDArray[np.float64], box: Box, width: int, height: int
) -> NDArray[np.float32]:
    """Return the mean of the samples within half a frame of each frame, as fractions of the box.

    Args:
        samples: gaze on the complete video frame.
        frame_seconds: sorted frame times [n].
        box: inscribed crop of the sector, in pixels; samples outside of it are left out.
        width: of the video frame, in pixels.
        height: of the video frame, in pixels.

    Returns:
        x, y in [0, 1), NaN for a frame without samples [n, 2].
    """
    x = (samples.x * width - box.left) / box.width
    y = (samples.y * height - box.top) / box.height
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    seconds, positions = samples.seconds[inside], np.stack([x[inside], y[inside]], axis=1)
    frame_duration = float(np.median(np.diff(frame_seconds))) if len(frame_seconds) > 1 else DEFAULT_FRAME_SECONDS
    half = frame_duration / 2
    first = np.searchsorted(seconds, frame_seconds - half, side="left")
    last = np.searchsorted(seconds, frame_seconds + half, side="left")
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(positions, axis=0)])
    count = (last - first)[:, None]
    with np.errstate(invalid="ignore"):
        mean = (sums[last] - sums[first]) / count  # 0 / 0 is NaN where a frame has no samples
    result: NDArray[np.float32] = mean.astype(np.float32)
    return result
