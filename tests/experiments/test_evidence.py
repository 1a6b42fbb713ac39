import json

import pytest
import torch

from usvs.errors import ConfigError, DataError
from usvs.experiments import evidence, pretrainings
from usvs.experiments.evidence import EvidenceSettings, run_evidence
from usvs.models.se_resnext import SEResNeXt
from usvs.report.plots import save_evidence_picture
from usvs.tasks import initial_encoder as inits

PATIENTS = [f"9a7{number:09x}" for number in range(6)]
PROBE_ONLY = {"probe": evidence.READINGS["probe"]}


def stand_in(patch, settings):
    """Let pretraining only write what a run leaves behind; returns the list in which its calls are noted."""
    calls = []

    def pretrain(store, run, settings, resume=False, patients=None):
        calls.append((run.name, settings.objective.speech, settings.run.seed, tuple(patients)))
        run.mkdir(parents=True)
        (run / "patients.json").write_text(json.dumps({"trained": patients, "held_out": []}))
        record = {"step": 9, "split": "held_out", "order": 2.1, "order_chance": 2.48}
        (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    def load(path):
        torch.manual_seed(3 if "joint" in str(path) else 4)
        return SEResNeXt(settings.planes.model.video)

    patch.setattr(pretrainings, "pretrain", pretrain)
    patch.setattr(inits, "load_encoder", load)
    return calls


@pytest.fixture(scope="module")
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    planes = tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 4, "folds": 2})
    return EvidenceSettings(planes=planes, pretraining_fraction=0.34, few_patients=1, ceiling_epochs=2)


@pytest.fixture(scope="module")
def finished(grating_store, tmp_path_factory, settings):
    """A whole run: its folder, its result and the pretrainings it asked for."""
    out = tmp_path_factory.mktemp("evidence") / "out"
    with pytest.MonkeyPatch.context() as patch:
        calls = stand_in(patch, settings)
        result = run_evidence(grating_store, out, [0, 1], settings)
    return out, result, calls


@pytest.fixture
def probes_only(monkeypatch, settings):
    monkeypatch.setattr(evidence, "READINGS", PROBE_ONLY)
    return stand_in(monkeypatch, settings)


def test_every_cell_is_measured_and_stored(finished):
    out, result, calls = finished
    stored = json.loads((out / "results.json").read_text())
    assert stored == json.loads(json.dumps(result.results))
    assert {"command", "environment", "settings", "seeds", "folds", "patients", "chance_f1"} <= stored.keys()
    assert {"device", "git_revision"} <= stored["environment"].keys()
    assert set(stored["readings"]) == set(evidence.READINGS)
    for name, reading in stored["readings"].items():
        assert set(reading) == ({"random"} if name == "ceiling" else {"random", "shuffled", "joint"})
        places = [(0, 0), (0, 1)] if name == "ceiling" else [(0, 0), (0, 1), (1, 0), (1, 1)]
        for cells in reading.values():
            assert [(cell["seed"], cell["fold"]) for cell in cells] == places
    assert sorted(call[:3] for call in calls) == [
        ("joint_seed_0", "own", 0),
        ("joint_seed_1", "own", 1),
        ("shuffled_seed_0", "shuffled", 0),
        ("shuffled_seed_1", "shuffled", 1),
    ]


def test_the_table_and_the_picture_come_from_what_is_stored(finished):
    out, result, _ = finished
    cells = result.results["readings"]["probe"]
    differences = [ours["f1"] - random["f1"] for ours, random in zip(cells["joint"], cells["random"], strict=True)]
    assert result.results["differences"]["probe"]["joint - random"]["values"] == pytest.approx(differences)
    text = str(result)
    assert f"{100 * sum(differences) / 4:+.1f}" in text
    assert "order                                  2.480       2.100       2.100" in text
    assert save_evidence_picture(out).exists()


def test_nobody_is_both_pretrained_on_and_read(finished):
    _, result, calls = finished
    people = result.results["patients"]
    assert len(people["pretraining"]) == 2 and len(people["downstream"]) == 4
    assert sorted(people["pretraining"] + people["downstream"]) == PATIENTS
    assert all(set(call[3]) == set(people["pretraining"]) for call in calls)
    for name, reading in result.results["readings"].items():
        read = PATIENTS if name == "ceiling" else people["downstream"]
        for cell in (cell for cells in reading.values() for cell in cells):
            assert set(cell["train_patients"]) | set(cell["test_patients"]) <= set(read)
            assert set(cell["test_patients"]) <= set(people["downstream"])
    ceiling = result.results["readings"]["ceiling"]["random"]
    assert all(len(cell["train_patients"]) + len(cell["test_patients"]) == 6 for cell in ceiling)
    assert {len(cell["train_patients"]) for cell in result.results["readings"]["probe"]["joint"]} == {2}
    few = result.results["readings"]["fine-tuned, few labels"]["joint"]
    assert {len(cell["train_patients"]) for cell in few} == {1}


def test_random_probes_are_calibrated_and_all_inits_share_folds(finished):
    probes = finished[1].results["readings"]["probe"]
    people = [cell["test_patients"] for cell in probes["random"]]
    for init, cells in probes.items():
        assert {cell["calibrated"] for cell in cells} == {init == "random"}
        assert [cell["test_patients"] for cell in cells] == people
        assert len({cell["encoder_sha256"] for cell in cells if cell["seed"] == 0}) == 1


def test_a_second_call_measures_nothing_again(finished, grating_store, settings, monkeypatch):
    out, result, _ = finished

    def fail(*arguments, **options):
        raise AssertionError("measured again")

    monkeypatch.setattr(evidence, "measure_fold", fail)
    monkeypatch.setattr(pretrainings, "pretrain", fail)
    assert run_evidence(grating_store, out, [0, 1], settings).results["readings"] == result.results["readings"]


def test_what_was_stopped_goes_on(grating_store, tmp_path, probes_only, settings, monkeypatch):
    measure, done = evidence.measure_fold, []

    def stop_after_three(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(evidence, "measure_fold", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run_evidence(grating_store, tmp_path / "out", [0], settings)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "cells").iterdir()}
    assert len(kept) == 3 + 2
    monkeypatch.setattr(evidence, "measure_fold", measure)
    run_evidence(grating_store, tmp_path / "out", [0], settings)
    assert all((tmp_path / "out" / "cells" / name).stat().st_mtime_ns == time for name, time in kept.items())


def test_cells_of_other_settings_are_never_mixed_in(finished, grating_store, tmp_path, settings):
    with pytest.raises(ConfigError, match="cells of other settings or another store"):
        run_evidence(grating_store, finished[0], [0], settings.model_copy(update={"few_patients": 2}))
    (tmp_path / "thing").touch()
    with pytest.raises(ConfigError, match="holds no run of kind 'evidence'"):
        run_evidence(grating_store, tmp_path, [0], settings)


def test_a_run_that_saw_the_tested_patients_is_refused(grating_store, tmp_path, probes_only, settings, monkeypatch):
    pretrain = pretrainings.pretrain

    def pretrain_on_everyone(store, run, settings, resume, patients):
        pretrain(store, run, settings, resume, PATIENTS)

    monkeypatch.setattr(pretrainings, "pretrain", pretrain_on_everyone)
    with pytest.raises(DataError, match="test patients were pretrained on"):
        run_evidence(grating_store, tmp_path / "out", [0], settings)


def test_a_damaged_cell_is_named(finished, grating_store, settings, tmp_path):
    cell = finished[0] / "cells" / "probe_joint_seed_0_fold_0.json"
    whole = cell.read_text()
    cell.write_text(whole[:40])
    with pytest.raises(DataError, match=r"probe_joint_seed_0_fold_0.json.*remove it to have it measured again"):
        run_evidence(grating_store, finished[0], [0], settings)
    cell.write_text(whole)
