"""Times of hard-positive and hard-negative pairs (section 2.1, Fig. 2 left).

One scan's clips with clip_seconds = 2, K = 2 groups, D = 5, and a draw of delta = 3:

      0       2       4       6       8      10      12      14    seconds
      |-------|-------|-------|-------|-------|-------|-------|
              |   T   |                       |  T'   |
      video    v1  v2                                             frames v1, v2 anywhere in T
      speech   [s2]                                               pieces of speech_seconds, inside T,
                 [s1]                                             drawn independently of v1, v2
      speech                                    [s'1]             pieces inside T' = T + delta
                                                [s'2]
                      :<--- delta in 1 .. D - 1 clips --->:       T' is one of these; if there is no clip with
                                                                  sound at T + delta, it is at T - delta

Positive pairs are (v_k, s_k), negative pairs (v_k, s'_k). All groups of a clip share one T', as the paper writes it.
Distances are measured between the clips' start times, so that a table may lack some clips of a scan.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from usvs.errors import DataError
from usvs.store.clips import ClipTable
from usvs.store.settings import ClipSettings
from usvs.utils.permutation import Float64Array, Int64Array

BoolArray = npt.NDArray[np.bool_]

ROWS_AT_ONCE = 1 << 16


def draw_frame_seconds(start_seconds: Float64Array, uniform: Float64Array, settings: ClipSettings) -> Float64Array:
    """Return frame times [B, K] in [start, start + clip_seconds) from `uniform` [B, K] in [0, 1)."""
    start = start_seconds[:, None]
    # Rounding may carry start + 2 * 0.999... to the clip's end, which belongs to the next clip.
    return np.minimum(start + uniform * settings.clip_seconds, np.nextafter(start + settings.clip_seconds, start))


def draw_speech_starts(start_seconds: Float64Array, uniform: Float64Array, settings: ClipSettings) -> Float64Array:
    """Return starts [B, K] of speech pieces inside their clips, from `uniform` [B, K] in [0, 1)."""
    return start_seconds[:, None] + uniform * (settings.clip_seconds - settings.speech_seconds)


def negative_candidates(clips: ClipTable, rows: Int64Array, settings: ClipSettings) -> Int64Array:
    """Return, for each clip and each delta, the row of the hard negative's clip.

    Args:
        clips: the clip table.
        rows: [B] rows of the clips T.
        settings: clip length and D.

    Returns:
        [B, D - 1] int64: column delta - 1 holds the clip with sound that starts delta clips after T in the same scan,
        else the one that starts delta clips before, else -1.
    """
    reach = settings.shift_range_clips - 1
    later, earlier = (np.full((len(rows), reach), -1, np.int64) for _ in range(2))
    # The table is sorted and clips do not overlap, so clips within reach in time are within reach in rows.
    for offset in range(1, reach + 1):
        for sign, found in ((1, later), (-1, earlier)):
            other = rows + sign * offset
            row = np.clip(other, 0, len(clips) - 1)
            apart = np.abs(clips.start_seconds[row] - clips.start_seconds[rows]) / settings.clip_seconds
            delta = np.rint(apart).astype(np.int64)
            same_scan = (other == row) & (clips.scan[row] == clips.scan[rows])
            usable = same_scan & (delta >= 1) & (delta <= reach) & ~np.isnan(clips.speech_fraction[row])
            found[np.flatnonzero(usable), delta[usable] - 1] = row[usable]
    nearest: Int64Array = np.where(later >= 0, later, earlier)
    return nearest


def choose_negative(candidates: Int64Array, uniform: Float64Array) -> Int64Array:
    """Return one of each row's candidates that are not -1, all equally likely; -1 where there is none.

    Args:
        candidates: [B, D - 1] from `negative_candidates`.
        uniform: [B] in [0, 1).
    """
    exists = candidates >= 0
    nth = np.floor(uniform * exists.sum(axis=1)).astype(np.int64)
    column = np.argmax(np.cumsum(exists, axis=1) > nth[:, None], axis=1)
    chosen: Int64Array = candidates[np.arange(len(candidates)), column]
    return chosen


def has_usable_speech(clips: ClipTable, rows: Int64Array, settings: ClipSettings, affinity: bool) -> BoolArray:
    """Return whether each clip has sound and, with `affinity`, is a high-affinity clip (section 2.3): bool [B]."""
    fraction = clips.speech_fraction[rows]
    return fraction >= settings.speech_fraction_high if affinity else ~np.isnan(fraction)


class SpeechSources(NamedTuple):
    """The clips whose speech the shuffled control may pair with the frames of another scan, sorted by scan.

    Attributes:
        rows: [m] int64 rows of clips that can form a valid pair themselves.
        first: [S + 1] int64; the clips of scan s are rows[first[s]:first[s + 1]].
    """

    rows: Int64Array
    first: Int64Array


def find_speech_sources(clips: ClipTable, settings: ClipSettings, affinity: bool) -> SpeechSources:
    """List the clips with usable speech and a hard negative, for the shuffled control.

    Raises:
        DataError: when fewer than two scans have such clips.
    """
    blocks = []
    for start in range(0, len(clips), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(clips)), dtype=np.int64)
        rows = rows[has_usable_speech(clips, rows, settings, affinity)]
        blocks.append(rows[(negative_candidates(clips, rows, settings) >= 0).any(axis=1)])
    rows = np.concatenate(blocks)
    first = np.searchsorted(clips.scan[rows], np.arange(len(clips.scan_patient) + 1)).astype(np.int64)
    scans = int(np.count_nonzero(np.diff(first)))
    if scans < 2:
        raise DataError(f"objective.speech 'shuffled': expected at least two scans with speech, got {scans}")
    return SpeechSources(rows, first)


def choose_speech_source(sources: SpeechSources, scan: npt.NDArray[np.int32], uniform: Float64Array) -> Int64Array:
    """Return the row of a clip of `sources` from another scan than each of `scan` [B], all equally likely.

    Args:
        sources: from `find_speech_sources`.
        scan: [B] scans to avoid.
        uniform: [B] in [0, 1).
    """
    first, last = sources.first[scan], sources.first[scan + 1]
    own = last - first
    nth = np.floor(uniform * (len(sources.rows) - own)).astype(np.int64)  # counted without the scan's own clips
    return sources.rows[np.where(nth >= first, nth + own, nth)]
