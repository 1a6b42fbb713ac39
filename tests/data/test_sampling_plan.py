"""The plan: a pure function of (seed, epoch, sample), each clip once an epoch, pairs as the paper draws them."""

import numpy as np
import pytest
from scipy import stats

from usvs.data.sampling_plan import PlanBatch, SamplingPlan
from usvs.errors import ConfigError, DataError
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.settings import ClipSettings

SETTINGS = ClipSettings()


def make_clips(scans: int = 12, clips: int = 30, seed: int = 0) -> ClipTable:
    draws = np.random.default_rng(seed)
    fraction = draws.choice([0.9, 0.6, 0.2], size=scans * clips).astype(np.float32)
    fraction[:clips] = np.nan  # the first scan has no sound
    return ClipTable(
        scan=np.repeat(np.arange(scans, dtype=np.int32), clips),
        start_seconds=np.tile(2.0 * np.arange(clips), scans),
        speech_fraction=fraction,
        scan_patient=np.arange(scans, dtype=np.int32) // 2,
    )


def make_plan(
    clips: ClipTable | None = None, batch_clips: int = 32, seed: int = 5, **objective: object
) -> SamplingPlan:
    clips = make_clips() if clips is None else clips
    return SamplingPlan(clips, SETTINGS, ObjectiveSettings.model_validate(objective), seed, batch_clips)


def epoch_of(plan: SamplingPlan, epoch: int = 0) -> PlanBatch:
    return plan.samples(epoch, np.arange(len(plan.clips)))


def equal(one: PlanBatch, other: PlanBatch) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def test_shapes_and_types():
    batch = make_plan().batch(3, 1)
    expected = {
        "clip": ("int64", (32,)),
        "scan": ("int32", (32,)),
        "pair_clip": ("int64", (32,)),
        "pair_scan": ("int32", (32,)),
        "frame_seconds": ("float64", (32, 2)),
        "speech_scan": ("int32", (32, 2)),
        "speech_start_seconds": ("float64", (32, 2)),
        "negative_scan": ("int32", (32, 2)),
        "negative_start_seconds": ("float64", (32, 2)),
        "pair_valid": ("bool", (32,)),
        "order_seconds": ("float64", (32, 4)),
        "order_class": ("int64", (32,)),
        "order_valid": ("bool", (32,)),
        "augment_key": ("uint64", (32,)),
    }
    assert {name: (str(v.dtype), v.shape) for name, v in batch._asdict().items()} == expected


def test_every_clip_exactly_once_an_epoch_in_another_order_each():
    plan = make_plan()
    orders = [epoch_of(plan, epoch).clip for epoch in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(360))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], epoch_of(make_plan(seed=6)).clip)


def test_a_sample_is_the_same_however_it_is_asked_for():
    plan = make_plan()
    complete = epoch_of(plan, 2)
    backwards = plan.samples(2, np.arange(len(plan.clips))[::-1])
    assert equal(PlanBatch(*(values[::-1] for values in backwards)), complete)
    for batch_clips in (1, 7, 32, 360):
        cut = make_plan(batch_clips=batch_clips)
        batches = [cut.batch(2, step) for step in range(cut.steps_per_epoch)]
        joined = PlanBatch(*(np.concatenate(columns) for columns in zip(*batches, strict=True)))
        kept = cut.steps_per_epoch * cut.batch_size
        assert equal(joined, PlanBatch(*(values[:kept] for values in complete)))
    assert equal(plan.batch_at(2 * plan.steps_per_epoch + 4), plan.batch(2, 4))


@pytest.mark.parametrize(("count", "batch_clips", "steps", "size"), [(70, 32, 2, 32), (64, 32, 2, 32), (5, 32, 1, 5)])
def test_the_last_incomplete_batch_is_dropped(count: int, batch_clips: int, steps: int, size: int):
    clips = make_clips(3, 30).select(np.arange(90) < count)
    plan = make_plan(clips, batch_clips)
    assert plan.steps_per_epoch == steps
    assert len(plan.batch(0, steps - 1).clip) == size
    with pytest.raises(ConfigError, match=f"a step in 0 .. {steps - 1}"):
        plan.batch(0, steps)


def test_pairs_are_inside_their_clips():
    plan = make_plan()
    clips = plan.clips
    deltas = []
    for epoch in range(8):
        batch = epoch_of(plan, epoch)
        start = clips.start_seconds[batch.clip][:, None]
        assert np.array_equal(batch.scan, clips.scan[batch.clip])
        assert np.all((batch.frame_seconds >= start) & (batch.frame_seconds < start + 2))
        sound = clips.has_sound[batch.clip]
        assert np.array_equal(batch.speech_scan, np.where(sound, batch.scan, -1)[:, None].repeat(2, 1))
        assert np.array_equal(np.isnan(batch.speech_start_seconds), batch.speech_scan < 0)
        inside = batch.speech_start_seconds - start
        assert np.all((inside >= 0) & (inside + 0.6 <= 2 + 1e-9) | ~sound[:, None])
        there = batch.negative_scan >= 0
        assert np.array_equal(there, sound[:, None].repeat(2, 1))
        assert np.array_equal(batch.negative_scan[there], batch.scan[:, None].repeat(2, 1)[there])
        other = np.floor(batch.negative_start_seconds / 2)
        assert np.all((batch.negative_start_seconds - 2 * other + 0.6 <= 2 + 1e-9) | ~there)
        assert np.array_equal(other[:, 0], other[:, 1], equal_nan=True), "T' is one for the clip"
        delta = (other - start / 2)[:, 0]
        at_the_end = start[:, 0] > 2 * (30 - 5)
        assert np.all(np.isin(np.abs(delta[sound]), [1, 2, 3, 4]))
        assert np.all(delta[sound & ~at_the_end] > 0)
        deltas.append(delta[sound & ~at_the_end])
    assert stats.chisquare(np.unique(np.concatenate(deltas), return_counts=True)[1]).pvalue > 1e-4


def test_draws_are_uniform_and_independent():
    plan = make_plan()
    batches = [epoch_of(plan, epoch) for epoch in range(10)]
    frame = np.concatenate([b.frame_seconds - plan.clips.start_seconds[b.clip][:, None] for b in batches]) / 2
    piece = np.concatenate([b.speech_start_seconds - plan.clips.start_seconds[b.clip][:, None] for b in batches]) / 1.4
    for drawn in (frame[:, 0], frame[:, 1], piece[~np.isnan(piece)]):
        assert stats.kstest(drawn, "uniform").pvalue > 1e-4
    sound = ~np.isnan(piece[:, 0])
    for one, two in (
        (frame[:, 0], frame[:, 1]),
        (frame[sound, 0], piece[sound, 0]),
        (piece[sound, 0], piece[sound, 1]),
    ):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.08
    classes = np.concatenate([b.order_class for b in batches])
    assert stats.chisquare(np.bincount(classes, minlength=12)).pvalue > 1e-4
    forward = np.concatenate([b.order_seconds[:, 0] < b.order_seconds[:, 3] for b in batches])
    assert 0.45 < forward.mean() < 0.55
    assert len(np.unique(np.concatenate([b.augment_key for b in batches]))) == 3600


def test_which_clips_form_valid_pairs():
    plan, anyone = make_plan(), make_plan(affinity=False)
    batch, free = epoch_of(plan), epoch_of(anyone)
    fraction = plan.clips.speech_fraction[batch.clip]
    assert np.array_equal(batch.pair_valid, fraction >= 0.5)
    assert np.array_equal(free.pair_valid, ~np.isnan(fraction))
    lonely = make_clips().select(np.arange(360) % 30 == 4)  # one clip a scan: nothing to be a negative
    batch = epoch_of(make_plan(lonely))
    assert not batch.pair_valid.any()
    assert np.all(batch.negative_scan == -1)
    assert np.all(np.isnan(batch.negative_start_seconds))


def test_resampled_pairs_come_from_clips_with_usable_speech_and_the_order_task_from_all():
    masked, resampled = make_plan(), make_plan(resample_invalid_pairs=True)
    clips = masked.clips
    drawn = []
    for epoch in range(8):
        some, full = epoch_of(masked, epoch), epoch_of(resampled, epoch)
        assert np.array_equal(some.pair_clip, some.clip)
        assert full.pair_valid.all()
        assert np.array_equal(full.pair_clip[some.pair_valid], full.clip[some.pair_valid]), "valid pairs are kept"
        assert np.all(clips.speech_fraction[full.pair_clip] >= 0.5)
        assert np.array_equal(full.pair_scan, clips.scan[full.pair_clip])
        assert np.array_equal(full.speech_scan, full.pair_scan[:, None].repeat(2, 1))
        start = clips.start_seconds[full.pair_clip][:, None]
        assert np.all((full.frame_seconds >= start) & (full.frame_seconds < start + 2))
        for name in ("clip", "scan", "order_seconds", "order_class", "order_valid", "augment_key"):
            assert np.array_equal(getattr(full, name), getattr(some, name)), f"resampling changes {name}"
        drawn.append(full.pair_clip[~some.pair_valid])
    able = np.flatnonzero(clips.speech_fraction >= 0.5)
    assert stats.chisquare(np.bincount(np.searchsorted(able, np.concatenate(drawn)), minlength=len(able))).pvalue > 1e-4
    silent = make_clips().select(np.arange(360) < 30)
    assert not epoch_of(make_plan(silent, resample_invalid_pairs=True)).pair_valid.any()


def test_the_shuffled_control_takes_all_speech_from_one_other_scan():
    own, shuffled = make_plan(), make_plan(speech="shuffled")
    clips = own.clips
    for epoch in range(5):
        real, control = epoch_of(own, epoch), epoch_of(shuffled, epoch)
        assert np.all(control.speech_scan != control.scan[:, None])
        assert np.array_equal(control.negative_scan, control.speech_scan)
        assert np.array_equal(control.pair_valid, real.pair_valid)
        for name in ("clip", "frame_seconds", "order_seconds", "order_class", "augment_key"):
            assert np.array_equal(getattr(control, name), getattr(real, name)), f"the control changes {name}"
        source = control.speech_scan[:, 0] * 30 + (control.speech_start_seconds[:, 0] // 2).astype(int)
        assert np.all(clips.speech_fraction[source] >= 0.5)
        apart = np.abs(control.negative_start_seconds // 2 - control.speech_start_seconds // 2)
        assert np.all((apart >= 1) & (apart <= 4))
    assert not np.array_equal(epoch_of(shuffled, 0).speech_scan, epoch_of(shuffled, 1).speech_scan)


def test_what_cannot_be_sampled_is_refused():
    empty = make_clips().select(np.zeros(360, bool))
    with pytest.raises(DataError, match="empty"):
        make_plan(empty)
    with pytest.raises(DataError, match="at least two scans"):
        make_plan(make_clips(2), speech="shuffled")
    with pytest.raises(ConfigError, match="batch_clips"):
        make_plan(batch_clips=0)
    with pytest.raises(ConfigError, match="epoch"):
        make_plan().batch(-1, 0)


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25, 0.3])
def test_a_fraction_of_every_epoch_is_used_for_the_order_task_and_nothing_else_changes(fraction):
    clips = make_clips()
    complete = SamplingPlan(clips, ClipSettings(), ObjectiveSettings(), 3, 32).samples(1, np.arange(len(clips)))
    part = SamplingPlan(clips, ClipSettings(), ObjectiveSettings(order_fraction=fraction), 3, 32).samples(
        1, np.arange(len(clips))
    )
    assert complete.order_valid.all()
    assert part.order_valid.sum() == pytest.approx(fraction * len(clips), abs=1)
    assert np.diff(np.flatnonzero(part.order_valid)).max() <= -(-1 // fraction)
    assert all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(part._replace(order_valid=complete.order_valid), complete, strict=True)
    )
