"""The rooms together: a real pretraining, and what downstream makes of its run folder."""

import json

import pytest

from usvs.audio.settings import SpectrogramSettings
from usvs.errors import DataError
from usvs.experiments.evidence import EvidenceSettings, run_evidence
from usvs.tasks.classification.compare import compare_inits
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.settings import OptimiserSettings


@pytest.fixture(scope="module")
def pretraining(tiny_planes):
    return PretrainSettings(
        profile="quick",
        model=tiny_planes.model,
        spectrogram=SpectrogramSettings(n_fft=256, frames=32),
        optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=1, batch_clips=8),
        run=tiny_planes.run,
        validation_fraction=0.5,
    )


@pytest.fixture(scope="module")
def planes(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    return tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 8, "folds": 2})


def test_a_run_is_read_on_the_patients_it_held_out_and_refused_on_the_others(tiny_store, tmp_path, pretraining, planes):
    run = tmp_path / "joint"
    pretrain(tiny_store, run, pretraining)
    with pytest.raises(DataError, match="2 of 4 test patients were pretrained on"):
        compare_inits(tiny_store, tmp_path / "refused", planes, [run])
    compare_inits(tiny_store, tmp_path / "planes", planes, ["random", run], held_out_only=True)
    stored = json.loads((tmp_path / "planes" / "results.json").read_text())
    held_out = json.loads((run / "patients.json").read_text())["validation"]
    for reading in (reading for init in stored["inits"].values() for reading in init.values()):
        assert sorted(patient for fold in reading["folds"] for patient in fold["test_patients"]) == sorted(held_out)
    assert stored["pretraining_overlap"] == {"joint": "disjoint"}


def test_the_evidence_runs_on_real_pretrainings(tiny_store, tmp_path, pretraining, planes):
    everybody = pretraining.model_copy(update={"validation_fraction": 0.0})  # shuffled speech needs two scans
    settings = EvidenceSettings(pretrain=everybody, planes=planes, pretraining_fraction=0.5, few_patients=1)
    result = run_evidence(tiny_store, tmp_path / "out", [0], settings)
    starts = {init: cells[0]["encoder_sha256"] for init, cells in result.results["readings"]["probe"].items()}
    assert len(set(starts.values())) == 3
    assert "no held-out losses" in str(result)
