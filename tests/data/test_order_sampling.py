"""The order task: twelve classes out of 24 orders, and frames evenly spaced inside their clip."""

from itertools import permutations

import numpy as np

from usvs.data.order_sampling import FRAME_ORDERS, ORDER_CLASSES, order_frame_seconds, shuffle_frames
from usvs.store.settings import ClipSettings


def test_each_order_and_its_reverse_share_one_class():
    row_of = {tuple(row): number for number, row in enumerate(ORDER_CLASSES.tolist())}
    assert len(row_of) == 12
    covered = [min(p, p[::-1]) for p in permutations(range(4))]
    assert {p: covered.count(p) for p in covered} == dict.fromkeys(row_of, 2)
    assert sorted(row_of) == list(row_of), "written in lexicographic order, class by class"


def test_the_24_shown_orders():
    assert sorted(map(tuple, FRAME_ORDERS.tolist())) == sorted(permutations(range(4)))
    seconds = np.tile([0.0, 1.0, 2.0, 3.0], (24, 1))
    shown, classes = shuffle_frames(seconds, np.arange(24))
    for times, number in zip(shown.tolist(), classes.tolist(), strict=True):
        order = tuple(int(time) for time in times)
        assert min(order, order[::-1]) == tuple(ORDER_CLASSES[number])


def test_frames_are_in_order_inside_the_clip():
    settings = ClipSettings()
    draws = np.random.default_rng(0)
    start = np.full(5000, 1798.0)
    extremes = np.array([0.0, 1 - 2**-53])
    phase = np.concatenate([extremes, draws.random(4998)])
    jitter = np.concatenate([np.tile(extremes[:, None], 4), draws.random((4998, 4))])
    seconds = order_frame_seconds(start, phase, jitter, settings)
    assert seconds.min() >= 1798.0
    assert seconds.max() < 1800.0
    gaps = np.diff(seconds, axis=1)
    assert gaps.min() >= settings.order_spacing_seconds - 2 * settings.order_jitter_seconds - 1e-9
    assert abs(gaps.mean() - settings.order_spacing_seconds) < 0.01
    assert seconds[:, 0].min() < 1798.02
    assert seconds[:, 3].max() > 1799.9


def test_four_frames_that_just_fit():
    settings = ClipSettings(clip_seconds=1.7, order_spacing_seconds=0.5, order_jitter_seconds=0.1)
    seconds = order_frame_seconds(np.array([3.0]), np.array([0.9]), np.full((1, 4), 1 - 2**-53), settings)
    assert seconds.max() < 4.7
