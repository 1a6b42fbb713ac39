from usvs.tasks.pretraining import step_profile
from usvs.tasks.pretraining.step_profile import profile_step


def test_a_profile_says_where_the_time_goes_and_what_bounds_it(noise_store, tiny, monkeypatch):
    monkeypatch.setattr(step_profile, "MOST_SECONDS", 0.005)
    monkeypatch.setattr(step_profile, "MATRIX_SIDE", 256)
    profile = profile_step(noise_store, tiny(), steps=1)
    stored = profile.as_json()
    parts = ("loader", "forward", "losses", "backward", "optimiser", "step", "convolutions", "matrix_flops")
    assert all(stored[name] > 0 for name in parts)
    assert profile.convolutions <= profile.convolutions_as_trained
    assert {"device", "git_revision", "packages"} <= stored["environment"].keys()
    said = "\n".join(stored["lines"])
    assert "s as trained" in said and "to feed this device" in said and "8 x H100 SXM" in said
