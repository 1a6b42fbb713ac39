import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.labelled_stores import STORE_ID
from usvs.errors import ConfigError, DataError
from usvs.models.se_resnext import SEResNeXt
from usvs.report.runs import save_planes_figures
from usvs.tasks import initial_encoder as inits
from usvs.tasks.finetune import finetune
from usvs.tasks.initial_encoder import init_names, initial_encoder
from usvs.tasks.provenance import typed_command


@pytest.fixture
def pretrained(tmp_path, monkeypatch, tiny_planes):
    """A run folder that stands for a pretraining on other patients."""

    def load(path):
        torch.manual_seed(99)
        return SEResNeXt(tiny_planes.model.video)

    monkeypatch.setattr(inits, "load_encoder", load)
    run = tmp_path / "joint"
    run.mkdir()
    (run / "patients.json").write_text(json.dumps({"store": STORE_ID, "trained": [], "validation": []}))
    return run


def quick(settings, **changes):
    optimiser = settings.optimiser.model_copy(update={"epochs": 2})
    return settings.model_copy(update={"optimiser": optimiser, "temporal_stride": 2, **changes})


def test_results_hold_everything_and_no_name(grating_store, tmp_path, tiny_planes, monkeypatch):
    monkeypatch.setattr("sys.argv", ["usvs", "finetune", "planes", str(grating_store), str(tmp_path / "run")])
    result = finetune("planes", grating_store, tmp_path / "run", quick(tiny_planes, labelled_patients=2))
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["command"] == ["usvs", "finetune", "planes", "STORE", "RUN"]
    assert str(grating_store) not in (tmp_path / "run" / "results.json").read_text()
    assert {"environment", "settings", "classes", "chance_f1", "usvs", "pretraining_overlap"} <= stored.keys()
    evaluation = stored["inits"]["random"]["finetune"]
    assert evaluation["f1"]["mean"] == pytest.approx(np.mean([fold["f1"] for fold in evaluation["folds"]]))
    assert evaluation["f1"]["std"] == pytest.approx(np.std([fold["f1"] for fold in evaluation["folds"]], ddof=1))
    assert np.sum(evaluation["confusion"]) == 6 * 2 * 12 == sum(fold["test_frames"] for fold in evaluation["folds"])
    tested = [patient for fold in evaluation["folds"] for patient in fold["test_patients"]]
    assert len(tested) == len(set(tested)) == 6
    for fold in evaluation["folds"]:
        assert len(fold["train_patients"]) == 2
        assert not set(fold["train_patients"]) & set(fold["test_patients"])
    assert result.result_for("random").spread("f1").mean == pytest.approx(evaluation["f1"]["mean"])
    model = tmp_path / "run" / "models" / "random" / "fold_0"
    assert {file.name for file in model.iterdir()} == {"model.safetensors", "model.json"}


@pytest.mark.slow
def test_inits_are_compared_on_the_same_folds_and_drawn(grating_store, tmp_path, tiny_planes, pretrained):
    table = str(finetune("planes", grating_store, tmp_path / "run", quick(tiny_planes), inits=["random", pretrained]))
    inits = json.loads((tmp_path / "run" / "results.json").read_text())["inits"]
    assert set(inits) == {"random", "joint"}
    people = [
        [fold["test_patients"] for fold in evaluation["folds"]]
        for init in inits.values()
        for evaluation in init.values()
    ]
    assert all(one == people[0] for one in people)
    assert {fold["calibrated"] for fold in inits["random"]["probe"]["folds"]} == {True}
    assert {fold["calibrated"] for fold in inits["joint"]["probe"]["folds"]} == {False}
    starts = {name: {fold["encoder_sha256"] for fold in init["finetune"]["folds"]} for name, init in inits.items()}
    assert len(starts["random"]) == len(starts["joint"]) == 1
    assert starts["random"] != starts["joint"]
    lines = table.splitlines()
    assert lines[2].startswith("random") and lines[2].endswith("*")
    assert lines[3].startswith("joint") and not lines[3].endswith("*")
    assert len(save_planes_figures(tmp_path / "run")) == 5


def test_testing_on_pretraining_patients_is_refused_before_anything_is_trained(
    grating_store, tmp_path, tiny_planes, pretrained
):
    seen = "9a7000000002"
    (pretrained / "patients.json").write_text(json.dumps({"store": STORE_ID, "trained": [seen], "validation": []}))
    with pytest.raises(
        DataError,
        match=f"1 of 6 test patients were pretrained on \\({seen}\\): use only patients .* by --patients held-out",
    ):
        finetune("planes", grating_store, tmp_path / "run", quick(tiny_planes), inits=["random", pretrained])
    assert not (tmp_path / "run").exists()
    result = finetune(
        "planes",
        grating_store,
        tmp_path / "run",
        quick(tiny_planes),
        inits=pretrained,
        protocols=["probe"],
        allow_overlap=True,
    )
    assert len(result.result_for("joint", "probe").folds) == 3
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["pretraining_overlap"] == {"joint": "overlap"}


def test_only_held_out_patients_are_used_where_asked(grating_store, tmp_path, tiny_planes, pretrained):
    trained = ["9a7000000000", "9a7000000001"]
    (pretrained / "patients.json").write_text(json.dumps({"store": STORE_ID, "trained": trained, "validation": []}))
    finetune("planes", grating_store, tmp_path / "run", quick(tiny_planes), inits=pretrained, patients="held-out")
    folds = json.loads((tmp_path / "run" / "results.json").read_text())["inits"]["joint"]["probe"]["folds"]
    people = {patient for fold in folds for patient in fold["test_patients"] + fold["train_patients"]}
    assert people == {f"9a7{number:09x}" for number in range(2, 6)}
    (pretrained / "patients.json").unlink()
    with pytest.raises(DataError, match="carries no list of pretraining patients"):
        finetune("planes", grating_store, tmp_path / "other", quick(tiny_planes), inits=pretrained, patients="held-out")


def test_missing_patient_ids_are_refused_unless_scans_are_asked_for(store_writer, tmp_path, tiny_planes):
    store = store_writer(tmp_path / "store", ["a1", None, "b2", "c3"])
    with pytest.raises(DataError, match="2 of 8 labelled scans have no patient id"):
        finetune("planes", store, tmp_path / "run", quick(tiny_planes), protocols=["probe"])
    settings = quick(tiny_planes)
    result = finetune("planes", store, tmp_path / "run", settings, protocols=["probe"], group_by="scan")
    assert sum(len(fold["test_patients"]) for fold in result.result_for("random", "probe").folds) == 8


def test_a_folder_in_use_is_refused(grating_store, tmp_path, tiny_planes):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    with pytest.raises(ConfigError, match="is not empty: choose a new folder"):
        finetune("planes", grating_store, tmp_path / "run", quick(tiny_planes))


def test_an_untrained_encoder_depends_on_the_seed_alone_and_leaves_the_global_generator(tiny_planes):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again = (initial_encoder("random", tiny_planes).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    other = tiny_planes.model_copy(update={"run": tiny_planes.run.model_copy(update={"seed": 1})})
    assert torch.equal(one["conv1.weight"], again["conv1.weight"])
    assert not torch.equal(one["conv1.weight"], initial_encoder("random", other).state_dict()["conv1.weight"])


def test_an_init_of_another_network_is_refused(pretrained, tiny_planes):
    video = tiny_planes.model.video.model_copy(update={"stem_width": 16})
    wider = tiny_planes.model_copy(update={"model": tiny_planes.model.model_copy(update={"video": video})})
    with pytest.raises(ConfigError, match=r"its video encoder is not that of setting 'model.video'"):
        initial_encoder(pretrained, wider)


def test_two_runs_of_one_name_stay_apart():
    assert init_names(["random", Path("a/ours"), Path("b/ours")]) == ["random", "ours_1", "ours_2"]


def test_the_command_shows_no_path_of_the_archive(tmp_path):
    typed = ["/usr/bin/usvs", "evidence", "/data/hospital/store", "out", "--seeds", "3"]
    shown = typed_command(typed, {"STORE": Path("/data/hospital/store"), "OUT": Path("out")})
    assert shown == ["usvs", "evidence", "STORE", "OUT", "--seeds", "3"]
