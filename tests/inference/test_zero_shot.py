"""Zero-shot naming by voice: recordings and spoken names as classes, scores, tables and refusals."""

import csv

import numpy as np
import pytest
import soundfile

import usvs
from tests.support.commands import run_command
from tests.support.media_files import write_video
from usvs.data.frame_dataset import FrameDataset
from usvs.errors import ConfigError, DataError
from usvs.evaluation.zero_shot import top_k_accuracy
from usvs.inference.zero_shot import LEAST_REFERENCE_FRAMES, ZeroShotClassifier
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.utils.dependencies import missing_dependency


@pytest.fixture
def recordings(tmp_path):
    """A folder for each of three classes, with two recordings each."""
    for number, name in enumerate(("aorta", "heart", "lung")):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for take in (1, 2):
            noise = np.random.default_rng(10 * number + take).normal(0, 0.1 / (1 + number), 20_000)
            soundfile.write(tmp_path / "classes" / name / f"{take}.wav", noise, 16_000 + 8_000 * number)
    return tmp_path / "classes"


def test_classes_of_recordings(shared_run, spoken_store, recordings):
    classifier = ZeroShotClassifier(shared_run, recordings)
    assert classifier.classes == ("aorta", "heart", "lung") and classifier.prototypes_.shape[0] == 3
    frames = FrameDataset(spoken_store, labels=None, stride=4)
    assert not classifier.is_fitted and classifier.fit(frames) is classifier and classifier.is_fitted
    probabilities = classifier.predict_proba(frames)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert (classifier.predict(frames) == classifier.classes_[probabilities.argmax(axis=1)]).all()
    scores = classifier.scores(classifier.embed(frames))
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(classifier.embed(spoken_store, stride=4), classifier.embed(frames), atol=1e-6)
    pictures = PreparedStore(spoken_store).scan(0).frames(np.arange(3))
    assert classifier.predict_proba(list(pictures)).shape == (3, 3)


def test_frames_at_the_place_of_a_class_are_named_by_it(shared_run):
    """Embeddings as a run that has learnt would give them: at the classes' own, with noise."""
    classifier = ZeroShotClassifier(shared_run, ["heart", "lung", "liver"], voices=3)
    assert classifier.prototypes_.shape == (3, classifier.space.width)
    random, labels = np.random.default_rng(0), np.arange(90) % 3
    own = classifier.prototypes_ - classifier.prototypes_.mean(axis=0)
    unit = own / np.linalg.norm(own, axis=1, keepdims=True)
    frames = (unit[labels] + 0.1 * random.normal(size=(90, own.shape[1])) + 2.0).astype(np.float32)
    assert top_k_accuracy(classifier.fit_embeddings(frames).scores(frames), labels, 1) > 0.95


@pytest.mark.slow
def test_tables_are_those_of_other_predictions(shared_run, spoken_store, recordings, tmp_path, capsys, caplog):
    out = tmp_path / "out" / "p.csv"
    arguments = ("predict", "classify", "--model", shared_run, "--zero-shot", recordings)
    assert run_command(*arguments, spoken_store, "--stride", "5", "--out", out, "--timelines", tmp_path / "t") == 0
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 48 and set(rows[0]) == {
        *("file", "seconds", "class", "confidence", "doubtful", "known", "error", "p_aorta", "p_heart", "p_lung")
    }
    assert {row["class"] for row in rows} == {"aorta", "heart", "lung"}  # standardised: none is named always
    assert sum(float(rows[0][name]) for name in ("p_aorta", "p_heart", "p_lung")) == pytest.approx(1)
    assert len(list((tmp_path / "t").iterdir())) == 4
    assert out.stat().st_mode & 0o777 == 0o600

    write_video(tmp_path / "a.mp4", count=20)
    (tmp_path / "b.png").write_text("no picture")
    capsys.readouterr()
    assert run_command(*arguments, tmp_path / "a.mp4", tmp_path / "b.png", "--reference", spoken_store) == 3
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and "not predicted" in printed[3]
    caplog.clear()
    assert run_command(*arguments, tmp_path / "a.mp4") == 0
    assert f"expected at least {LEAST_REFERENCE_FRAMES} frames" in caplog.text


def test_known_labels_of_a_store_are_in_the_table(shared_run, grating_store):
    classifier = ZeroShotClassifier(shared_run, {"4CH": ["heart"], "femur": []}, voices=2)
    found = usvs.predict_by_voice(grating_store, classifier, stride=4)
    known = {row.known for row in found.predictions}
    assert known == {"4CH", "femur", None}  # a label that is none of the classes is not known


def test_what_cannot_be_a_classifier(shared_run, video_run, spoken_store, recordings, tmp_path, capsys):
    with pytest.raises(ConfigError, match="share no space"):
        ZeroShotClassifier(video_run, ["a", "b"])
    with pytest.raises(ConfigError, match="at least two classes"):
        ZeroShotClassifier(shared_run, ["heart"])
    with pytest.raises(ConfigError, match=f"expected at least {LEAST_REFERENCE_FRAMES} frames, got 3"):
        ZeroShotClassifier(shared_run, recordings).fit(np.zeros((3, 40, 40), np.uint8))
    with pytest.raises(ConfigError, match="expected names of classes beside a pretraining run"):
        usvs.predict_by_voice(spoken_store, shared_run)
    (recordings / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"expected recordings in '.*empty', got none"):
        ZeroShotClassifier(shared_run, recordings)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="expected a folder of recordings for each of two or more classes, got 0"):
        ZeroShotClassifier(shared_run, tmp_path / "nothing")
    (recordings / "empty" / "a.wav").write_text("none")
    with pytest.raises(DataError, match=r"a\.wav"):
        ZeroShotClassifier(shared_run, recordings)
    capsys.readouterr()
    assert run_command("predict", "classify", spoken_store, "--model", shared_run, "--reference", spoken_store) == 2
    assert "--reference: expected --zero-shot CLASSES with it" in capsys.readouterr().err


def test_without_espeak_ng_one_line_says_what_to_install(
    shared_run, spoken_store, recordings, tmp_path, capsys, monkeypatch
):
    from usvs.narration import voice

    def missing():
        raise missing_dependency(ModuleNotFoundError("none", name="espeakng_loader"))

    monkeypatch.setattr(voice, "espeak_paths", missing)
    (tmp_path / "classes.txt").write_text("4CH: four chambers\nfemur\n")
    arguments = ("predict", "classify", spoken_store, "--model", shared_run, "--out", tmp_path / "p.csv", "--zero-shot")
    capsys.readouterr()
    assert run_command(*arguments, tmp_path / "classes.txt") == 4
    assert "usvs: package 'espeakng-loader' is missing: pip install 'usvs[phantom]'" in capsys.readouterr().err
    assert run_command("search", spoken_store, shared_run, "--say", "heart") == 4
    assert run_command(*arguments, recordings) == 0  # recordings need no voice


def test_a_space_may_be_shared(shared_run, recordings):
    space = SharedSpace.load(shared_run)
    assert ZeroShotClassifier(space, recordings).space is space
