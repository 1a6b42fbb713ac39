"""Hard pairs: negatives, ends of scans, gaps, and the speech of the shuffled control."""

import numpy as np
import pytest
from scipy import stats

from usvs.data import pair_sampling
from usvs.errors import DataError
from usvs.store.clips import ClipTable
from usvs.store.settings import ClipSettings

SETTINGS = ClipSettings()
ALMOST_ONE = 1 - 2**-53


def table(*scans: list[float | None]) -> ClipTable:
    """A table of scans given as speech fractions of consecutive clips; None leaves the clip's number out."""
    rows = [
        (scan, 2.0 * number, f) for scan, clips in enumerate(scans) for number, f in enumerate(clips) if f is not None
    ]
    scan, start, fraction = zip(*rows, strict=True)
    patients = np.arange(len(scans), dtype=np.int32)
    return ClipTable(np.array(scan, np.int32), np.array(start), np.array(fraction, np.float32), patients)


def candidates(clips: ClipTable, row: int) -> list[int]:
    return pair_sampling.negative_candidates(clips, np.array([row]), SETTINGS)[0].tolist()


def test_times_are_inside_the_half_open_clip():
    start = np.array([0.0, 1800.0, 3599.999])
    uniform = np.array([[0.0, ALMOST_ONE]] * 3)
    seconds = pair_sampling.draw_frame_seconds(start, uniform, SETTINGS)
    assert np.all(seconds >= start[:, None])
    assert np.all(seconds < start[:, None] + SETTINGS.clip_seconds)
    pieces = pair_sampling.draw_speech_starts(start, uniform, SETTINGS)
    assert np.all(pieces >= start[:, None])
    assert np.all(pieces + SETTINGS.speech_seconds <= start[:, None] + SETTINGS.clip_seconds + 1e-9)
    assert pieces[0, 1] > 1.39


def test_negatives_are_later_and_at_the_end_earlier():
    clips = table([0.9] * 7, [0.9] * 7)
    assert candidates(clips, 0) == [1, 2, 3, 4]
    assert candidates(clips, 4) == [5, 6, 1, 0]
    assert candidates(clips, 6) == [5, 4, 3, 2]
    assert candidates(clips, 7) == [8, 9, 10, 11], "the next scan starts anew"


def test_gaps_and_clips_without_sound_are_skipped():
    nan = float("nan")
    clips = table([0.9, None, nan, 0.9, None, None, 0.0, 0.9])  # rows 0, 1 (no sound), 2, 3, 4 at clips 0, 2, 3, 6, 7
    assert candidates(clips, 0) == [-1, -1, 2, -1]
    assert candidates(clips, 2) == [-1, -1, 3, 4]
    assert candidates(clips, 3) == [4, -1, 2, -1]
    assert candidates(table([0.9, None, None, None, None, 0.9]), 0) == [-1] * 4, "five clips away is too far"


def test_never_the_clip_itself_and_never_another_scan():
    draws = np.random.default_rng(1)
    for _ in range(50):
        scans = [[draws.choice([0.9, 0.1, np.nan, None]) for _ in range(draws.integers(1, 12))] for _ in range(4)]
        if not any(f is not None for scan in scans for f in scan):
            continue
        clips = table(*scans)
        rows = np.arange(len(clips))
        for row, found in zip(rows, pair_sampling.negative_candidates(clips, rows, SETTINGS), strict=True):
            for delta, other in enumerate(found.tolist(), start=1):
                exists = {
                    sign: np.flatnonzero(
                        (clips.scan == clips.scan[row])
                        & (clips.start_seconds == clips.start_seconds[row] + sign * 2 * delta)
                        & clips.has_sound
                    )
                    for sign in (1, -1)
                }
                expected = [*exists[1], *exists[-1], -1][0]
                assert other == expected


def test_all_candidates_are_equally_likely():
    offered = np.tile([7, -1, 3, 5], (30_000, 1))
    drawn = pair_sampling.choose_negative(offered, np.random.default_rng(2).random(30_000))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [3, 5, 7]
    assert stats.chisquare(counts).pvalue > 1e-4
    nothing = pair_sampling.choose_negative(np.full((3, 4), -1), np.array([0.0, 0.5, ALMOST_ONE]))
    assert nothing.tolist() == [-1, -1, -1]


def test_affinity_decides_which_speech_is_usable():
    clips = table([0.5, 0.49, float("nan"), 0.0])
    rows = np.arange(4)
    assert pair_sampling.has_usable_speech(clips, rows, SETTINGS, affinity=True).tolist() == [True, False, False, False]
    assert pair_sampling.has_usable_speech(clips, rows, SETTINGS, affinity=False).tolist() == [True, True, False, True]


def test_speech_of_the_control_comes_from_other_scans_evenly():
    clips = table([0.9] * 3, [0.1] * 3, [0.9, 0.1, 0.9], [0.9], [0.9] * 2)
    sources = pair_sampling.find_speech_sources(clips, SETTINGS, affinity=True)
    assert sources.rows.tolist() == [0, 1, 2, 6, 8, 10, 11], "row 9 has no neighbour to be its negative"
    uniform = np.random.default_rng(3).random(20_000)
    for scan in range(5):
        drawn = pair_sampling.choose_speech_source(sources, np.full(20_000, scan, np.int32), uniform)
        rows, counts = np.unique(drawn, return_counts=True)
        assert rows.tolist() == [row for row in sources.rows if clips.scan[row] != scan]
        assert stats.chisquare(counts).pvalue > 1e-4


def test_a_control_with_one_scan_of_usable_speech_is_refused():
    with pytest.raises(DataError, match="at least two scans"):
        pair_sampling.find_speech_sources(table([0.9] * 5, [0.1] * 5), SETTINGS, affinity=True)
