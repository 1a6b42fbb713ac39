"""`usvs bench loader`: processor time of all threads, and the cores that feed a GPU."""

import time

import pytest

from usvs.errors import ConfigError
from usvs.tasks.pretraining import loader_profile
from usvs.tasks.pretraining.loader_profile import profile_loader
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.step_cost import H100, count_step


def with_workers(settings: PretrainSettings, workers: int) -> PretrainSettings:
    return settings.model_copy(update={"run": settings.run.model_copy(update={"loader_workers": workers})})


def test_it_measures_the_work_of_the_threads_and_divides_the_roofline_by_it(noise_store, tiny, monkeypatch):
    work, loaded = 0.02, []
    make_loader = loader_profile.make_loader

    def make_busy_loader(*arguments):
        loader = make_loader(*arguments)
        read = type(loader).batch

        def batch(self, step):
            loaded.append(step)
            until = time.thread_time() + work
            while time.thread_time() < until:
                pass
            return read(self, step)

        monkeypatch.setattr(type(loader), "batch", batch)
        return loader

    monkeypatch.setattr(loader_profile, "make_loader", make_busy_loader)
    settings = with_workers(tiny(), 2)
    profile = profile_loader(noise_store, settings, batches=8)
    assert loaded and sorted(loaded) == list(range(loader_profile.WARM_UP + 8))
    assert profile.processor_seconds >= work, "the threads' own processor time is missing"
    assert profile.clips_per_second_of_core == pytest.approx(profile.clips / profile.processor_seconds)
    half = settings.model_copy(update={"run": settings.run.model_copy(update={"precision": "bfloat16"})})
    cost = count_step(half)
    rate = cost.clips / cost.seconds_at_least(H100)
    assert profile.cores(8) == pytest.approx(8 * rate * profile.processor_seconds / profile.clips)
    stored = profile.as_json()
    assert stored["batch_bytes"] > 0 and {"device", "git_revision"} <= stored["environment"].keys()
    assert "1 x H100 SXM" in stored["lines"][-2] and "8 x H100 SXM" in stored["lines"][-1]


def test_no_batch_is_refused(noise_store, tiny):
    with pytest.raises(ConfigError, match="expected at least 1, got 0"):
        profile_loader(noise_store, tiny(), batches=0)
