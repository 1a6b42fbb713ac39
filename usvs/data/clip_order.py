"""The order in which an epoch visits the clips: a keyed permutation, of single clips or of runs of clips of one scan.

With runs of r clips a batch holds r clips of each of a few scans. Its candidates then share patient, scanner and
speaker with the frame, so that none of these says which speech belongs to it. Not in the paper, whose batches are
drawn from all scans; its hard negatives serve the same end.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from usvs.store.clips import ClipTable
from usvs.utils.permutation import Int64Array, derive_key, permute

OFFSET, RUNS, WITHIN_SCAN = range(3)  # streams of the keys


@dataclass(frozen=True, eq=False)
class ClipOrder:
    """The clips of each epoch in an order of their own, without state: position -> row of the table.

    The clips of each scan are permuted, all scans in turn are cut into runs of `run_clips` from a random offset on, and
    the runs are permuted. A run may contain the end of a scan and the beginning of the next one.

    Attributes:
        clips: the table.
        run_clips: clips of one scan beside each other; 1: one permutation of all clips.
    """

    clips: ClipTable
    run_clips: int = 1

    @cached_property
    def first(self) -> Int64Array:
        """Row at which each scan begins, and the number of clips: [S + 1] int64."""
        return np.searchsorted(self.clips.scan, np.arange(len(self.clips.scan_patient) + 1)).astype(np.int64)

    def rows(self, position: Int64Array, key: int) -> Int64Array:
        """Return the rows [b] at positions [b], each in 0 .. n - 1, of the epoch that has the key."""
        count = len(self.clips)
        if self.run_clips == 1:
            return permute(position, count, key)
        runs = count // self.run_clips  # an incomplete one stays last
        run, place = np.divmod(position, self.run_clips)
        whole = run < runs
        moved = run.copy()
        if whole.any():
            moved[whole] = permute(run[whole], runs, derive_key(key, RUNS))
        in_turn = (moved * self.run_clips + place + derive_key(key, OFFSET) % count) % count
        rows = in_turn.copy()
        scans = self.clips.scan[in_turn]
        for scan in np.unique(scans):
            own, first = scans == scan, self.first[scan]
            length = int(self.first[scan + 1] - first)
            rows[own] = first + permute(in_turn[own] - first, length, derive_key(key, WITHIN_SCAN, int(scan)))
        return rows

    def row_of_scan(self, rows: Int64Array, uniform: np.typing.NDArray[np.float64]) -> Int64Array:
        """Return rows [b, k] of random clips of the scans of `rows` [b], given numbers [b, k] in [0, 1)."""
        scan = self.clips.scan[rows]
        first, length = self.first[scan][:, None], (self.first[scan + 1] - self.first[scan])[:, None]
        chosen: Int64Array = first + np.floor(uniform * length).astype(np.int64)
        return chosen
