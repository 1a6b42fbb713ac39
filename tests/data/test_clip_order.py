"""The order in which an epoch visits the clips."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usvs.data.clip_order import ClipOrder
from usvs.data.sampling_plan import SamplingPlan
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.settings import ClipSettings
from usvs.utils.permutation import permute


def table(lengths: list[int]) -> ClipTable:
    scan = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    start = np.concatenate([np.arange(length) * 2.0 for length in lengths])
    return ClipTable(scan, start, np.ones(len(scan), np.float32), np.arange(len(lengths), dtype=np.int32))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum), st.integers(1, 9), st.integers(0, 2**63))
@settings(deadline=None, max_examples=60)
def test_every_epoch_visits_every_clip_once(lengths, run_clips, key):
    clips = table(lengths)
    order = ClipOrder(clips, run_clips)
    rows = order.rows(np.arange(len(clips)), key)
    assert sorted(rows) == list(range(len(clips)))
    some = np.arange(0, len(clips), 3)
    assert np.array_equal(order.rows(some, key), rows[some])  # a function of the position alone


def test_runs_of_one_are_the_permutation_of_all_clips():
    clips = table([7, 20, 4])
    assert np.array_equal(ClipOrder(clips).rows(np.arange(31), 5), permute(np.arange(31), 31, 5))


def test_a_batch_holds_runs_of_few_scans_and_other_ones_in_each_epoch():
    clips = table([60] * 24)
    order = ClipOrder(clips, 8)
    batches = [order.rows(np.arange(32), key) for key in range(40)]
    scans = [len(np.unique(clips.scan[rows])) for rows in batches]
    assert np.median(scans) <= 6 and max(scans) <= 8  # a run may contain the end of one scan and begin the next
    assert len({tuple(rows) for rows in batches}) == 40
    visited = np.bincount(clips.scan[np.concatenate(batches)], minlength=24)
    assert visited.min() > 0


def test_a_random_clip_of_the_same_scan():
    clips = table([3, 5, 1])
    uniform = np.array([[0.0, 0.99], [0.5, 0.2], [0.9, 0.1]])
    rows = ClipOrder(clips, 2).row_of_scan(np.array([1, 4, 8]), uniform)
    assert rows.tolist() == [[0, 2], [5, 4], [8, 8]]


@pytest.mark.parametrize("run_clips", [2, 8])
def test_all_orders_of_clips_within_a_scan_occur(run_clips):
    clips = table([4, 4])
    seen = {tuple(ClipOrder(clips, run_clips).rows(np.arange(8), key)) for key in range(200)}
    assert len(seen) > 150


@pytest.mark.parametrize(("run_clips", "least", "most"), [(8, 1.0, 1.0), (1, 0.0, 0.4)])
def test_with_runs_an_invalid_pair_is_replaced_by_one_of_its_scan(run_clips, least, most):
    clips = table([40] * 6)
    silent = replace(clips, speech_fraction=np.where(np.arange(240) % 2, 0, 1).astype(np.float32))
    objective = ObjectiveSettings(resample_invalid_pairs=True, scan_run_clips=run_clips)
    batch = SamplingPlan(silent, ClipSettings(), objective, 3, 32).samples(0, np.arange(240))
    replaced = batch.pair_clip != batch.clip
    assert replaced.sum() > 100 and batch.pair_valid.all()
    assert least <= (batch.pair_scan[replaced] == batch.scan[replaced]).mean() <= most
