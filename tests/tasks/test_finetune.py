"""`usvs.finetune` as a whole: resuming, the best init, own modules and tasks, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from usvs.errors import ConfigError
from usvs.tasks import comparison
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.cross_validation import measure_fold
from usvs.tasks.finetune import finetune
from usvs.tasks.model_files import load_model
from usvs.tasks.registry import find_task
from usvs.tasks.results_table import best_init


@pytest.fixture
def short(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    return tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 4, "folds": 2})


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.slow
def test_an_interrupted_call_is_resumed_and_measures_nothing_twice(grating_store, tmp_path, short, monkeypatch):
    complete = finetune("planes", grating_store, tmp_path / "complete", short)
    measured = []

    def measure(*arguments, **options):
        if len(measured) == 3:
            raise Interrupted
        measured.append((arguments[6], arguments[3].number))
        return measure_fold(*arguments, **options)

    monkeypatch.setattr(comparison, "measure_fold", measure)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        finetune("planes", grating_store, run, short)
    assert not (run / "results.json").exists() and len(list((run / "results").iterdir())) == 3
    with pytest.raises(ConfigError, match="is not empty: choose a new folder for the results, or add --resume"):
        finetune("planes", grating_store, run, short)
    other = short.model_copy(update={"temporal_stride": 2})
    with pytest.raises(ConfigError, match=r"holds results of other settings, data or code: settings\.temporal_stride"):
        finetune("planes", grating_store, run, other, resume=True)
    measured.clear()
    resumed = finetune("planes", grating_store, run, short, resume=True)
    assert measured == [("probe", 1)]
    for one, again in zip(complete.results, resumed.results, strict=True):
        assert one.spread("f1") == again.spread("f1") and one.protocol == again.protocol
    assert str(complete) == str(resumed)
    for fold in range(2):
        weights = f"models/random/fold_{fold}/model.safetensors"
        assert (run / weights).read_bytes() == (tmp_path / "complete" / weights).read_bytes()


def test_resuming_another_folder_is_refused(grating_store, tmp_path, short):
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match=r"no fine-tuning to resume: expected finetune\.json"):
        finetune("planes", grating_store, tmp_path, short, resume=True)


def test_an_init_that_cannot_be_loaded_leaves_no_folder(grating_store, tmp_path, short):
    with pytest.raises(Exception, match="nowhere"):
        finetune("planes", grating_store, tmp_path / "run", short, inits=["random", str(tmp_path / "nowhere")])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="the same init was given twice"):
        finetune("planes", grating_store, tmp_path / "run", short, inits=["random", "random"])


class Own(nn.Module):
    num_features = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 5, stride=4)

    def forward_features(self, images):
        return torch.relu(self.conv(images))


def test_own_modules_and_own_classes_are_tasks_and_inits(grating_store, tmp_path, short):
    torch.manual_seed(0)
    own = Own()
    before = own.conv.weight.clone()
    task = ClassificationTask([f"class {number}" for number in range(10)], "stripes")
    result = finetune(task, grating_store, tmp_path / "run", short, inits=[own], protocols=["finetune", "knn"])
    assert torch.equal(own.conv.weight, before)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["kind"] == "stripes" and stored["classes"] == list(task.classes)
    assert set(stored["inits"]["own"]) == {"finetune", "knn"}
    assert result.result_for("own", "knn").folds[0]["updates"] == 0
    folder = tmp_path / "run" / "models" / "own" / "fold_0"
    with pytest.raises(ConfigError, match=r"was trained with an own encoder, .*Own: expected encoder=MODULE"):
        load_model(folder)
    loaded = load_model(folder, Own())
    assert loaded.task.classes == task.classes


def test_the_best_init_depends_on_the_direction_of_the_score():
    class Result:
        protocol = "finetune"

        def __init__(self, init, value):
            self.init, self.value = init, value

        def spread(self, score):
            return type("Spread", (), {"mean": self.value})

    results = [Result("a", 0.5), Result("b", 0.7)]
    assert best_init(find_task("planes"), results) == "b"
    assert best_init(find_task("gaze"), results) == "a"


def test_unknown_tasks_and_protocols_are_refused(gaze_store, tmp_path, short):
    with pytest.raises(ConfigError, match="task: expected planes or gaze or classify or a task object, got 'plane'"):
        finetune("plane", gaze_store, tmp_path / "run")
    with pytest.raises(ConfigError, match="task 'gaze', protocol: expected finetune, got 'probe'"):
        finetune("gaze", gaze_store, tmp_path / "run", protocols=["probe"])


def test_rare_classes_are_named(grating_store, tmp_path, short, caplog):
    settings = short.model_copy(update={"folds": 3})
    finetune("planes", grating_store, tmp_path / "one", settings, protocols=["probe"])
    assert "classes of fewer patients" not in caplog.text
    table_of = ClassificationTask.dataset

    class Rare(ClassificationTask):
        def dataset(self, store, settings, group_by="patient"):
            table = table_of(self, store, settings, group_by)
            return table.take((table.label != 9) | (table.group == table.group[0]))

    task = Rare([f"class {number}" for number in range(10)], "rare")
    finetune(task, grating_store, tmp_path / "two", settings, protocols=["probe"], stratify_folds=True)
    assert "classes of fewer patients than the 3 folds (number): class 9 (1)" in caplog.text
    folds = json.loads((tmp_path / "two" / "results.json").read_text())["inits"]["random"]["probe"]["folds"]
    assert np.sum([len(fold["test_patients"]) for fold in folds]) == 6


@pytest.mark.slow
def test_several_jobs_give_the_bits_of_one(grating_store, tmp_path, short):
    """Also where an interrupted call is resumed by several: what is stored is kept."""
    one = finetune("planes", grating_store, tmp_path / "one", short, jobs=1)
    (tmp_path / "two").mkdir()
    several = finetune("planes", grating_store, tmp_path / "two", short, jobs=2)
    assert str(several) == str(one)
    results = sorted(path.name for path in (tmp_path / "one" / "results").iterdir())
    assert results == sorted(path.name for path in (tmp_path / "two" / "results").iterdir())
    for fold in range(2):
        weights = f"models/random/fold_{fold}/model.safetensors"
        assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "two" / weights).read_bytes()
    (tmp_path / "two" / "results" / results[0]).unlink()
    (tmp_path / "two" / "results" / results[-1]).unlink()
    kept = (tmp_path / "two" / "results" / results[1]).stat().st_mtime_ns
    assert str(finetune("planes", grating_store, tmp_path / "two", short, jobs=2, resume=True)) == str(one)
    assert (tmp_path / "two" / "results" / results[1]).stat().st_mtime_ns == kept


def test_a_task_that_no_process_can_be_sent_is_measured_in_this_one(grating_store, tmp_path, short, monkeypatch):
    monkeypatch.setattr(comparison, "choose_jobs", lambda asked, *_: asked or 2)
    task = find_task("planes")
    object.__setattr__(task, "open_file", (tmp_path / "file").open("w"))
    quick = short.model_copy(update={"temporal_stride": 8})
    assert finetune(task, grating_store, tmp_path / "run", quick, protocols=["probe"]).results
    with pytest.raises(ConfigError, match="use --jobs 1"):
        finetune(task, grating_store, tmp_path / "other", quick, protocols=["probe"], jobs=2)
    task.open_file.close()
