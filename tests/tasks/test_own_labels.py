"""Classification by a store's own labels: the class list goes from the store to results, model and predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

import usvs
from tests.store.test_stills import write_pictures
from tests.support.labelled_stores import PATIENTS, write_store
from usvs.archive.class_list import ClassList
from usvs.archive.labels import STANDARD_PLANES
from usvs.data.frame_table import labelled_frames
from usvs.errors import ConfigError, DataError
from usvs.experiments.curves import run_curves
from usvs.inference.embed import embed
from usvs.models.se_resnext import SEResNeXt
from usvs.report.runs import save_planes_figures
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings
from usvs.tasks.classification.own_labels import classify_task, default_task
from usvs.tasks.finetune import finetune
from usvs.tasks.model_files import load_model
from usvs.tasks.registry import find_task

NAMES = {1: "up", 3: "across", 9: "down"}  # by the plane that the gratings are made from


@pytest.fixture(scope="module")
def own_store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("own") / "store", PATIENTS, own_labels=NAMES)


@pytest.fixture(scope="module")
def other_store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("other") / "store", PATIENTS[:2], own_labels={1: "up", 3: "x", 9: "y"})


@pytest.fixture(scope="module")
def short(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 3})
    return tiny_planes.model_copy(update={"optimiser": optimiser})


@pytest.fixture(scope="module")
def run(own_store, short, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify") / "run"
    return folder, finetune("classify", own_store, folder, short)


def test_the_classes_are_those_of_the_labels(own_store, run):
    folder, result = run
    stored = json.loads((folder / "results.json").read_text())
    assert stored["kind"] == "classification" and stored["classes"] == ["across", "down", "up"]
    assert np.shape(stored["inits"]["random"]["finetune"]["confusion"]) == (3, 3)
    assert result.result_for("random").spread("f1").mean > 0.8, "the stripes go with the labels"
    assert "classification by 'stripes'" in str(result)
    assert len(save_planes_figures(folder)) == 3


def test_labels_number_the_same_frames_as_planes(own_store, grating_store, tiny_planes):
    """The same frames of the same patients, and numbers in the order of the class list: nothing else is trained on."""
    own = labelled_frames(
        PreparedStore(own_store), 1, classes=ClassList(("a", "up", "b", "across"), {"down": "b"}, column="stripes")
    )
    planes = labelled_frames(PreparedStore(grating_store), 1)
    np.testing.assert_array_equal(own.frame, planes.frame)
    np.testing.assert_array_equal(own.label, [{1: 1, 3: 3, 9: 2}[label] for label in planes.label.tolist()])
    np.testing.assert_array_equal(own.group, planes.group)


def test_order_colours_and_column_are_kept_with_the_model(run):
    model = load_model(run[0] / "models" / "random" / "fold_0")
    found = model.task.class_list
    assert (found.names, found.column) == (("across", "down", "up"), "stripes") and len(set(found.colours)) == 3
    described = json.loads((run[0] / "models" / "random" / "fold_0" / "model.json").read_text())["task"]
    assert ClassList.from_json(described) == found
    del described["colours"], described["aliases"], described["column"]  # as earlier versions wrote it
    assert ClassList.from_json(described).names == found.names


def test_planes_keep_their_fixed_classes(own_store, grating_store, short, tmp_path):
    assert find_task("planes").classes == STANDARD_PLANES
    assert default_task(PreparedStore(grating_store)).name == "planes"
    assert default_task(PreparedStore(own_store)).classes == ("across", "down", "up")
    with pytest.raises(DataError, match=r"no scan of this store .* plane label: .* labels are in 'stripes'"):
        finetune("planes", own_store, tmp_path / "run", short)
    with pytest.raises(DataError, match=r"this store has no labels: put a labels.csv"):
        finetune("classify", grating_store, tmp_path / "run", short)
    with pytest.raises(ConfigError, match=r"'label_column': expected task 'classify', got task 'planes'"):
        finetune("planes", grating_store, tmp_path / "run", short, label_column="stripes")
    with pytest.raises(ConfigError, match=r"expected one of the store's \('stripes'\), got 'view'"):
        finetune("classify", own_store, tmp_path / "run", short, label_column="view")
    assert not (tmp_path / "run").exists()


def test_a_model_on_a_store_of_other_classes_is_refused_with_both_lists(run, other_store, grating_store, short):
    task = load_model(run[0] / "models" / "random" / "fold_0").task
    with pytest.raises(DataError, match=r"(?s)model, column 'stripes': across, down, up.*store, .*: up, x, y"):
        task.dataset(PreparedStore(other_store), short)
    with pytest.raises(DataError, match=r"(?s)model, column 'stripes': across, down, up.*store, .*: up, x, y"):
        usvs.predict([other_store], run[0])
    classifier = usvs.FrameClassifier.from_pretrained(run[0])
    with pytest.raises(DataError, match=r"(?s)model, column .*: across, down, up.*store, .*: up, x, y"):
        classifier.evaluate(usvs.data.FrameDataset(other_store, labels="stripes", stride=1))


def test_a_class_of_one_label_is_no_classification(tmp_path):
    store = write_store(tmp_path / "store", PATIENTS[:1], own_labels=dict.fromkeys(NAMES, "same"))
    with pytest.raises(DataError, match=r"label column 'stripes': expected at least two classes, got same"):
        classify_task(PreparedStore(store))


def test_datasets_and_features_have_the_labels(own_store, short):
    frames = usvs.data.FrameDataset(own_store, labels="stripes", stride=4)
    assert frames.classes == ("across", "down", "up") and len(frames) == 12 * 6 and set(frames.labels) == {0, 1, 2}
    assert frames.class_list.column == "stripes"
    assert usvs.data.FrameDataset(own_store, labels="stripes", classes=("up", "down", "across")).classes[0] == "up"
    with pytest.raises(ConfigError, match=r"a label column of the store \('stripes'\)"):
        usvs.data.FrameDataset(own_store, labels="strips")
    with pytest.raises(DataError, match=r"store, column 'stripes': across, down, up"):
        usvs.data.FrameDataset(own_store, labels="stripes", classes=("up", "down"))
    assert set(embed(own_store, SEResNeXt(short.model.video), stride=8)["label"].to_pylist()) == set(NAMES.values())


def test_curves_take_own_labels(own_store, short, tmp_path):
    settings = short.model_copy(update={"temporal_stride": 6, "folds": 2})
    results = run_curves(own_store, tmp_path / "out", settings, fractions=(1.0,), seeds=[0]).results
    assert results["classes"] == ["across", "down", "up"] and results["measured"]["probe"]["random"]["3"]


@pytest.mark.slow
def test_a_network_learns_labelled_pictures_and_predicts_others(tmp_path: Path, tiny_planes):
    """`usvs finetune classify` on a store of pictures alone, then `usvs predict` on a picture it has not seen."""
    archive, store = tmp_path / "archive", tmp_path / "store"
    labels = write_pictures(archive, patients=8, each=4)
    usvs.index_archive(archive, store, workers=1)
    usvs.prepare_store(store, profile=PrepareSettings(frame_pixels=48, codec="raw"), workers=1)
    result = finetune("classify", store, tmp_path / "run", tiny_planes)
    assert result.result_for("random").spread("f1").mean > 0.8
    new = tmp_path / "new"
    unseen = write_pictures(new, patients=1, each=4)
    found = usvs.predict([new / file for file in unseen], tmp_path / "run")
    assert [one.label for one in found] == list(unseen.values()) and set(labels.values()) == set(unseen.values())
    assert all(one.seconds is None for one in found)
