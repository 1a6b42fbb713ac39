"""The shared space computes what training computed, and refuses what has no place in it."""

import numpy as np
import pytest
import torch

from usvs.data.pair_batch import read_pairs
from usvs.data.sampling_plan import SamplingPlan
from usvs.errors import ConfigError, DataError
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.load import load_pretrain_model
from usvs.tasks.pretraining.module import model_inputs
from usvs.tasks.pretraining.shared_space import SharedSpace


@pytest.fixture(scope="module")
def space(shared_run):
    return SharedSpace.load(shared_run)


def test_embeddings_are_those_that_the_loss_compared(shared_run, spoken_store, space):
    """Through the batch of training and through the shared space: the same inputs give the same embeddings."""
    model, settings = load_pretrain_model(shared_run)
    store = PreparedStore(spoken_store)
    crop = settings.augment.model_copy(update={"crop_fraction": 1.0, "flip": False, "gain_db": 0.0})
    settings = settings.model_copy(update={"augment": crop})  # with a crop of everything, no position is drawn
    plan = SamplingPlan(store.clips, settings.clips, settings.objective, 0, 6)
    planned = plan.batch(0, 0)
    batch = read_pairs(store, planned, settings.pairs)
    with torch.no_grad():
        outputs = model.outputs(*model_inputs(batch))
    valid = batch.pair_valid
    speech = batch.speech[valid].flatten(0, 1).numpy()
    expected = torch.nn.functional.normalize(outputs.positive, dim=1).numpy()
    np.testing.assert_allclose(space.embed_pieces(speech), expected, atol=2e-5)
    frames = np.concatenate([
        store.scan(int(scan)).frames(store.scan(int(scan)).nearest_frames(seconds))
        for scan, seconds in zip(planned.pair_scan[valid.numpy()], planned.frame_seconds[valid.numpy()], strict=True)
    ])  # fmt: skip
    whole = SharedSpace(model, settings)
    expected = torch.nn.functional.normalize(outputs.video, dim=1).numpy()
    np.testing.assert_allclose(whole.embed_frames(frames), expected, atol=2e-5)


def test_images_of_any_kind_are_embedded_like_prepared_frames(spoken_store, space):
    frames = PreparedStore(spoken_store).scan(0).frames(np.arange(3))
    np.testing.assert_allclose(space.embed_images(list(frames)), space.embed_frames(frames), atol=1e-5)
    assert space.embed_frames(frames).shape == (3, space.width)
    np.testing.assert_allclose(np.linalg.norm(space.embed_frames(frames), axis=1), 1.0, atol=1e-5)


def test_without_normalisation_in_the_run_lengths_are_kept(shared_run):
    model, settings = load_pretrain_model(shared_run)
    objective = settings.objective.model_copy(update={"normalise": False})
    space = SharedSpace(model, settings.model_copy(update={"objective": objective}))
    pieces = np.random.default_rng(0).normal(0, 0.1, (4, space.piece_samples)).astype(np.float32)
    assert np.ptp(np.linalg.norm(space.embed_pieces(pieces), axis=1)) > 1e-4


def test_a_recording_is_cut_into_pieces_without_its_pauses(space):
    random, samples = np.random.default_rng(0), space.piece_samples
    sound = np.zeros(10 * samples, np.float32)
    sound[3 * samples : 6 * samples] = 0.1 * random.normal(size=3 * samples)
    pieces = space.speech_pieces(sound, "test")
    assert pieces.shape[1] == samples and 7 <= len(pieces) <= 13
    assert np.sqrt((pieces**2).mean(axis=1)).min() > 0.005
    short = space.speech_pieces(sound[3 * samples : 3 * samples + 100], "test")
    assert short.shape == (1, samples) and np.count_nonzero(short) > 90
    for length in (samples - 1, samples, samples + 1, 2 * samples - 1):
        assert np.isfinite(space.speech_pieces(sound[3 * samples : 3 * samples + length], "test")).all()


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(24_000, np.float32), "q.wav: expected speech, got silence"),
        (np.zeros(0, np.float32), "q.wav: expected speech, got silence"),
        (np.full(24_000, 1e-6, np.float32), "q.wav: expected speech, got silence"),
        (np.array([0.1, np.nan] * 20_000, np.float32), "q.wav: expected finite samples, got NaN"),
    ],
)
def test_silence_and_damage_are_errors(space, sound, message):
    with pytest.raises(DataError, match=message):
        space.speech_pieces(sound, "q.wav")


def test_a_run_whose_loss_compares_nothing_has_no_shared_space(video_run):
    with pytest.raises(ConfigError, match="its frames and its speech share no space"):
        SharedSpace.load(video_run)
