import json
from collections import defaultdict

import pytest

from tests.support.experiment_stubs import stub_pretraining
from usvs.errors import ConfigError, DataError
from usvs.experiments.video_labels import read_video_labels
from usvs.experiments.video_probe import PROBE_TITLES, VideoProbeSettings, probe_videos, video_folds
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings


@pytest.fixture(scope="module")
def settings(tiny_planes):
    evaluation = tiny_planes.model_copy(update={"temporal_stride": 6})
    pretrain = PretrainSettings(profile="quick", model=tiny_planes.model)
    return VideoProbeSettings(pretrain=pretrain, evaluation=evaluation)


@pytest.fixture
def pretrained(monkeypatch, settings):
    """What is asked of pretraining, which is a stand-in: run folder, settings, patients."""
    return stub_pretraining(monkeypatch, settings.evaluation.model.video).pretrained


@pytest.fixture
def labels_of(grating_store, tmp_path):
    """Reads labels of the twelve videos 0.mp4 to 11.mp4, two of each patient, from (class, source) pairs."""

    def read(pairs, classes="ab"):
        lines = [f"{number}.mp4,{label},{source}" for number, (label, source) in enumerate(pairs)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label,source_id", *lines]) + "\n")
        return read_video_labels(grating_store, tmp_path / "labels.csv", list(classes))

    return read


def test_sources_are_on_one_side_of_a_fold_and_pretraining_sees_the_training_side_only(
    grating_store, tmp_path, settings, pretrained, labels_of
):
    labels = labels_of([("aabb"[number // 2 % 4], number // 2) for number in range(12)])  # each patient is a source
    result = probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=3)
    measured = result.results["measured"]
    assert {len(measured[init]) for init in PROBE_TITLES} == {6}
    assert len(pretrained) == 6 and len({chosen.run.seed for _, chosen, _ in pretrained}) == 6
    for _, chosen, _ in pretrained:
        assert chosen.objective.correspondence_weight == chosen.objective.contrastive_weight == 0
    store = PreparedStore(grating_store)
    for repeat in range(3):
        folds = video_folds(labels, settings.folds, repeat)
        assert sorted(folds[0].test + folds[1].test) == [str(number) for number in range(6)]
        for fold, (_, _, patients) in zip(folds, pretrained[2 * repeat : 2 * repeat + 2], strict=True):
            assert not set(fold.train) & set(fold.test)
            assert set(patients) == {store.scan(scan).patient_key for scan in labels.of_sources(fold.train)}
    assert len({video_folds(labels, 2, repeat)[0].test for repeat in range(8)}) > 1
    text = str(result)
    assert "3 repeats x 2 folds by source" in text and "frame order - random, videos" in text
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["videos"] == {"a": 8, "b": 4} and stored["measured"] == measured


def test_every_class_has_sources_in_every_fold(labels_of):
    labels = labels_of([("ab"[number % 2], number) for number in range(12)])
    for fold in video_folds(labels, 3, 0):
        classes = defaultdict(int)
        for scan in labels.of_sources(fold.test):
            classes[labels.label[scan]] += 1
        assert classes == {0: 2, 1: 2}


def test_a_second_call_measures_nothing_and_other_labels_are_refused(
    grating_store, tmp_path, settings, pretrained, labels_of
):
    pairs = [("aabb"[number // 2 % 4], number // 2) for number in range(12)]
    first = probe_videos(grating_store, tmp_path / "out", labels_of(pairs), settings, repeats=1)
    count = len(pretrained)
    again = probe_videos(grating_store, tmp_path / "out", labels_of(pairs), settings, repeats=1)
    assert len(pretrained) == count and again.results["measured"] == first.results["measured"]
    exchanged = [("abaaba"[number // 2], number // 2) for number in range(12)]  # as many videos of each class
    with pytest.raises(ConfigError, match="labels_sha256: expected "):
        probe_videos(grating_store, tmp_path / "out", labels_of(exchanged), settings, repeats=1)


def test_a_patient_in_training_and_test_is_refused(grating_store, tmp_path, settings, pretrained, labels_of):
    labels = labels_of([("ab"[number % 2], number) for number in range(12)])  # two sources of each patient
    with pytest.raises(DataError, match=r"pretraining and test share \d+ patients: 9a7"):
        probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=1)


def test_too_few_sources_are_refused(grating_store, tmp_path, settings, labels_of):
    labels = labels_of([("a", 1)] + [("b", number) for number in range(2, 13)])
    with pytest.raises(DataError, match="class 'a': expected at least 2 sources for 2 folds, got 1"):
        probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=1)
