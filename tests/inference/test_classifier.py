"""`usvs.FrameClassifier` and `usvs.cross_validate`."""

import cv2
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression

import usvs
from usvs.config import override_settings
from usvs.data.frame_dataset import FrameDataset
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import make_folds
from usvs.inference.cross_validate import cross_validate
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.cross_validation import measure_fold
from usvs.tasks.finetune import finetune
from usvs.tasks.model_files import load_model


@pytest.fixture(scope="module")
def overrides(tiny_planes):
    return {
        "model": tiny_planes.model,
        "augment": tiny_planes.augment,
        "optimiser": tiny_planes.optimiser,
        "run": tiny_planes.run,
    }


@pytest.fixture(scope="module")
def frames(grating_store):
    return FrameDataset(grating_store, labels="planes", stride=1)


@pytest.fixture(scope="module")
def halves(frames):
    fold = make_folds(frames.patients.tolist(), 2, seed=0)[0]
    return frames.subset(np.isin(frames.patients, fold.train)), frames.subset(np.isin(frames.patients, fold.test)), fold


@pytest.fixture(scope="module")
def trained(halves, overrides):
    return usvs.FrameClassifier(**overrides).fit(halves[0])


def test_it_learns_and_scores_on_other_patients(trained, halves):
    _, test, _ = halves
    assert trained.classes_.tolist() == list(planes_task().classes)
    probabilities = trained.predict_proba(test)
    assert probabilities.shape == (len(test), 14)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert trained.score(test) > 0.9
    truth = np.array(test.classes)[test.labels]
    assert np.mean(trained.predict(test) == truth) == pytest.approx(trained.score(test))
    assert trained.score(test.read(), truth) == pytest.approx(trained.score(test))
    assert trained.evaluate(test).confusion.sum() == len(test)


@pytest.mark.slow
def test_it_trains_as_the_command_line_does(trained, grating_store, halves, tiny_planes):
    """One training loop: the same rows give the same weights, bit for bit."""
    store, task = PreparedStore(grating_store), planes_task()
    table = task.dataset(store, tiny_planes)
    result = measure_fold(task, store, table, halves[2], tiny_planes, "random")
    ours, theirs = trained.models_[0].module.state_dict(), result.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_saved_and_loaded_it_predicts_the_same(trained, halves, tmp_path):
    trained.save(tmp_path / "model")
    loaded = usvs.FrameClassifier.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(halves[1]), trained.predict_proba(halves[1]))
    assert loaded.classes_.tolist() == trained.classes_.tolist()
    assert load_model(tmp_path / "model").prepared_pixels == 36


def test_images_may_be_arrays_tensors_or_files(trained, halves, tmp_path):
    pixels = halves[1].read(np.arange(4))
    expected = trained.predict_proba(halves[1].subset(np.arange(4)))
    np.testing.assert_allclose(trained.predict_proba(pixels), expected, atol=1e-6)
    np.testing.assert_allclose(trained.predict_proba(torch.from_numpy(pixels)[:, None]), expected, atol=1e-6)
    np.testing.assert_allclose(trained.predict_proba(list(pixels)), expected, atol=1e-6)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[0])
    for files in (tmp_path / "a.png", str(tmp_path / "a.png"), [tmp_path / "a.png"]):
        assert trained.predict(files).shape == (1,)
    with pytest.raises(DataError, match="there is no such file"):
        trained.predict(tmp_path / "none.png")


def test_arrays_with_own_labels(halves, overrides):
    train, test, _ = halves
    rows = np.arange(0, len(train), 2)
    names = np.array(["up", "left", "right"])[np.searchsorted([1, 3, 9], train.labels[rows])]
    named = usvs.FrameClassifier(**overrides).fit(train.read(rows), names, patients=train.patients[rows])
    assert named.classes_.tolist() == ["left", "right", "up"]
    assert set(named.predict(test.read(np.arange(3)))) <= set(names)
    numbered = usvs.FrameClassifier(**override_epochs(overrides)).fit(train.read(rows), train.labels[rows] // 4)
    assert numbered.classes_.tolist() == [0, 1, 2] and numbered.predict(test.read(np.arange(2))).dtype.kind == "i"
    with pytest.raises(ConfigError, match="expected labels"):
        usvs.FrameClassifier().fit(train.read(rows))
    with pytest.raises(ConfigError, match="not trained yet"):
        usvs.FrameClassifier().predict(train.read(rows))


def override_epochs(overrides, epochs=1):
    return {**overrides, "optimiser": override_settings(overrides["optimiser"], epochs=epochs)}


def test_the_order_of_given_classes_is_kept(halves, overrides):
    train, _, _ = halves
    planes = planes_task().classes
    classes = [planes[9], planes[1], planes[3]]
    classifier = usvs.FrameClassifier(classes=classes, **overrides).fit(train)
    assert classifier.classes_.tolist() == classes and classifier.score(train) > 0.9
    with pytest.raises(ConfigError, match="labels: expected one of"):
        usvs.FrameClassifier(classes=classes[:2], **overrides).fit(train)


def test_it_follows_the_conventions_of_scikit_learn(overrides):
    classifier = usvs.FrameClassifier("random", profile="quick", classes=["a", "b"], **overrides)
    copy = clone(classifier)
    assert copy is not classifier and copy.get_params() == classifier.get_params()
    assert copy.set_params(encoder="RUN", temporal_stride=2).get_params()["temporal_stride"] == 2
    assert classifier.get_params()["encoder"] == "random" and "temporal_stride" not in classifier.get_params()
    assert is_classifier(classifier) and "encoder='random'" in repr(classifier)
    with pytest.raises(ConfigError, match=r"unknown setting 'optimiser\.epoch'"):
        usvs.FrameClassifier(**{"optimiser.epoch": 3}).fit(np.zeros((2, 36, 36), np.uint8), [0, 1])


def test_the_saliency_model_follows_them_too():
    model = usvs.SaliencyModel("random", head_width=8)
    copy = clone(model)
    assert copy is not model and copy.get_params() == model.get_params() == {**copy.get_params(), "head_width": 8}
    assert copy.set_params(encoder="RUN", head_width=4).get_params()["head_width"] == 4 and copy.encoder == "RUN"
    assert model.get_params()["head_width"] == 8 and "encoder='random'" in repr(model)
    with pytest.raises(ConfigError, match="this SaliencyModel is not trained yet"):
        model.save("none")


def test_cross_validation_never_splits_a_patient(frames, overrides):
    some = frames.subset(np.arange(0, len(frames), 4))
    found = cross_validate(usvs.FrameClassifier(**override_epochs(overrides)), some, groups=some.patients, cv=3)
    assert set(found.scores) == {"precision", "recall", "f1", "accuracy"}
    assert len(found["f1"].values) == 3 and found["f1"].mean == pytest.approx(np.mean(found["f1"].values))
    assert sorted(group for fold in found.folds for group in fold.test) == sorted(set(some.patients.tolist()))
    assert all(not set(fold.train) & set(fold.test) for fold in found.folds)
    assert "mean ± sample standard deviation over 3 folds" in str(found)


def test_cross_validation_takes_other_estimators(frames):
    features = frames.read()[:, ::4, ::4].reshape(len(frames), -1).astype(np.float32)
    found = cross_validate(LogisticRegression(max_iter=50), features, frames.labels, groups=frames.patients, cv=2)
    assert len(found["score"].values) == 2
    with pytest.raises(ConfigError, match="expected labels and groups"):
        cross_validate(LogisticRegression(), features)
    with pytest.raises(ConfigError, match="groups: expected one per frame"):
        cross_validate(LogisticRegression(), features, frames.labels, groups=frames.patients[:3])


@pytest.mark.slow
def test_models_of_a_run_are_those_of_its_best_init(grating_store, tmp_path, tiny_planes, overrides, caplog):
    settings = tiny_planes.model_copy(update={"folds": 2, "temporal_stride": 4})
    finetune("planes", grating_store, tmp_path / "run", settings, protocols=["finetune"])
    loaded = usvs.FrameClassifier.from_pretrained(tmp_path / "run")
    assert len(loaded.models_) == 2
    with pytest.raises(ConfigError, match="expected one of gaze saliency, got task 'planes'"):
        usvs.SaliencyModel.from_pretrained(tmp_path / "run")


def test_saliency_models_train_save_load_and_predict(gaze_store, tmp_path, overrides):
    model = usvs.SaliencyModel(**override_epochs(overrides), temporal_stride=2, head_width=8).fit(gaze_store)
    images = np.random.default_rng(0).integers(0, 255, (3, 36, 36), np.uint8)
    densities = model.predict(images)
    assert densities.shape == (3, 32, 32)
    np.testing.assert_allclose(densities.sum(axis=(1, 2)), 1, rtol=1e-4)
    model.save(tmp_path / "gaze")
    loaded = usvs.SaliencyModel.from_pretrained(tmp_path / "gaze")
    np.testing.assert_array_equal(loaded.predict(images), densities)
    assert loaded.models_[0].module.encoder.stride == 8
    with pytest.raises(ConfigError, match="expected one of a classification, got task 'gaze'"):
        usvs.FrameClassifier.from_pretrained(tmp_path / "gaze")
