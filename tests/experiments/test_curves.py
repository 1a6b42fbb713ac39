import json

import pytest
import torch

from usvs.errors import ConfigError, DataError
from usvs.experiments.curves import parse_shares, run_curves
from usvs.models.se_resnext import SEResNeXt
from usvs.report.reproduction import save_curves
from usvs.tasks import initial_encoder as inits


@pytest.fixture
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    return tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 4, "folds": 2})


@pytest.fixture
def pretrained(tmp_path, monkeypatch, tiny_planes):
    def load(path):
        torch.manual_seed(99)
        return SEResNeXt(tiny_planes.model.video)

    monkeypatch.setattr(inits, "load_encoder", load)
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "patients.json").write_text(json.dumps({"trained": ["somebody"], "validation": []}))
    return tmp_path / "joint"


def test_shares_become_patients_nested_and_measured_once(grating_store, tmp_path, settings, pretrained):
    out = tmp_path / "out"
    curves = run_curves(grating_store, out, settings, ["random", pretrained], (0.01, 0.1, 0.7, 1.0), seeds=[0, 1])
    assert curves.results["patients_labelled"] == [1, 2, 3]
    for reading in ("finetune", "probe", "knn"):
        for cells in curves.results["measured"][reading].values():
            assert list(cells) == ["1", "2", "3"]
            for count, of_count in cells.items():
                assert len(of_count) == 4 and {len(cell["train_patients"]) for cell in of_count} == {int(count)}
            for few, more in zip(cells["1"], cells["2"], strict=True):
                assert set(few["train_patients"]) < set(more["train_patients"])
                assert few["test_patients"] == more["test_patients"]
    assert {cell["calibrated"] for cell in curves.results["measured"]["probe"]["random"]["1"]} == {True}
    text = str(curves)
    assert "1 patients" in text and "frozen kNN" in text and "joint" in text
    assert save_curves(out).stat().st_size > 10_000
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "cells").iterdir()}
    run_curves(grating_store, out, settings, ["random", pretrained], (0.01, 0.1, 0.7, 1.0), seeds=[0, 1])
    assert {file.name: file.stat().st_mtime_ns for file in (out / "cells").iterdir()} == kept


def test_pretraining_patients_are_refused_unless_typed(grating_store, tmp_path, settings, pretrained):
    (pretrained / "patients.json").write_text(json.dumps({"trained": ["9a7000000001"], "validation": []}))
    with pytest.raises(DataError, match=r"1 of 6 test patients were pretrained on \(9a7000000001\)"):
        run_curves(grating_store, tmp_path / "out", settings, [pretrained], (1.0,), seeds=[0])
    held_out = run_curves(
        grating_store, tmp_path / "out", settings, [pretrained], (1.0,), seeds=[0], held_out_only=True
    )
    assert "9a7000000001" not in held_out.results["patients"] and len(held_out.results["patients"]) == 5


def test_shares_are_checked():
    assert parse_shares("1,0.1,0.1") == (0.1, 1.0)
    for text in ("", "0", "2", "a,b", "-0.1"):
        with pytest.raises(ConfigError, match="--shares: expected numbers above 0 and up to 1"):
            parse_shares(text)
