"""Fixtures of labelled stores, and of a run whose frames and speech share a space."""

import pytest

from tests.support.labelled_stores import gaze_store, grating_store, noise_store, store_writer, tiny_planes
from tests.support.pretraining_stores import tiny_settings, write_store
from usvs.tasks.pretraining.pretrain import pretrain

__all__ = ["gaze_store", "grating_store", "noise_store", "store_writer", "tiny_planes"]


@pytest.fixture(scope="session")
def spoken_store(tmp_path_factory):
    """A store of noise with sound, whose scans are cut into clips."""
    return write_store(tmp_path_factory.mktemp("spoken") / "store")


@pytest.fixture(scope="session")
def shared_run(spoken_store, tmp_path_factory):
    """A run of two steps on it: its embeddings mean nothing, but they are computed as any run's are."""
    settings = tiny_settings()
    optimiser = settings.optimiser.model_copy(update={"epochs": 1})
    run = tmp_path_factory.mktemp("shared") / "run"
    return pretrain(spoken_store, run, settings.model_copy(update={"optimiser": optimiser})).run


@pytest.fixture(scope="session")
def video_run(spoken_store, tmp_path_factory):
    """A run without a loss that compares frames with speech."""
    settings = tiny_settings(objective={"contrastive_weight": 0.0, "correspondence_weight": 0.0, "stream_weight": 0.0})
    optimiser = settings.optimiser.model_copy(update={"epochs": 1})
    run = tmp_path_factory.mktemp("video") / "run"
    return pretrain(spoken_store, run, settings.model_copy(update={"optimiser": optimiser})).run
