"""Gaze as one table over frames, and as maps: saliency densities and fixated pixels (section 3.3).

Letters: n frames, k fixations per frame at most, H and W of a map, P side of a prepared frame.
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
from usvs.store.prepared import PreparedStore
from usvs.store.prepared_scan import PreparedScan

TIME_ROUNDING_SECONDS = 1e-6  # frame times are multiples of a clock tick, stored rounded


@dataclass(frozen=True)
class GazeTable:
    """Frames with at least one fixation.

    Attributes:
        frames: the frames; their `group` is the patient.
        fixations: [n, k, 2] x and y as fractions of the prepared frame, NaN where a frame has fewer than k.
        sigma: [n, 2] standard deviation of the Gaussian in x and y, as fractions of the prepared frame.
    """

    frames: FrameTable
    fixations: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def scan(self) -> NDArray[np.int32]:
        """Number of each frame's scan in the store, [n]."""
        return self.frames.scan

    @property
    def group(self) -> NDArray[np.str_]:
        """Patient of each frame, [n]."""
        return self.frames.group

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "GazeTable":
        """Return the rows named by numbers or by a mask."""
        return GazeTable(self.frames.take(rows), self.fixations[rows], self.sigma[rows])

    def of_groups(self, groups: Sequence[str]) -> "GazeTable":
        """Return the frames of these patients.

        Raises:
            DataError: where none of them has a frame in the table.
        """
        chosen = self.take(np.isin(self.frames.group, list(groups)))
        if not len(chosen):
            raise DataError(f"no frames with gaze for patients {', '.join(sorted(groups)[:5])}")
        return chosen


def gaze_frames(
    store: PreparedStore,
    stride: int,
    window_seconds: float,
    sigma_degrees: float,
    group_by: GroupBy = "patient",
) -> GazeTable:
    """List every `stride`-th frame that has a fixation within the time window around it, over all scans with gaze.

    A fixation is the value that the store keeps for a frame: the mean of the eye tracker's samples within half a frame.
    The fixations of all frames within `window_seconds` before and after a frame count for that frame.

    Args:
        store: the prepared scans.
        stride: temporal down-sampling, in frames.
        window_seconds: half of the window's length.
        sigma_degrees: standard deviation of the Gaussian around a fixation, degrees of visual angle.
        group_by: ``scan`` counts each scan as a patient of its own.

    Raises:
        DataError: where no scan has gaze, or one with gaze has no patient id and `group_by` is not ``scan``.
    """
    scans = [number for number in range(len(store.scans)) if np.isfinite(store.scan(number).gaze).any()]
    if not scans:
        raise DataError("no scan of this store has gaze: put <scan>.gaze.csv beside the videos and index again")
    groups = dict(zip(scans, scan_groups(store, scans, group_by), strict=True))
    table = every_nth_frame(store, scans, stride)
    table = replace(table, group=np.array([groups[number] for number in table.scan.tolist()]))
    parts = [_fixations(store.scan(n), table.frame[table.scan == n], window_seconds) for n in scans]
    most = max(part.shape[1] for part in parts)
    padded = [np.pad(p, ((0, 0), (0, most - p.shape[1]), (0, 0)), constant_values=np.nan) for p in parts]
    sigma = {number: _sigma_fractions(store.scan(number), sigma_degrees) for number in scans}
    listed = GazeTable(table, np.concatenate(padded), np.array([sigma[number] for number in table.scan.tolist()]))
    fixated = listed.take(np.any(np.isfinite(listed.fixations[..., 0]), axis=1))
    if not len(fixated):
        raise DataError(f"no frame has gaze at a temporal stride of {stride}")
    return fixated


def gaze_density(fixations: NDArray[np.float64], sigma: NDArray[np.float64], height: int, width: int) -> Tensor:
    """Return the sum of a Gaussian around each fixation, normalised to a sum of 1 over pixels: float32 [n, H, W].

    Fixations outside of the map are ignored; a frame without any inside gives a map of zeros.

    Args:
        fixations: [n, k, 2] x and y as fractions of the map, NaN for none.
        sigma: [n, 2] standard deviations in x and y, as fractions of the map.
        height: H.
        width: W.
    """
    inside = fixations_inside(fixations)
    centre = np.where(inside[..., None], fixations, 0.5)
    profiles = []
    for axis, size in ((0, width), (1, height)):
        pixel_centres = (np.arange(size) + 0.5) / size
        distance = (pixel_centres - centre[..., axis, None]) / sigma[:, None, axis, None]
        profiles.append(torch.from_numpy(np.exp(-0.5 * distance**2) * inside[..., None]).float())
    density = torch.einsum("nkh,nkw->nhw", profiles[1], profiles[0])
    total = density.sum(dim=(1, 2), keepdim=True)
    return density / torch.where(total > 0, total, 1.0)


def fixated_pixels(fixations: NDArray[np.float64], height: int, width: int) -> Tensor:
    """Return which pixels hold a fixation, bool [n, H, W]; fixations [n, k, 2] are fractions of the map."""
    pixels = torch.zeros(len(fixations), height, width, dtype=torch.bool)
    frame, nth = np.nonzero(fixations_inside(fixations))
    x, y = fixations[frame, nth].T
    pixels[torch.from_numpy(frame), torch.from_numpy(_pixel(y, height)), torch.from_numpy(_pixel(x, width))] = True
    return pixels


def fixations_inside(fixations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which fixations [n, k, 2] exist and are inside of the map that they are fractions of: [n, k]."""
    x, y = fixations[..., 0], fixations[..., 1]
    return np.asarray((x >= 0) & (x < 1) & (y >= 0) & (y < 1))  # false for NaN


def _pixel(fraction: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.minimum((fraction * size).astype(np.int64), size - 1)


def _fixations(scan: PreparedScan, frames: NDArray[np.int64], window_seconds: float) -> NDArray[np.float64]:
    """Fixations [n, k, 2] of the frames within the time window around each of `frames`."""
    seconds = scan.frame_seconds
    # a frame on the window's edge is in it, whichever way its time was rounded
    first = np.searchsorted(seconds, seconds[frames] - window_seconds - TIME_ROUNDING_SECONDS)
    last = np.searchsorted(seconds, seconds[frames] + window_seconds + TIME_ROUNDING_SECONDS)
    neighbours = first[:, None] + np.arange(int((last - first).max()))
    fixations = np.asarray(scan.gaze, np.float64)[np.minimum(neighbours, len(seconds) - 1)]
    fixations[neighbours >= last[:, None]] = np.nan
    return np.asarray(fixations)


def _sigma_fractions(scan: PreparedScan, sigma_degrees: float) -> tuple[float, float]:
    degree = scan.gaze_degree
    if degree is None:
        raise DataError(
            f"scan {scan.scan_key}: expected the size of one degree of visual angle, got none (prepared by an older"
            " usvs): prepare it again"
        )
    return sigma_degrees * degree[0], sigma_degrees * degree[1]
