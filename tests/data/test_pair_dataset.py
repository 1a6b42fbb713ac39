"""`PairDataset`, `StatelessBatchSampler` and `collate_pairs`: the samples and batches of pretraining, for any loop."""

import os
import pickle
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from usvs.config import check_settings
from usvs.data import PairDataset, SampleIndex, StatelessBatchSampler, collate_pairs
from usvs.data.pair_batch import PairBatch
from usvs.data.rank_plan import RankPlan
from usvs.data.settings import AugmentSettings
from usvs.data.torch_loader import PairLoader
from usvs.data.validation_split import split_store
from usvs.errors import ConfigError, DataError
from usvs.losses.settings import ObjectiveSettings
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile

SEED, BATCH = 11, 6


def quick_settings() -> PretrainSettings:
    values = pretrain_profile("quick").model_dump() | {"validation_fraction": 0.25}
    values["optimiser"]["batch_clips"] = BATCH
    values["run"]["seed"] = SEED
    return check_settings(PretrainSettings, values)


def make_pairs(store: Path, settings: PretrainSettings, **changes) -> PairDataset:
    arguments = {
        "validation_fraction": settings.validation_fraction,
        "augment": settings.augment,
        "frame_pixels": settings.model.frame_pixels,
        "objective": settings.objective,
    }
    return PairDataset(store, clips=settings.clips, seed=SEED, **(arguments | changes))


def pretraining_batches(store: Path, settings: PretrainSettings, steps: range, rank: int = 0, ranks: int = 1):
    """The batches as `usvs.pretrain` makes them."""
    opened = PreparedStore(store)
    split = split_store(opened, settings.validation_fraction)
    clips = opened.clips.select(split.clips_of(split.train, opened.clips.scan))
    plan = RankPlan(clips, settings.clips, settings.objective, SEED, BATCH, rank=rank, ranks=ranks)
    loader = PairLoader(opened, plan, settings.pairs)
    return [loader.batch(step) for step in steps]


def equal(one: PairBatch, other: PairBatch) -> bool:
    return all(a.dtype == b.dtype and a.is_contiguous() and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def pairs(tiny_store: Path) -> PairDataset:
    return make_pairs(tiny_store, quick_settings())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_pretraining(tiny_store, pairs, workers):
    sampler = StatelessBatchSampler(pairs, BATCH)
    loader = DataLoader(pairs, batch_sampler=sampler, collate_fn=collate_pairs, num_workers=workers)
    steps = len(sampler)
    assert len(loader) == steps == len(pairs) // BATCH > 1
    found = [batch for _ in range(2) for batch in loader]  # the second pass is the second epoch
    expected = pretraining_batches(tiny_store, quick_settings(), range(2 * steps))
    assert len(found) == len(expected)
    assert all(equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not equal(found[0], found[steps])


def test_ranks_share_the_global_batch_as_pretraining_does(tiny_store, pairs):
    for rank in range(4):
        sampler = StatelessBatchSampler(pairs, BATCH, rank=rank, world_size=4)
        found = [collate_pairs([pairs[index] for index in batch]) for batch in islice(sampler, 3)]
        expected = pretraining_batches(tiny_store, quick_settings(), range(3), rank, 4)
        assert all(equal(one, other) for one, other in zip(found, expected, strict=True))
    with pytest.raises(ConfigError, match="7 processes for batches of 6 clips"):
        StatelessBatchSampler(pairs, BATCH, world_size=7)


def test_resuming_by_one_integer(pairs):
    steps = len(StatelessBatchSampler(pairs, BATCH))
    one = StatelessBatchSampler(pairs, BATCH)
    passes = [list(one) for _ in range(3)]
    assert one.state_dict() == {"step": 3 * steps}
    other = StatelessBatchSampler(pairs, BATCH)
    other.load_state_dict(one.state_dict(step=steps + 1))
    assert list(other) == passes[1][1:] and list(other) == passes[2]
    batches = iter(other)
    assert next(batches)[0].epoch == 3 and other.state_dict() == {"step": 3 * steps + 1}
    other.set_epoch(1)
    assert list(other) == passes[1]
    assert list(StatelessBatchSampler(pairs, BATCH, epoch=2)) == passes[2]
    assert list(StatelessBatchSampler(pairs, BATCH, seed=SEED)) == passes[0]
    assert {index.seed for batch in StatelessBatchSampler(pairs, BATCH, seed=3) for index in batch} == {3}
    for state in ({}, {"step": -3}):
        with pytest.raises(ConfigError, match="sampler state: expected a 'step'"):
            other.load_state_dict(state)
    with pytest.raises(ConfigError, match="epoch: expected at least 0"):
        other.set_epoch(-1)
    with pytest.raises(ConfigError, match="batch_clips"):
        StatelessBatchSampler(pairs, 0)


def test_a_sample_is_a_function_of_seed_epoch_and_number(pairs):
    def same(one, other) -> bool:
        return all(
            torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True)
        )

    assert same(pairs[3], pairs[SampleIndex(SEED, 0, 3)])
    assert not same(pairs[3], pairs[SampleIndex(SEED, 1, 3)]) and not same(pairs[3], pairs[SampleIndex(0, 0, 3)])
    assert pairs[-1].clip == pairs[len(pairs) - 1].clip
    assert sorted(pairs[i].clip for i in range(len(pairs))) == list(range(len(pairs)))
    try:
        pairs.set_epoch(1)
        assert same(pairs[3], pairs[SampleIndex(SEED, 1, 3)])
    finally:
        pairs.set_epoch(0)
    with pytest.raises(IndexError):
        pairs[len(pairs)]
    with pytest.raises(ConfigError, match="epoch"):
        pairs.set_epoch(-1)


def test_fields_of_a_sample(pairs):
    for number in range(len(pairs)):
        sample = pairs[number]
        assert sample.frames.shape == (2, 1, 64, 64) and sample.order_frames.shape == (4, 1, 64, 64)
        assert sample.speech.shape == sample.negative_speech.shape == (2, 14_400)
        assert sample.scan in pairs.store.scans and 0 <= sample.order_class < 12
        scan = pairs.store.scan(pairs.store.scans.index(sample.scan))
        assert scan.patient_key in pairs.split.train
        if sample.pair_valid:
            assert sample.speech_fraction >= 0.5
            expected = scan.speech(float(sample.speech_start_seconds[1]), 14_400).astype(np.float32) / 32768
            np.testing.assert_array_equal(sample.speech[1].numpy(), expected)
            apart = (sample.negative_start_seconds[0] // 2 - sample.speech_start_seconds[0] // 2).abs()
            assert 1 <= apart <= 4
        assert bool((sample.frame_seconds < scan.duration_seconds).all())


def test_splits_share_no_patient(tiny_store):
    sides = {name: PairDataset(tiny_store, name, validation_fraction=0.5) for name in ("train", "validation", "all")}
    scans = {name: {side.store.scans[n] for n in side.clips.scan} for name, side in sides.items()}
    assert not scans["train"] & scans["validation"]
    assert scans["train"] | scans["validation"] == scans["all"]
    assert sides["train"].settings.augment == AugmentSettings()
    assert not sides["validation"].settings.augment.flip and sides["validation"].settings.augment.gain_db == 0
    assert sides["train"].settings.frame_pixels == 64  # of frames of 72, cropped to 64.8
    patient = sides["all"].split.train[0]
    one = PairDataset(tiny_store, "all", patients=[patient])
    assert {one.store.scan(n).patient_key for n in one.clips.scan} == {patient}
    with pytest.raises(ConfigError, match="split: expected one of train, validation, all, got 'test'"):
        PairDataset(tiny_store, "test")
    with pytest.raises(DataError, match="split 'validation': expected at least one clip"):
        PairDataset(tiny_store, "validation", validation_fraction=0.0)
    with pytest.raises(DataError, match="requested patients"):
        PairDataset(tiny_store, patients=["nobody"])


def test_a_transform_replaces_the_augmentation(tiny_store):
    shapes = []

    def noisy_crop(frame: torch.Tensor) -> torch.Tensor:
        shapes.append((frame.dtype, tuple(frame.shape)))
        return frame[:, :40, :48].double() / 255 + torch.rand(())

    plain = PairDataset(tiny_store, transform=lambda frame: frame)
    pairs = PairDataset(tiny_store, transform=noisy_crop)
    before = torch.get_rng_state()
    sample, again, raw = pairs[2], pairs[2], plain[2]
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is not used"
    assert set(shapes) == {(torch.uint8, (1, 72, 72))}
    assert sample.frames.shape == (2, 1, 40, 48) and sample.frames.dtype == torch.float64
    assert torch.equal(sample.frames, again.frames) and torch.equal(sample.order_frames, again.order_frames)
    noise = sample.frames - raw.frames[..., :40, :48] / 255
    assert noise[0].std() < 1e-6 and abs(noise[0].mean() - noise[1].mean()) > 1e-6, "each frame has its own draw"
    noise = sample.order_frames - raw.order_frames[..., :40, :48] / 255
    assert noise.std() < 1e-6, "the order frames have one draw"
    assert torch.equal(sample.speech, PairDataset(tiny_store)[2].speech)


def test_a_transform_where_few_clips_are_used_for_the_order_task(tiny_store):
    objective = ObjectiveSettings(order_fraction=0.25)
    pairs = PairDataset(tiny_store, transform=lambda frame: frame.float(), objective=objective)
    samples = [pairs[number] for number in range(8)]
    assert [sample.order_valid for sample in samples] == [False, False, False, True] * 2
    for sample in samples:
        assert sample.order_frames.shape == (4, 1, 72, 72) and bool(sample.order_frames.any()) == sample.order_valid
    assert collate_pairs(samples).order_frames.shape == (8, 4, 1, 72, 72)


def test_pickles_are_small_and_complete(pairs):
    pairs[0]  # makes a plan, which holds the clip table too
    state = pairs.__getstate__()
    assert state["clips"] is None and not state["_plans"], "the table of a large archive stays out of the pickle"
    copy = pickle.loads(pickle.dumps(pairs))
    assert len(copy) == len(pairs) and torch.equal(copy[4].frames, pairs[4].frames)
    assert isinstance(pairs.clips.scan, np.ndarray), "the original keeps its table"


@pytest.mark.slow
def test_spawned_workers(pairs):
    sampler = StatelessBatchSampler(pairs, BATCH)
    loader = DataLoader(
        pairs, batch_sampler=sampler, collate_fn=collate_pairs, num_workers=1, multiprocessing_context="spawn"
    )
    (batch, *_), first = loader, next(iter(StatelessBatchSampler(pairs, BATCH)))
    assert equal(batch, collate_pairs([pairs[index] for index in first]))


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "pyarrow", "cv2", "av", "pydantic", "simplejpeg")
    script = f"import sys, usvs; usvs.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
    import usvs

    assert usvs.data.PairDataset is PairDataset and usvs.ops.contrastive_loss and usvs.models.create_encoder
    with pytest.raises(AttributeError, match=r"usvs\.data.*nonsense"):
        from usvs import data

        data.nonsense  # noqa: B018
    assert set(data.__all__) <= set(dir(data)) and all(getattr(data, name) for name in data.__all__)


@pytest.mark.slow
def test_a_missing_package_is_named():
    script = "import sys; sys.modules['pyarrow'] = None; import usvs.data; usvs.data.PairDataset"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("package 'pyarrow' is missing: pip install 'usvs[train]'")


@pytest.mark.slow
def test_a_plain_script_without_main_guard(tiny_store, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from torch.utils.data import DataLoader\n"
        "from usvs.data import PairDataset, StatelessBatchSampler, collate_pairs\n"
        "pairs = PairDataset(sys.argv[1])\n"
        "sampler = StatelessBatchSampler(pairs, 4, seed=0)\n"
        "for batch in DataLoader(pairs, batch_sampler=sampler, collate_fn=collate_pairs):\n"
        "    print(tuple(batch.frames.shape))\n"
    )
    done = subprocess.run([sys.executable, script, tiny_store], capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == {"(4, 2, 1, 64, 64)"}
