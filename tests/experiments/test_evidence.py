"""The preset ``evidence`` of `reproduce`."""

import json

import pytest

from tests.support.experiment_stubs import stub_pretraining
from usvs.errors import DataError
from usvs.experiments.evidence_table import evidence_differences
from usvs.experiments.presets import PRESETS, ReproduceSettings
from usvs.experiments.reproduce import reproduce
from usvs.report.experiments import save_reproduction_figures
from usvs.tasks.classification.task import ClassificationTask

PATIENTS = [f"9a7{number:09x}" for number in range(6)]


@pytest.fixture(scope="module")
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    planes = tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 4, "folds": 2})
    values = {"planes": planes, "pretraining_fraction": 0.34, "few_patients": 1, "ceiling_epochs": 2}
    return ReproduceSettings(preset="evidence", profile="quick", keep_networks=False, **values)


@pytest.fixture(scope="module")
def finished(grating_store, tmp_path_factory, settings):
    """A run whose pretrainings alone are stand-ins: its folder, its result and the pretrainings that it asked for."""
    out = tmp_path_factory.mktemp("evidence") / "out"
    with pytest.MonkeyPatch.context() as patch:
        calls = stub_pretraining(patch, settings.planes.model.video)
        result = reproduce(grating_store, out, settings, seeds=[0, 1])
    return out, result, calls.pretrained


def test_everything_is_measured_and_stored(finished):
    out, result, pretrained = finished
    stored = json.loads((out / "results.json").read_text())
    assert stored == json.loads(json.dumps(result.results))
    assert {"command", "environment", "settings", "seeds", "patients", "chance_f1", "data", "code"} <= stored.keys()
    assert {"device", "git_revision"} <= stored["environment"].keys()
    assert list(stored["measured"]) == list(PRESETS["evidence"].evaluations)
    for name, inits in stored["measured"].items():
        assert set(inits) == ({"random"} if name == "ceiling" else {"random", "shuffled", "joint"})
        expected = [(0, 0), (0, 1)] if name == "ceiling" else [(0, 0), (0, 1), (1, 0), (1, 1)]
        for results in inits.values():
            assert [(one["seed"], one["fold"]) for one in results] == expected
    assert sorted((name, chosen.objective.speech, chosen.run.seed) for name, chosen, _ in pretrained) == [
        ("joint_seed_0", "own", 0),
        ("joint_seed_1", "own", 1),
        ("shuffled_seed_0", "shuffled", 0),
        ("shuffled_seed_1", "shuffled", 1),
    ]
    assert not (out / "run" / "models").exists()


def test_the_table_is_made_of_the_stored_results(finished):
    _, result, _ = finished
    probe = result.results["measured"]["probe"]
    differences = [joint["f1"] - random["f1"] for joint, random in zip(probe["joint"], probe["random"], strict=True)]
    found = evidence_differences(result.results)["probe"]["joint", "random"]
    assert found.values == pytest.approx(differences)
    text = str(result)
    assert f"{100 * sum(differences) / 4:+.1f}" in text and "Ours - Rand" in text and "Ours - Shuffled" in text
    assert "mean ± standard deviation over 2 seeds x 2 patient folds" in text
    assert "order                                  2.480       2.100       2.100" in text


def test_the_figure_is_drawn_from_the_stored_results(finished):
    assert save_reproduction_figures(finished[0]) == [finished[0] / "evidence.png"]


def test_no_patient_is_in_both_pretraining_and_tests(finished):
    _, result, pretrained = finished
    patients = result.results["patients"]
    assert len(patients["pretraining"]) == 2 and len(patients["downstream"]) == 4
    assert sorted(patients["pretraining"] + patients["downstream"]) == PATIENTS
    assert all(set(trained) == set(patients["pretraining"]) for _, _, trained in pretrained)
    measured = result.results["measured"]
    for name, inits in measured.items():
        labelled = PATIENTS if name == "ceiling" else patients["downstream"]
        for one in (one for results in inits.values() for one in results):
            assert set(one["train_patients"]) | set(one["test_patients"]) <= set(labelled)
            assert set(one["test_patients"]) <= set(patients["downstream"])
    ceiling = measured["ceiling"]["random"]
    assert all(len(one["train_patients"]) + len(one["test_patients"]) == 6 for one in ceiling)
    assert {len(one["train_patients"]) for one in measured["probe"]["joint"]} == {2}
    assert {len(one["train_patients"]) for one in measured["fine-tuned, few labels"]["joint"]} == {1}


def test_more_epochs_are_trained_with_all_labels(finished):
    measured = finished[1].results["measured"]
    few, ceiling = measured["fine-tuned, few labels"]["random"][0], measured["ceiling"]["random"][0]
    assert few["train_frames"] * 4 == ceiling["train_frames"]
    assert ceiling["updates"] == 2 * -(-ceiling["train_frames"] // 24)


def test_random_probes_are_calibrated_and_all_inits_share_folds(finished):
    probes = finished[1].results["measured"]["probe"]
    patients = [one["test_patients"] for one in probes["random"]]
    for init, results in probes.items():
        assert {one["calibrated"] for one in results} == {init == "random"}
        assert [one["test_patients"] for one in results] == patients
        assert len({one["encoder_sha256"] for one in results if one["seed"] == 0}) == 1


def test_a_pretraining_that_saw_test_patients_is_refused(grating_store, tmp_path, settings, monkeypatch):
    stub_pretraining(monkeypatch, settings.planes.model.video, PATIENTS)
    with pytest.raises(DataError, match="test patients were pretrained on"):
        reproduce(grating_store, tmp_path / "out", settings, seeds=[0])


def test_a_store_without_labels_is_refused(grating_store, tmp_path, settings, monkeypatch):
    def none(*arguments, **options):
        raise DataError("no scan of this store has plane labels")

    monkeypatch.setattr(ClassificationTask, "dataset", none)
    with pytest.raises(DataError, match="no data for any task; planes: no scan of this store has plane labels"):
        reproduce(grating_store, tmp_path / "out", settings, seeds=[0])
