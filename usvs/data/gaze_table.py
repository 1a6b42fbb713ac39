"""Where the sonographer looked, as one table over frames, and as maps: densities and fixated pixels (section 3.3).

Letters: n frames, k looks a frame at most, H and W of a map, P side of a prepared frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.frame_table import FrameTable, every_nth_frame
from usvs.data.patients import scan_groups
from usvs.errors import DataError
from usvs.evaluation.folds import GroupBy
from usvs.store.prepared import PreparedScan, PreparedStore
from usvs.tasks.saliency.settings import SaliencySettings


@dataclass(frozen=True)
class GazeTable:
    """Frames that somebody looked at.

    Attributes:
        frames: which; their `group` is the patient.
        looks: [n, k, 2] x and y as shares of the prepared frame, NaN where there are fewer than k.
        sigma: [n, 2] the Gaussian's standard deviation in x and y, as shares of the prepared frame.
    """

    frames: FrameTable
    looks: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "GazeTable":
        """Return the rows named by numbers or by a mask."""
        return GazeTable(self.frames.take(rows), self.looks[rows], self.sigma[rows])

    def of_groups(self, groups: Sequence[str]) -> "GazeTable":
        """Return the frames of these patients.

        Raises:
            DataError: where none of them has a frame here.
        """
        chosen = self.take(np.isin(self.frames.group, list(groups)))
        if not len(chosen):
            raise DataError(f"no frames with gaze for patients {', '.join(sorted(groups)[:5])}")
        return chosen


def gaze_frames(store: PreparedStore, settings: SaliencySettings, group_by: GroupBy = "patient") -> GazeTable:
    """List every n-th frame with a look within the window around it, over all scans with gaze.

    A look is what the store keeps for a frame, the mean of the tracker's samples within half a frame; those of the
    frames within `window_seconds` count for one frame together.

    Args:
        store: where the scans are prepared.
        settings: temporal stride, window and sigma.
        group_by: ``scan`` takes each scan for a patient of its own.

    Raises:
        DataError: where no scan has gaze, or one with gaze has no patient id and `group_by` is not ``scan``.
    """
    scans = [number for number in range(len(store.scans)) if np.isfinite(store.scan(number).gaze).any()]
    if not scans:
        raise DataError("no scan of this store has gaze: put <scan>.gaze.csv beside the videos and index again")
    groups = dict(zip(scans, scan_groups(store, scans, group_by), strict=True))
    table = every_nth_frame(store, scans, settings.temporal_stride)
    table = replace(table, group=np.array([groups[number] for number in table.scan.tolist()]))
    looks = [_looks(store.scan(n), table.frame[table.scan == n], settings.window_seconds) for n in scans]
    widest = max(part.shape[1] for part in looks)
    padded = [np.pad(p, ((0, 0), (0, widest - p.shape[1]), (0, 0)), constant_values=np.nan) for p in looks]
    sigma = {number: _sigma_shares(store.scan(number), settings) for number in scans}
    whole = GazeTable(table, np.concatenate(padded), np.array([sigma[number] for number in table.scan.tolist()]))
    seen = whole.take(np.any(np.isfinite(whole.looks[..., 0]), axis=1))
    if not len(seen):
        raise DataError(f"no frame has gaze at a temporal stride of {settings.temporal_stride}")
    return seen


def gaze_density(looks: NDArray[np.float64], sigma: NDArray[np.float64], height: int, width: int) -> Tensor:
    """Return the sum of a Gaussian around each look, divided by its sum over pixels: float32 [n, H, W].

    A look outside of the map counts for nothing; a frame without any inside is zero all over.

    Args:
        looks: [n, k, 2] x and y as shares of the map, NaN for none.
        sigma: [n, 2] standard deviations in x and y, as shares of the map.
        height: H.
        width: W.
    """
    inside = looks_inside(looks)
    places = np.where(inside[..., None], looks, 0.5)
    profiles = []
    for axis, size in ((0, width), (1, height)):
        centres = (np.arange(size) + 0.5) / size
        distance = (centres - places[..., axis, None]) / sigma[:, None, axis, None]
        profiles.append(torch.from_numpy(np.exp(-0.5 * distance**2) * inside[..., None]).float())
    density = torch.einsum("nkh,nkw->nhw", profiles[1], profiles[0])
    total = density.sum(dim=(1, 2), keepdim=True)
    return density / torch.where(total > 0, total, 1.0)


def fixated_pixels(looks: NDArray[np.float64], height: int, width: int) -> Tensor:
    """Return which pixels were looked at, bool [n, H, W]; looks [n, k, 2] are shares of the map."""
    fixations = torch.zeros(len(looks), height, width, dtype=torch.bool)
    frame, look = np.nonzero(looks_inside(looks))
    x, y = looks[frame, look].T
    fixations[torch.from_numpy(frame), torch.from_numpy(_pixel(y, height)), torch.from_numpy(_pixel(x, width))] = True
    return fixations


def looks_inside(looks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which looks [n, k, 2] are there and inside of the map they are shares of, [n, k]."""
    x, y = looks[..., 0], looks[..., 1]
    return np.asarray((x >= 0) & (x < 1) & (y >= 0) & (y < 1))  # false for NaN


def _pixel(share: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.minimum((share * size).astype(np.int64), size - 1)


def _looks(scan: PreparedScan, frames: NDArray[np.int64], window_seconds: float) -> NDArray[np.float64]:
    """Looks [n, k, 2] of the frames within the window around each of `frames`."""
    seconds = scan.frame_seconds
    # frame times are whole ticks of a clock: a frame on the window's edge is in it, however its time is rounded
    first = np.searchsorted(seconds, seconds[frames] - window_seconds - 1e-6)
    last = np.searchsorted(seconds, seconds[frames] + window_seconds + 1e-6)
    places = first[:, None] + np.arange(int((last - first).max()))
    looks = np.asarray(scan.gaze, np.float64)[np.minimum(places, len(seconds) - 1)]
    looks[places >= last[:, None]] = np.nan
    return np.asarray(looks)


def _sigma_shares(scan: PreparedScan, settings: SaliencySettings) -> tuple[float, float]:
    degree = scan.gaze_degree
    if degree is None:
        raise DataError(f"scan {scan.scan_key}: prepared before a degree of gaze was kept with it; prepare it again")
    return settings.sigma_degrees * degree[0], settings.sigma_degrees * degree[1]
