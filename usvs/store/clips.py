"""The clips of an archive as columns: scan, start and speech fraction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from usvs.errors import DataError
from usvs.utils.columns import blocks, scratch_column


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Clips of equal length that do not overlap, n of them in S scans, sorted by scan and then by start.

    Clips and scan numbers may be missing: a table may be a selection of a larger one. Columns may be memory-mapped
    files, and large selections are, so that the clips of a large archive are never all in memory.

    Attributes:
        scan: [n] int32, number of the clip's scan, 0 .. S - 1.
        start_seconds: [n] float64, on the scan's clock; the clip is [start, start + clip_seconds).
        speech_fraction: [n] float32, fraction of the clip that is speech, 0 .. 1; NaN where it has no sound.
        scan_patient: [S] int32, group number of each scan's patient, -1 where the patient is not known.

    Raises:
        DataError: when columns differ in length, are not sorted, or contain a scan number outside of 0 .. S - 1.
    """

    scan: npt.NDArray[np.int32]
    start_seconds: npt.NDArray[np.float64]
    speech_fraction: npt.NDArray[np.float32]
    scan_patient: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = {len(self.scan), len(self.start_seconds), len(self.speech_fraction)}
        if len(lengths) != 1:
            raise DataError(f"clip table: expected columns of one length, got {sorted(lengths)}")
        if len(self) and not (self.scan[0] >= 0 and self.scan[-1] < len(self.scan_patient)):
            raise DataError(
                f"clip table: expected scans 0 .. {len(self.scan_patient) - 1}, got {self.scan[0]} .. {self.scan[-1]}"
            )
        for block in blocks(len(self) - 1):
            scan, start = (column[block.start : block.stop + 1] for column in (self.scan, self.start_seconds))
            later_start = (scan[1:] == scan[:-1]) & (start[1:] > start[:-1])
            if not np.all((scan[1:] > scan[:-1]) | later_start):
                raise DataError("clip table: expected clips sorted by scan and start, each once")

    def __len__(self) -> int:
        return len(self.scan)

    @property
    def has_sound(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has sound, speech or not: [n] bool."""
        return ~np.isnan(self.speech_fraction)

    @property
    def patient(self) -> npt.NDArray[np.int32]:
        """Group number of each clip's patient, -1 where it is not known: [n] int32."""
        return self.scan_patient[self.scan]

    def select(self, mask: npt.NDArray[np.bool_]) -> "ClipTable":
        """Return the clips where `mask` [n] is true; scans keep their numbers."""
        return self._kept(lambda block: mask[block])

    def of_scans(self, mask: npt.NDArray[np.bool_]) -> "ClipTable":
        """Return the clips of the scans where `mask` [S] is true; scans keep their numbers."""
        return self._kept(lambda block: mask[self.scan[block]])

    def _kept(self, keep: Callable[[slice], npt.NDArray[np.bool_]]) -> "ClipTable":
        count = sum(int(keep(block).sum()) for block in blocks(len(self)))
        old: tuple[npt.NDArray[Any], ...] = (self.scan, self.start_seconds, self.speech_fraction)
        new = tuple(scratch_column(count, column.dtype) for column in old)
        end = 0
        for block in blocks(len(self)):
            kept = keep(block)
            begin, end = end, end + int(kept.sum())
            for source, target in zip(old, new, strict=True):
                target[begin:end] = source[block][kept]
        scan, start_seconds, speech_fraction = new
        return replace(self, scan=scan, start_seconds=start_seconds, speech_fraction=speech_fraction)
