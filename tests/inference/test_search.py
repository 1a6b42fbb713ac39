"""Search in the scans of a store: ranked moments, near ones merged, and an index that is never out of date."""

import json
import shutil

import cv2
import numpy as np
import pytest
import soundfile

import usvs
from tests.support.commands import run_command
from usvs.errors import ConfigError, DataError
from usvs.inference import scan_index, search
from usvs.inference.embedding_index import EmbeddingIndex, build_index
from usvs.inference.scan_index import ScanIndex
from usvs.inference.search import nearest_moments
from usvs.tasks.pretraining.shared_space import SharedSpace


@pytest.fixture
def run(shared_run, tmp_path):
    return shutil.copytree(shared_run, tmp_path / "run")


@pytest.fixture
def question(tmp_path):
    """Half a second of noise that is recorded."""
    file = tmp_path / "question here.wav"
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 12_000), 24_000)
    return file


def test_moments_are_the_best_frames_and_no_two_of_a_scan_are_near(run, spoken_store, tmp_path):
    space = SharedSpace.load(run)
    index = ScanIndex.open(spoken_store, run, space, 1)
    assert len(index) == 240 and index.scan.tolist() == [n for n in range(4) for _ in range(60)]
    frames = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    (tmp_path / "random").mkdir()
    build_index(tmp_path / "random", frames, {})
    index.index = EmbeddingIndex(tmp_path / "random")
    query = 2 * frames[130]
    rows, scores = nearest_moments(index, query, 9, 2.0)
    assert rows[0] == 130 and scores == sorted(scores, reverse=True)
    similarity = frames.astype(np.float16).astype(np.float32) @ query
    expected: list[int] = []
    for row in np.argsort(-similarity, kind="stable").tolist():
        near = [o for o in expected if o // 60 == row // 60 and abs(o - row) / 5 < 2.0 - 1e-9]
        if not near:
            expected.append(row)
    assert rows == expected[:9]
    every, _ = nearest_moments(index, query, 1000, 0.0)
    assert sorted(every) == list(range(240))
    for top in (1000, 20):
        many, _ = nearest_moments(index, query, top, 100.0)
        assert len(many) == 4  # one of each scan


@pytest.mark.slow
def test_by_a_recording_a_picture_and_a_text(run, spoken_store, question, tmp_path, caplog, capsys):
    cv2.imwrite(str(tmp_path / "q.png"), np.random.default_rng(0).integers(0, 255, (80, 80), np.uint8))
    found = usvs.search(spoken_store, run, speech=question, top=3)
    assert len(found.moments) == 3 and found.frames == 32  # every eighth of 60 frames, of 4 scans
    assert all(one.path is None and len(one.scan) == 12 for one in found.moments)  # the store has no private key
    assert len(usvs.search(spoken_store, run, frame=tmp_path / "q.png", top=3).moments) == 3
    said = usvs.search(spoken_store, run, say="four chamber view", voices=2, top=2)
    assert str(said).startswith("'four chamber view' in 2 voices: 2 moments of 32 frames\n1\t")
    capsys.readouterr()
    out = tmp_path / "pictures"
    assert run_command("search", spoken_store, run, "--speech", question, "--json", "--pictures", out) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (
        printed["query"] == f"audio '{question}'" and printed["moments"][0]["score"] >= printed["moments"][1]["score"]
    )
    assert (out / "search.png").stat().st_mode & 0o777 == 0o600 and out.stat().st_mode & 0o777 == 0o700
    assert cv2.imread(str(out / "search.png")).std() > 10


def test_the_index_is_made_once_and_again_when_run_stride_or_store_change(run, spoken_store, question, monkeypatch):
    made = []
    build = scan_index._build
    monkeypatch.setattr(scan_index, "_build", lambda *given: (made.append(1), build(*given)))
    usvs.search(spoken_store, run, speech=question)
    usvs.search(spoken_store, run, speech=question)
    assert len(made) == 1
    usvs.search(spoken_store, run, speech=question, stride=4)
    assert len(made) == 2
    monkeypatch.setattr(scan_index, "store_sha256", lambda store: "another")
    usvs.search(spoken_store, run, speech=question)
    assert len(made) == 3
    folders = [one for one in (run / "search").iterdir() if one.is_dir()]
    assert len(folders) == 2 and {one.stat().st_mode & 0o777 for one in folders} == {0o700}
    assert {file.stat().st_mode & 0o777 for one in folders for file in one.iterdir()} == {0o600}


def test_a_damaged_index_is_made_again(run, spoken_store, question):
    expected = usvs.search(spoken_store, run, speech=question).moments
    folder = next(one for one in (run / "search").iterdir() if one.is_dir())
    (folder / "index.json").write_text("{")
    assert usvs.search(spoken_store, run, speech=question).moments == expected


@pytest.mark.slow
def test_the_owner_sees_paths(run, tiny_store, question):
    found = usvs.search(tiny_store, run, speech=question, top=2)
    assert all(one.path.startswith("patient_") and one.path.endswith(".mp4") for one in found.moments)
    text = "".join(file.read_text("latin-1") for file in (run / "search").rglob("*") if file.is_file())
    assert "patient_" not in text  # nothing of the archive in the run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected one of say, speech and frame, got none"),
        ({"say": "a", "frame": "b"}, "got say and frame"),
        ({"say": "a", "top": 0}, "expected top >= 1"),
        ({"say": "a", "merge_seconds": float("nan")}, "expected top >= 1"),
    ],
)
def test_a_faulty_query_is_refused_before_anything_is_read(given, message):
    with pytest.raises(ConfigError, match=message):
        search.search("nowhere", "nowhere", **given)


def test_files_that_cannot_be_a_query(run, spoken_store, tmp_path, capsys):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(24_000), 24_000)
    soundfile.write(tmp_path / "long.wav", 0.1 * np.ones(8_000 * 61), 8_000)
    for name, message in {
        "text.wav": "text.wav",
        "none.wav": "expected an audio file, got no file",
        ".": "expected an audio file, got a folder",
        "silent.wav": "expected speech, got silence",
        "long.wav": "expected a query of at most 60 s, got 61 s",
    }.items():
        with pytest.raises(DataError, match=message):
            usvs.search(spoken_store, run, speech=tmp_path / name)
    with pytest.raises(DataError):
        usvs.search(spoken_store, run, frame=tmp_path / "text.wav")
    with pytest.raises(DataError, match="expected a prepared store"):
        usvs.search(tmp_path, run, say="heart", voices=1)
    capsys.readouterr()
    assert run_command("search", spoken_store, run, "--say", "x", "--voice", "nobody") == 2
    assert "expected ACCENT+SPEAKER" in capsys.readouterr().err
    assert run_command("search", spoken_store, run) == 2
    assert "one of the arguments --say --speech --frame is required" in capsys.readouterr().err
