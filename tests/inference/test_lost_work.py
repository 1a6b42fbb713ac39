"""Inputs that are partly bad, names that are not UTF-8, and places that cannot be written to: no work is lost."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.commands import run_command
from usvs.archive.class_list import ClassList
from usvs.errors import ConfigError, ResourceError
from usvs.inference import prediction_files
from usvs.inference.embed import embed_to_file
from usvs.inference.predict import Prediction, PredictionTable, predict_frames
from usvs.inference.prediction_files import save_predictions
from usvs.models.se_resnext import SEResNeXt
from usvs.report.plots import new_figure, save_figure
from usvs.report.timeline import save_timelines
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.utils.atomic_files import replacing, write_durably

CLASSES = ClassList(("a", "b"))
NOT_UTF8 = os.fsdecode(b"scan\xff.png")


@pytest.fixture(scope="module")
def model(tiny_planes, tmp_path_factory):
    """A folder with an untrained model of planes."""
    task, folder = planes_task(), tmp_path_factory.mktemp("model")
    module = task.module(SEResNeXt(tiny_planes.model.video), None, tiny_planes)
    save_model(folder, TrainedModel(task, module, tiny_planes, 36))
    return folder


@pytest.fixture
def damaged_store(grating_store, tmp_path):
    """A copy of a store, one frame of whose second scan is damaged."""
    folder = Path(shutil.copytree(grating_store, tmp_path / "damaged"))
    frames = sorted(folder.glob("prepared/*/frames.bin"))[1]
    content = bytearray(frames.read_bytes())
    content[len(content) // 2] ^= 255
    frames.write_bytes(content)
    return folder, frames.parent.name


def picture(file: Path) -> Path:
    file.write_bytes(cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))[1].tobytes())
    return file


def test_a_bad_file_does_not_lose_the_embeddings_of_the_others(shared_run, tmp_path, caplog, capsys):
    good, out = picture(tmp_path / NOT_UTF8), tmp_path / "rows.parquet"
    (tmp_path / "bad.png").write_text("no picture")
    assert run_command("embed", good, tmp_path / "bad.png", good, shared_run, out) == 3
    assert pq.read_table(out)["scan"].to_pylist() == [str(good).replace("\udcff", "\\udcff")] * 2
    assert "embed: 1 of 3 files could not be read to the end: image '" in capsys.readouterr().err
    assert "embedding, skipped: image '" in caplog.text


def test_a_damaged_scan_does_not_lose_the_others(shared_run, model, damaged_store, tmp_path, capsys):
    store, damaged = damaged_store
    assert run_command("embed", store, shared_run, tmp_path / "rows.parquet", "--stride", "4") == 3
    embedded = set(pq.read_table(tmp_path / "rows.parquet")["scan"].to_pylist())
    found = predict_frames(store, model, stride=4)
    failed = [row for row in found.predictions if row.error]
    scans = {path.name for path in (store / "prepared").iterdir()}
    assert [row.file.name for row in failed] == [damaged] and "frame" in failed[0].error
    assert {path.name for path in found.of_files} | {damaged} == scans and embedded | {damaged} == scans


def test_what_no_prediction_can_be_made_of_is_refused_before_the_first(model, grating_store, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "archive.json").write_text("{}")
    read = []
    monkeypatch.setattr("usvs.inference.predict.file_batches", lambda file, *_: read.append(file) or iter(()))
    assert run_command("predict", "planes", picture(tmp_path / "a.png"), tmp_path / "broken", "--model", model) == 3
    assert not read


def test_names_that_are_not_utf8_are_written_with_escape_codes(tmp_path):
    rows = [Prediction(Path(NOT_UTF8), "a", 0.9, (0.9, 0.1)), Prediction(Path(NOT_UTF8), "", 0.0, (), error=NOT_UTF8)]
    table = PredictionTable(CLASSES, rows)
    for name in ("a.csv", "a.json", "a.parquet"):
        assert b"scan\\" in save_predictions(table, tmp_path / name).read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())[1]["error"] == "scan\\udcff.png"


def test_predictions_that_cannot_be_written_are_printed(model, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_files, "write_durably", full)
    file, out = picture(tmp_path / "a.png"), tmp_path / "out.csv"
    assert run_command("predict", "planes", file, "--model", model, "--out", out) == 4
    printed = capsys.readouterr()
    assert f"{file}\t" in printed.out.splitlines()[-1] and "frame" not in printed.out.splitlines()[-1]
    assert "could not be written: No space left on device" in printed.err


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    file = picture(tmp_path / "a.png")
    for option, name in (("--out", "new/out.csv"), ("--timelines", "new")):
        assert run_command("predict", "planes", file, "--model", model, option, tmp_path / name) == 4
        assert f"{option}: expected a place to write to, got '{tmp_path / name}': '{tmp_path}' is not writable" in (
            capsys.readouterr().err
        )
    monkeypatch.undo()
    assert run_command("predict", "planes", file, "--model", model, "--out", tmp_path / f"{'e' * 246}.csv") == 2
    assert "--out: expected a shorter name" in capsys.readouterr().err


def test_no_timeline_replaces_another(tmp_path):
    files = ("x/a.mp4", "y/a.mp4", "z/a_2.mp4", "a_2_2.mp4", "w/a.mp4")
    rows = [Prediction(Path(file), "a", 0.9, (0.9, 0.1), seconds) for file in files for seconds in (0.0, 1.0)]
    saved = save_timelines(PredictionTable(CLASSES, rows), tmp_path)
    assert len(set(saved)) == len(files) == len(list(tmp_path.iterdir()))


def test_a_picture_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    file = save_figure(new_figure(1, 1), tmp_path / "a.png")
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"a\.png' could not be written: No space left on device"):
        save_figure(new_figure(2, 2), tmp_path / "a.png")
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600


def test_two_processes_do_not_write_into_one_file(shared_run, spoken_store, tmp_path):
    out = tmp_path / "rows.parquet"
    with replacing(out) as file:
        file.write(b"of the first")
        with pytest.raises(ConfigError, match=r"rows.parquet' is being written by another usvs process"):
            embed_to_file([spoken_store], shared_run, out, stride=20)
    assert out.read_bytes() == b"of the first"
    assert embed_to_file([spoken_store], shared_run, out, stride=20) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_small_files_are_written_one_after_another(tmp_path):
    contents = [bytes([number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: write_durably(tmp_path / "a", content), contents * 5))
    assert (tmp_path / "a").read_bytes() in contents and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_while_writing_leaves_the_older_file(tmp_path):
    write_durably(tmp_path / "a", b"old")
    with pytest.raises(ResourceError), replacing(tmp_path / "a") as file:
        file.write(b"new")
        raise ResourceError("full")
    assert (tmp_path / "a").read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["a"]
