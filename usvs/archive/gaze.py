"""Gaze samples beside a scan, and their mean for each frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import GazeAlignment
from usvs.archive.gaze_formats import read_gaze_table
from usvs.errors import DataError
from usvs.media.box import Box

RATES_HZ = (1.0, 5000.0)  # of eye trackers, with much to spare


@dataclass(frozen=True)
class GazeSamples:
    """Valid samples sorted by time, m of them.

    Attributes:
        seconds: on the scan clock [m].
        x: as a share of the whole video picture's width [m].
        y: as a share of its height [m].
        viewing_distance_mm: of the eyes from the screen, where the recording has it.
        note: what was assumed of the recording's clock, and whether its unit may be another.
    """

    seconds: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    viewing_distance_mm: float | None = None
    note: str | None = None


def read_gaze(path: Path, view: GazeAlignment | None = None) -> GazeSamples:
    """Read a gaze recording: our own csv (``timestamp_us,x,y,valid``), Tobii SDK, Tobii Pro Lab or SonoAssist.

    Args:
        path: of a csv or tsv; which form it has, its units and its clock are read from the header.
        view: when and where it was made; None: on the scan's clock, the picture filling the screen.

    Raises:
        DataError: for a missing column, a value that is no number, and where no sample is valid.
    """
    view = view or GazeAlignment()
    table = read_gaze_table(path)
    zero = table.zero if view.zero is None else view.zero
    seconds = (table.ticks - zero) / (table.ticks_per_second * (1 + view.drift_ppm * 1e-6)) + view.offset_seconds
    left, top, right, bottom = view.picture if table.on_screen else (0.0, 0.0, 1.0, 1.0)
    x, y = (table.x - left) / (right - left), (table.y - top) / (bottom - top)
    valid = np.isfinite(seconds) & np.isfinite(x) & np.isfinite(y)
    order = np.argsort(seconds[valid], kind="stable")
    if not len(order):
        raise DataError(f"gaze: none of its {len(seconds)} samples is valid")
    assumed = None if view.zero is not None or view.offset_seconds else table.note
    seconds = seconds[valid][order]
    note = "; ".join(part for part in (assumed, _unit_note(seconds)) if part) or None
    return GazeSamples(seconds, x[valid][order], y[valid][order], table.viewing_distance_mm, note)


def _unit_note(seconds: NDArray[np.float64]) -> str | None:
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    if step == 0 or RATES_HZ[0] <= 1 / step <= RATES_HZ[1]:
        return None
    return f"gaze: {1 / step:.3g} samples a second: is its clock in the unit that the header says?"


def gaze_per_frame(
    samples: GazeSamples, frame_seconds: NDArray[np.float64], box: Box, width: int, height: int
) -> NDArray[np.float32]:
    """Return the mean of the samples within half a frame of each frame, as shares of the box; NaN where there is none.

    Args:
        samples: gaze on the whole video frame.
        frame_seconds: sorted frame times [n].
        box: the inner box of the fan, in pixels; a sample outside of it looks at no anatomy and is left out.
        width: of the video frame, in pixels.
        height: of the video frame, in pixels.

    Returns:
        x, y [n, 2], each in [0, 1).
    """
    x = (samples.x * width - box.left) / box.width
    y = (samples.y * height - box.top) / box.height
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    seconds, places = samples.seconds[inside], np.stack([x[inside], y[inside]], axis=1)
    half = float(np.median(np.diff(frame_seconds))) / 2 if len(frame_seconds) > 1 else 1 / 60
    first = np.searchsorted(seconds, frame_seconds - half, side="left")
    last = np.searchsorted(seconds, frame_seconds + half, side="left")
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(places, axis=0)])
    count = (last - first)[:, None]
    with np.errstate(invalid="ignore"):
        mean = (sums[last] - sums[first]) / count
    result: NDArray[np.float32] = mean.astype(np.float32)  # [n, 2]; 0 / 0 is the NaN that says: none
    return result
