import json

import matplotlib.image
import pytest
import torch

from tests.support.labelled_stores import STORE_ID
from usvs.errors import ConfigError, DataError
from usvs.experiments.curves import parse_fractions, run_curves
from usvs.models.se_resnext import SEResNeXt
from usvs.report.experiments import save_curves_figure
from usvs.tasks import initial_encoder as inits

FRACTIONS = (0.01, 0.1, 0.7, 1.0)


@pytest.fixture(scope="module")
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    return tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 4, "folds": 2})


@pytest.fixture
def pretrained(tmp_path, monkeypatch, tiny_planes):
    def load(path, *more):
        torch.manual_seed(99)
        return SEResNeXt(tiny_planes.model.video)

    monkeypatch.setattr(inits, "load_encoder", load)
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "patients.json").write_text(json.dumps({"store": STORE_ID, "trained": [], "validation": []}))
    return tmp_path / "joint"


@pytest.mark.slow
def test_fractions_become_nested_patients_and_each_number_is_measured_once(
    grating_store, tmp_path, settings, pretrained
):
    out = tmp_path / "out"
    arguments = {"inits": ["random", pretrained], "fractions": FRACTIONS, "seeds": [0, 1]}
    curves = run_curves(grating_store, out, settings, **arguments)
    measured = curves.results["measured"]
    assert curves.results["patients_labelled"] == [1, 2, 3]
    for protocol in ("finetune", "probe", "knn"):
        assert list(measured[protocol]) == ["random", "joint"]
        for counts in measured[protocol].values():
            assert list(counts) == ["1", "2", "3"]
            for count, results in counts.items():
                assert [(one["seed"], one["fold"]) for one in results] == [(0, 0), (0, 1), (1, 0), (1, 1)]
                assert {len(one["train_patients"]) for one in results} == {int(count)}
            for few, more in zip(counts["1"], counts["2"], strict=True):
                assert set(few["train_patients"]) < set(more["train_patients"])
                assert few["test_patients"] == more["test_patients"]
    assert {one["calibrated"] for one in measured["probe"]["random"]["1"]} == {True}
    assert {one["calibrated"] for one in measured["probe"]["joint"]["1"]} == {False}
    f1 = [100 * one["f1"] for one in measured["knn"]["joint"]["3"]]
    last = next(line for line in reversed(str(curves).splitlines()) if line.startswith("joint"))
    assert f"{sum(f1) / 4:.1f} ± " in last and "nearest neighbours" in str(curves)
    pixels = matplotlib.image.imread(save_curves_figure(out))[..., :3]
    assert (pixels < 0.9).any(axis=2).mean() > 0.005  # an empty figure is white
    stored = {file.name: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
    run_curves(grating_store, out, settings, **arguments)
    assert {file.name: file.stat().st_mtime_ns for file in (out / "results").iterdir()} == stored


@pytest.mark.slow
def test_pretraining_patients_are_refused_unless_allowed(grating_store, tmp_path, settings, pretrained):
    content = {"store": STORE_ID, "trained": ["9a7000000001"], "validation": []}
    (pretrained / "patients.json").write_text(json.dumps(content))
    arguments = {"settings": settings, "inits": [pretrained], "fractions": (1.0,), "seeds": [0]}
    with pytest.raises(DataError, match=r"1 of 6 test patients were pretrained on \(9a7000000001\)"):
        run_curves(grating_store, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    held_out = run_curves(grating_store, tmp_path / "out", **arguments, patients="held-out")
    assert "9a7000000001" not in held_out.results["patients"] and len(held_out.results["patients"]) == 5
    allowed = run_curves(grating_store, tmp_path / "all", **arguments, allow_overlap=True)
    assert allowed.results["pretraining_overlap"] == {"joint": "overlap"}


def test_fractions_are_checked():
    assert parse_fractions("1,0.1,0.1") == (0.1, 1.0)
    for text in ("", "0", "2", "a,b", "-0.1"):
        with pytest.raises(ConfigError, match="--fractions: expected numbers greater than 0 and at most 1"):
            parse_fractions(text)
