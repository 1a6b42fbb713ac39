"""The pair loader: batches hold what the plan names, whatever the number of threads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from usvs.config import check_settings
from usvs.data.sampling_plan import SamplingPlan
from usvs.data.torch_loader import PairLoader
from usvs.errors import ConfigError, DataError
from usvs.models.preprocessing import GRAY_MEAN, GRAY_SPREAD
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.store.prepared_scan import PreparedScan
from usvs.store.settings import PrepareSettings
from usvs.store.writer import write_prepared_scan
from usvs.tasks.pretraining.settings import PretrainSettings

SIDE, RATE_HZ, FRAME_RATE_HZ, CLIPS = 72, 24_000, 20, 10
SECONDS = 2 * CLIPS


class FakeStore:
    """Four prepared scans without an archive; the last one has no sound. Counts what is decoded."""

    def __init__(self, folder: Path) -> None:
        self.scans = tuple(f"{number:012x}" for number in range(4))
        self.decoded: list[tuple[int, int]] = []
        for number, key in enumerate(self.scans):
            write_prepared_scan(
                folder / key,
                scan_key=key,
                patient_key=f"patient{number}",
                # every pixel shows its scan and frame: 60 levels per scan, 400 frames in steps of a seventh
                frames=((i / FRAME_RATE_HZ, frame_of(number, i)) for i in range(SECONDS * FRAME_RATE_HZ)),
                speech=None if number == 3 else speech_of(number),
                gaze=None,
                planes=None,
                settings=PrepareSettings(frame_pixels=SIDE, codec="raw"),
                sector=(0, 0, SIDE, SIDE),
                source={"bytes": 1, "modified_ns": 1},
            )
        self._open = [PreparedScan(folder / key) for key in self.scans]
        for number, opened in enumerate(self._open):
            opened._decode = self._counted(number, opened._decode)
        fraction = np.full(4 * CLIPS, 0.8, np.float32)
        fraction[3 * CLIPS :] = np.nan
        self.clips = ClipTable(
            scan=np.repeat(np.arange(4, dtype=np.int32), CLIPS),
            start_seconds=np.tile(2.0 * np.arange(CLIPS), 4),
            speech_fraction=fraction,
            scan_patient=np.arange(4, dtype=np.int32),
        )

    def scan(self, index: int) -> PreparedScan:
        return self._open[index]

    def _counted(self, number: int, decode: Callable[[int, np.ndarray], None]) -> Callable[[int, np.ndarray], None]:
        def counted(index: int, target: np.ndarray) -> None:
            self.decoded.append((number, index))
            decode(index, target)

        return counted


def frame_of(scan: int, index: int) -> np.ndarray:
    """Gray levels that show scan and second: 60 per scan, 3 per second of the 20."""
    return np.full((SIDE, SIDE), 60 * scan + 3 * (index // FRAME_RATE_HZ), np.uint8)


def speech_of(scan: int) -> np.ndarray:
    """A rising line, so that a piece shows where it was cut: 1 a millisecond, another offset a scan."""
    return (np.arange(SECONDS * RATE_HZ) // 24 + scan * 5).astype(np.int16)


SMALL = {"frame_pixels": 64, "order_dropout": 0.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    return FakeStore(tmp_path_factory.mktemp("store"))


def make_settings(**changes: object) -> PretrainSettings:
    values = {"model": {"frame_pixels": 64}, "augment": {"gain_db": 0.0}, **changes}
    return check_settings(PretrainSettings, values)


def make_loader(store: FakeStore, workers: int = 0, **changes: object) -> PairLoader:
    settings = make_settings(run={"loader_workers": workers}, **changes)
    return PairLoader(store, SamplingPlan(store.clips, settings.clips, settings.objective, 3, 8), settings.pairs)


def equal(one: tuple, other: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_shapes_and_types(store: FakeStore):
    batch = make_loader(store).batch(0)
    expected = {
        "frames": (torch.float32, (8, 2, 1, 64, 64)),
        "order_frames": (torch.float32, (8, 4, 1, 64, 64)),
        "speech": (torch.float32, (8, 2, 14_400)),
        "negative_speech": (torch.float32, (8, 2, 14_400)),
        "pair_valid": (torch.bool, (8,)),
        "order_class": (torch.int64, (8,)),
        "order_valid": (torch.bool, (8,)),
        "clip": (torch.int64, (8,)),
    }
    assert {name: (value.dtype, tuple(value.shape)) for name, value in batch._asdict().items()} == expected
    assert all(value.is_contiguous() for value in batch)


def test_batches_hold_what_the_plan_names(store: FakeStore):
    loader = make_loader(store)
    for step in range(5):
        planned, batch = loader.plan.batch_at(step), loader.batch(step)
        levels = (batch.frames.numpy() * GRAY_SPREAD + GRAY_MEAN) * 255
        seconds = (levels[:, :, 0, 0, 0] - 60 * planned.scan[:, None]) / 3
        assert np.all(np.abs(seconds + 0.5 - planned.frame_seconds) < 0.53), "within half a frame of a second's edge"
        levels = (batch.order_frames.numpy() * GRAY_SPREAD + GRAY_MEAN) * 255
        seconds = (levels[:, :, 0, 0, 0] - 60 * planned.scan[:, None]) / 3
        assert np.all(np.abs(seconds + 0.5 - planned.order_seconds) < 0.53)
        for pieces, scans, starts in (
            (batch.speech, planned.speech_scan, planned.speech_start_seconds),
            (batch.negative_speech, planned.negative_scan, planned.negative_start_seconds),
        ):
            first = pieces[:, :, 0].numpy() * 32768 - 5 * scans
            exists = scans >= 0
            assert np.allclose(first[exists], np.floor(starts[exists] * 1000), atol=1.01)
            assert np.all(pieces.numpy()[~exists] == 0)
        assert batch.pair_valid.tolist() == (planned.scan != 3).tolist()
        assert np.array_equal(batch.clip, planned.clip)


def test_speech_is_played_faster_or_slower_and_nothing_else_changes(store: FakeStore):
    """The sound of the store counts milliseconds: a piece shows where it begins and how long it was."""
    plain, changed = (make_loader(store, augment={"speech_speed": speed}) for speed in (1.0, 1.25))
    speeds = []
    for step in range(5):
        planned, batch, other = changed.plan.batch_at(step), changed.batch(step), plain.batch(step)
        for name in ("frames", "order_frames", "pair_valid", "order_class"):
            assert torch.equal(getattr(batch, name), getattr(other, name)), name
        pieces = torch.cat([batch.speech, batch.negative_speech], 1).numpy() * 32768
        scans = np.concatenate([planned.speech_scan, planned.negative_scan], 1)
        starts = np.concatenate([planned.speech_start_seconds, planned.negative_start_seconds], 1)
        for row in zip(*np.nonzero(scans >= 0), strict=True):
            milliseconds = pieces[row] - 5 * scans[row]
            assert np.abs(np.diff(milliseconds, 2)).max() < 1.01, "even steps"
            seconds_played = (milliseconds[-1] - milliseconds[0]) / 1000
            begin = min(1000 * starts[row], 1000 * (SECONDS - seconds_played))
            assert milliseconds[0] == pytest.approx(begin, abs=3)
            speeds.append(seconds_played / 0.6)
    assert 0.795 < min(speeds) < 0.85 and 1.18 < max(speeds) < 1.255
    assert np.median(speeds) == pytest.approx(1, abs=0.06) and len(set(np.round(speeds, 2))) > 20


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(store: FakeStore, workers: int):
    inline = [make_loader(store).batch(step) for step in range(3, 12)]
    threaded = list(make_loader(store, workers).batches(3, 12))
    assert len(threaded) == 9
    assert all(equal(one, other) for one, other in zip(inline, threaded, strict=True))
    assert not equal(inline[0], inline[1])


def test_a_frame_is_decoded_once_a_clip(store: FakeStore):
    store.decoded.clear()
    make_loader(store, clips={"groups_per_clip": 40}).batch(0)
    assert len(store.decoded) == len(set(store.decoded)) <= 8 * 41, "a clip has 40 frames; the piece after it lends one"


def test_unused_order_frames_are_not_read(store: FakeStore):
    all_shown, some_shown = make_loader(store), make_loader(store, objective={"order_fraction": 0.25}, model=SMALL)
    for step in range(3):
        batch, complete = some_shown.batch(step), all_shown.batch(step)
        shown = batch.order_valid
        assert 0 < shown.sum() < 8
        assert torch.equal(batch.order_frames[shown], complete.order_frames[shown])
        assert torch.all(batch.order_frames[~shown] == 0)
        assert torch.equal(batch.frames, complete.frames)
    store.decoded.clear()
    some_shown.batch(0)
    assert len(store.decoded) <= 8 * 2 + 2 * 4


def test_a_damaged_scan_surfaces_with_the_step(store: FakeStore, monkeypatch: pytest.MonkeyPatch):
    def damaged(index: int) -> PreparedScan:
        raise DataError("scan 000000000001: prepared frame 3 is damaged")

    loader = make_loader(store, 2)
    batches = loader.batches(7, 20)
    monkeypatch.setattr(store, "scan", damaged)
    with pytest.raises(DataError, match="loading step 7: scan 000000000001"):
        next(batches)


def test_wrong_requests_are_refused(store: FakeStore):
    with pytest.raises(ConfigError, match="steps to load"):
        make_loader(store).batches(3, 2)
    with pytest.raises(ConfigError, match="frame_pixels"):
        make_loader(store, model={"frame_pixels": 96}).batch(0)
    with pytest.raises(ConfigError, match="rate_hz"):
        make_loader(store, spectrogram={"rate_hz": 16_000}).batch(0)


def test_every_step_of_a_store_made_the_users_way(tiny_store: Path):
    settings = check_settings(PretrainSettings, {"model": {"frame_pixels": 64}, "run": {"loader_workers": 2}})
    store = PreparedStore(tiny_store)
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, 8)
    batches = list(PairLoader(store, plan, settings.pairs).batches(0, 2 * plan.steps_per_epoch))
    speech = torch.cat([batch.speech[batch.pair_valid] for batch in batches])
    assert len(speech) > 0
    assert (speech.abs().amax(dim=2) > 1e-3).float().mean() > 0.5, "high-affinity clips have sound"
    for batch in batches:
        assert all(torch.isfinite(value).all() for value in batch[:4])
        assert batch.frames.std() > 0.1
