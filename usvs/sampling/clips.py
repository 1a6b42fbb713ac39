"""The clips of an archive as columns: which scan, from when, with how much speech."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from usvs.errors import DataError


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Clips of equal length that do not overlap, n of them in S scans, sorted by scan and then by start.

    Numbers may be missing: a clip table is often a selection of a larger one.

    Attributes:
        scan: [n] int32, number of the clip's scan, 0 .. S - 1.
        start_seconds: [n] float64, on the scan's clock; the clip is [start, start + clip_seconds).
        speech_fraction: [n] float32 in 0 .. 1, NaN where the clip has no sound.
        scan_patient: [S] int32, group number of each scan's patient, -1 where it is not known.

    Raises:
        DataError: when columns differ in length, are out of order, or name a scan past S.
    """

    scan: npt.NDArray[np.int32]
    start_seconds: npt.NDArray[np.float64]
    speech_fraction: npt.NDArray[np.float32]
    scan_patient: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = {len(self.scan), len(self.start_seconds), len(self.speech_fraction)}
        if len(lengths) != 1:
            raise DataError(f"clip table: wanted columns of one length, got {sorted(lengths)}")
        if len(self) and not (self.scan[0] >= 0 and self.scan[-1] < len(self.scan_patient)):
            raise DataError(
                f"clip table: wanted scans 0 .. {len(self.scan_patient) - 1}, got {self.scan[0]} .. {self.scan[-1]}"
            )
        later_scan = self.scan[1:] > self.scan[:-1]
        later_start = (self.scan[1:] == self.scan[:-1]) & (self.start_seconds[1:] > self.start_seconds[:-1])
        if not np.all(later_scan | later_start):
            raise DataError("clip table: wanted clips sorted by scan and start, each once")

    def __len__(self) -> int:
        return len(self.scan)

    @property
    def has_sound(self) -> npt.NDArray[np.bool_]:
        """[n]: whether the clip has sound at all, speech or not."""
        return ~np.isnan(self.speech_fraction)

    @property
    def patient(self) -> npt.NDArray[np.int32]:
        """[n]: group number of the clip's patient, -1 where it is not known."""
        return self.scan_patient[self.scan]

    def select(self, mask: npt.NDArray[np.bool_]) -> "ClipTable":
        """Return the clips where `mask` [n] holds; scans keep their numbers."""
        return replace(
            self,
            scan=self.scan[mask],
            start_seconds=self.start_seconds[mask],
            speech_fraction=self.speech_fraction[mask],
        )
