"""Several packages together: a real pretraining, and fine-tuning and experiments on its run folder."""

import json

import numpy as np
import pytest
import torch

import usvs
from tests.support.labelled_stores import tiny_pretraining
from usvs.data.frame_dataset import FrameDataset
from usvs.data.transforms import evaluation_frames
from usvs.errors import ConfigError, DataError
from usvs.experiments.presets import ReproduceSettings
from usvs.experiments.reproduce import reproduce
from usvs.tasks.finetune import finetune
from usvs.tasks.pretraining.pretrain import pretrain


@pytest.fixture(scope="module")
def pretraining(tiny_planes):
    # the name of the profile alone: what is trained on it keeps its own profile
    return tiny_pretraining(tiny_planes, validation_fraction=0.5).model_copy(update={"profile": "paper"})


@pytest.fixture(scope="module")
def planes(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    return tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 8, "folds": 2})


@pytest.mark.slow
def test_a_run_is_tested_on_its_validation_patients_only(tiny_store, tmp_path, pretraining, planes):
    run = tmp_path / "joint"
    pretrain(tiny_store, run, pretraining)
    with pytest.raises(DataError, match="2 of 4 test patients were pretrained on"):
        finetune("planes", tiny_store, tmp_path / "refused", planes, inits=run)
    finetune("planes", tiny_store, tmp_path / "planes", planes, inits=["random", run], patients="held-out")
    stored = json.loads((tmp_path / "planes" / "results.json").read_text())
    held_out = json.loads((run / "patients.json").read_text())["validation"]
    for evaluation in (evaluation for init in stored["inits"].values() for evaluation in init.values()):
        assert sorted(patient for fold in evaluation["folds"] for patient in fold["test_patients"]) == sorted(held_out)
    assert stored["pretraining_overlap"] == {"joint": "disjoint"}

    classifier = usvs.FrameClassifier(run, optimiser=planes.optimiser, run=planes.run)
    frames = FrameDataset(tiny_store, stride=16)
    with pytest.raises(DataError, match="2 of 4 test patients were pretrained on"):
        usvs.cross_validate(classifier, frames, cv=2)
    with pytest.raises(DataError, match="2 of 4 test patients were pretrained on"):
        usvs.cross_validate(classifier, frames.read(), frames.labels, groups=frames.patients, cv=2)
    with pytest.raises(ConfigError, match="expected a FrameDataset of a store"):
        usvs.cross_validate(classifier, frames.read(), frames.labels, groups=frames.patients, patients="held-out")
    validated = usvs.cross_validate(classifier, frames, cv=2, patients="held-out")
    assert sorted(patient for fold in validated.folds for patient in fold.test) == sorted(held_out)
    assert set(usvs.held_out_frames(frames, run).patients) == set(held_out)
    assert len(usvs.cross_validate(classifier, frames, cv=2, allow_overlap=True).folds) == 2

    trained = classifier.fit(frames).models_[0].settings
    assert (trained.model, trained.profile) == (pretraining.model, classifier.profile)
    assert 0 <= classifier.score(frames) <= 1
    table, encoder = usvs.embed(tiny_store, run, stride=16), usvs.load_encoder(run)
    side = pretraining.model.frame_pixels
    assert encoder.pretrained_cfg["input_size"] == (1, side, side)
    with torch.no_grad():
        expected = encoder(evaluation_frames(frames.read([0]), side, pretraining.augment))[0].numpy()
    row = [*zip(table["scan"].to_pylist(), table["seconds"].to_pylist(), strict=True)].index(
        (frames.scan[0], frames.seconds[0])
    )
    np.testing.assert_allclose(np.array(table["features"][row].as_py()), expected, atol=1e-4)
    assert table["label"][row].as_py() == frames.classes[frames.labels[0]]
    assert table["patient"][row].as_py() == frames.patients[0]


@pytest.mark.slow
def test_the_evidence_runs_on_real_pretrainings(tiny_store, tmp_path, pretraining, planes):
    everybody = pretraining.model_copy(update={"validation_fraction": 0.0})  # shuffled speech needs two scans
    settings = ReproduceSettings(
        preset="evidence",
        profile="quick",
        pretrain=everybody,
        planes=planes,
        pretraining_fraction=0.5,
        few_patients=1,
        keep_networks=False,
    )
    result = reproduce(tiny_store, tmp_path / "out", settings, seeds=[0])
    probes = dict(result.results["measured"]["probe"])
    assert len({folds[0]["encoder_sha256"] for folds in probes.values()}) == len(probes) == 3
    assert "no validation losses" in str(result)
