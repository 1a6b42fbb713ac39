import pytest

from usvs.tasks.pretraining import step_profile
from usvs.tasks.pretraining.step_profile import profile_step


@pytest.mark.slow
def test_a_profile_says_where_the_time_goes_and_what_bounds_it(noise_store, tiny, monkeypatch):
    monkeypatch.setattr(step_profile, "MAX_SECONDS", 0.005)
    monkeypatch.setattr(step_profile, "MATRIX_SIDE", 256)
    times = iter([3.0, 1.0, 0.25, 0.5] * 100)  # of each convolution: as trained, then in the other memory layout
    counts: list[int] = []
    timed, seconds = step_profile._best, step_profile._Convolutions.seconds
    monkeypatch.setattr(step_profile._Convolutions, "seconds", lambda self, trainer: _seconds(self, trainer))

    def _seconds(convolutions, trainer):
        for number, shape in enumerate(convolutions._counts):
            convolutions._counts[shape] = 1 + number % 3  # as if some shapes occurred several times
        counts.extend(convolutions._counts.values())
        with monkeypatch.context() as patch:
            patch.setattr(step_profile, "_best", lambda act, device: act() or next(times))
            return seconds(convolutions, trainer)

    profile = profile_step(noise_store, tiny(), steps=1)
    assert step_profile._best is timed
    # Every second distinct convolution is faster in the other layout, so the bound is smaller by exactly that.
    assert len(counts) > 4
    as_trained = sum(count * (3.0, 0.25)[i % 2] for i, count in enumerate(counts))
    faster = sum(count * (1.0, 0.25)[i % 2] for i, count in enumerate(counts))
    assert profile.convolutions_as_trained == pytest.approx(as_trained)
    assert profile.convolutions == pytest.approx(faster)

    stored = profile.as_json()
    parts = ("loader", "forward", "losses", "backward", "optimiser", "step", "convolutions", "matrix_flops")
    assert all(stored[name] > 0 for name in parts)
    assert {"device", "git_revision", "packages"} <= stored["environment"].keys()
    text = "\n".join(stored["lines"])
    assert "s as trained" in text and "loader threads that this device needs" in text and "8 x H100 SXM" in text
