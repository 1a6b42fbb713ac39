"""Gaze samples beside a scan, and their mean for each frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from usvs.archive.sector import Box
from usvs.errors import DataError

COLUMNS = ("timestamp_us", "x", "y", "valid")
TRUE_WORDS = ("1", "1.0", "true", "True", "TRUE", "valid", "Valid")


@dataclass(frozen=True)
class GazeSamples:
    """Valid samples sorted by time: seconds on the scan clock, x and y as shares of the whole video frame, all [m]."""

    seconds: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def read_gaze(path: Path) -> GazeSamples:
    """Read a `<stem>.gaze.csv` with the columns ``timestamp_us,x,y,valid``; samples not valid are left out.

    Raises:
        DataError: for a missing column or a value that is no number.
    """
    numbers = {name: pa.float64() for name in COLUMNS[:3]}
    options = csv.ConvertOptions(column_types={**numbers, "valid": pa.string()}, null_values=["", "nan", "NaN", "NA"])
    try:
        table = csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"gaze: not readable as csv of {', '.join(COLUMNS)} ({type(error).__name__})") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"gaze: column '{missing[0]}' is missing, wanted {', '.join(COLUMNS)}")
    stated = pc.is_in(table["valid"], value_set=pa.array(TRUE_WORDS)).to_numpy()
    time, x, y = (table[name].to_numpy() for name in COLUMNS[:3])
    valid = stated & np.isfinite(time) & np.isfinite(x) & np.isfinite(y)
    order = np.argsort(time[valid], kind="stable")
    return GazeSamples(time[valid][order] / 1e6, x[valid][order], y[valid][order])


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
