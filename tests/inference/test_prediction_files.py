"""Predictions of any input as CSV, JSON and Parquet, and as timelines."""

import csv
import json

import cv2
import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import usvs
from tests.support.dicom_files import write_dicom
from tests.support.labelled_stores import PATIENTS, write_store
from tests.support.media_files import write_video
from usvs.archive.class_list import ClassList
from usvs.cli import main
from usvs.errors import ConfigError, DataError
from usvs.inference.predict import Prediction, PredictionTable, predict_frames
from usvs.inference.prediction_files import prediction_table, save_predictions
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.report.plots import confusion_figure, save_figure
from usvs.report.timeline import save_timelines, timeline_figure
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import classify_task
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.model_files import TrainedModel, save_model

NAMES = {1: "up, or so", 3: "across", 9: "down"}


@pytest.fixture(scope="module")
def own(tmp_path_factory, tiny_planes):
    """A store with labels of its own, and an untrained model of its classes."""
    folder = tmp_path_factory.mktemp("own")
    store = write_store(folder / "store", PATIENTS[:2], own_labels=NAMES, unlabelled=[1])
    task = classify_task(PreparedStore(store))
    torch.manual_seed(1)
    module = task.module(SEResNeXt(tiny_planes.model.video), None, tiny_planes).eval()
    save_model(folder / "model", TrainedModel(task, module, tiny_planes, 36))
    return store, folder / "model"


@pytest.fixture
def media(tmp_path):
    """A picture, a video and a DICOM file of it, and a file that is none."""
    pictures = [np.random.default_rng(number).integers(30, 220, (48, 64)) for number in range(20)]
    cv2.imwrite(str(tmp_path / "a.png"), pictures[0].astype(np.uint8))
    write_video(tmp_path / "b.mp4", pictures=pictures)
    write_dicom(tmp_path / "c.dcm", np.stack(pictures).astype(np.uint8))
    (tmp_path / "d.mp4").write_bytes(b"no video")
    return [tmp_path / name for name in ("a.png", "b.mp4", "c.dcm", "d.mp4")]


def test_every_format_holds_the_same_rows(own, media, tmp_path):
    found = predict_frames(media, own[1], stride=8)
    assert [len(rows) for rows in found.of_files.values()] == [1, 3, 3]
    rows = prediction_table(found).to_pylist()
    times = (0, 0.4, 0.8, 0, 0.32, 0.64)  # 20 frames a second; a DICOM file that does not say has 25
    assert [row["seconds"] for row in rows] == [None, *(pytest.approx(at) for at in times), None]
    names = ["p_across", "p_down", "p_up, or so"]
    for row in rows[:-1]:
        assert sum(row[name] for name in names) == pytest.approx(1)
        assert row["confidence"] == max(row[name] for name in names) == row[f"p_{row['class']}"]
        assert row["doubtful"] == (row["confidence"] < 0.5) and row["known"] is None and row["error"] is None
    assert rows[-1]["class"] is None and rows[-1][names[0]] is None and "b.mp4" not in rows[-1]["error"]
    for suffix in ("csv", "json", "parquet"):
        save_predictions(found, tmp_path / "out" / f"p.{suffix}")
    assert json.loads((tmp_path / "out" / "p.json").read_text()) == rows
    assert pq.read_table(tmp_path / "out" / "p.parquet").to_pylist() == rows
    with (tmp_path / "out" / "p.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["file"] for row in read] == [row["file"] for row in rows] and list(read[0]) == list(rows[0])
    assert [float(row[names[2]]) for row in read[:-1]] == [row[names[2]] for row in rows[:-1]]
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.csv, \.json, \.parquet, got 'p.xlsx'"):
        save_predictions(found, "p.xlsx")


def test_timelines_of_files_of_one_name_say_which_is_which_and_replace_none(tmp_path):
    names = ("a/visit/clip.mp4", "b/visit/clip.avi", "clip_2.mp4", "only.mp4", "x/clip.mp4", "clip.mp4", "clip.mkv")
    files = [tmp_path / name for name in names] + [tmp_path / "clip.mp4"]  # one was given twice
    rows = [Prediction(file, "left", 0.9, (0.9, 0.1), 0.1 * at) for file in files for at in range(2)]
    saved = save_timelines(PredictionTable(ClassList(("left", "right")), rows), tmp_path / "out")
    expected = ["a_visit_clip", "b_visit_clip", "clip_2", "only", "x_clip"]
    assert [path.stem for path in saved][:5] == expected
    assert len({path.name.lower() for path in saved}) == len(saved) == 7 and all(path.is_file() for path in saved)


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_below_one_is_refused_by_each_function(own, media, tmp_path, stride):
    functions = [
        lambda: predict_frames(media[:2], own[1], stride=stride),
        lambda: predict_frames(own[0], own[1], stride=stride),
        lambda: usvs.embed(media[1], SEResNeXt(EncoderSettings(layers=(1, 1, 1, 1))), stride=stride),
        lambda: usvs.embed(own[0], SEResNeXt(EncoderSettings(layers=(1, 1, 1, 1))), stride=stride),
    ]
    for function in functions:
        with pytest.raises(ConfigError, match=f"stride: expected a whole number of at least 1, got {stride}"):
            function()


def test_a_store_gives_its_scans_with_their_labels(own):
    store, model = own
    found = predict_frames(store, model, stride=8)
    opened = PreparedStore(store)
    assert [str(file) for file in found.of_files] == list(opened.scans)
    assert [row.known for row in found.of_files[next(iter(found.of_files))]] == ["up, or so", "across", "down"]
    assert {row.known for row in list(found.of_files.values())[1]} == {None}
    classifier = usvs.FrameClassifier.from_pretrained(model)
    expected = classifier.predict_proba(usvs.data.FrameDataset(store, labels=None, stride=8))[:3]
    np.testing.assert_allclose([row.probabilities for row in found.predictions[:3]], expected, atol=1e-6)


def test_a_store_with_other_label_columns_only_is_refused_with_both_lists(own, tmp_path, tiny_planes):
    """Its column has another name, so that the frames' labels alone would not show it."""
    task = planes_task()
    module = task.module(SEResNeXt(tiny_planes.model.video), None, tiny_planes).eval()
    save_model(tmp_path / "planes", TrainedModel(task, module, tiny_planes, 36))
    with pytest.raises(DataError, match=r"(?s)model, column 'plane': 3VT, .*store, column 'stripes': across, down, up"):
        predict_frames(own[0], tmp_path / "planes")


@pytest.mark.slow
def test_the_command_writes_a_table_and_timelines_and_one_line_for_each_file(own, media, tmp_path, capsys):
    command = ["predict", "classify", *map(str, media[:3]), str(own[0]), "--model", str(own[1])]
    main([*command, "--out", str(tmp_path / "p.csv"), "--timelines", str(tmp_path / "pictures")])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [*map(str, media[:3]), *PreparedStore(own[0]).scans]
    assert lines[1][3] == "3 frames" and lines[0][3] == "1 frame" and 1 / 3 < float(lines[1][2]) < 1
    assert sum(1 for _ in (tmp_path / "p.csv").open()) == 1 + 1 + 3 + 3 + 4 * 3
    pictures = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert pictures == {"b.png", "c.png", *(f"{scan}.png" for scan in PreparedStore(own[0]).scans)}
    with pytest.raises(SystemExit) as left:
        main([*command, "--out", str(tmp_path / "p.txt")])
    assert left.value.code == 2 and not (tmp_path / "p.txt").exists()


def test_a_timeline_shows_classes_in_their_colours(tmp_path):
    classes = ClassList(("a", "b"), colours=("#ff0000", "#0000ff"))
    rows = [Prediction("x/v.mp4", "ab"[n > 5], 0.9, (0.9, 0.1) if n <= 5 else (0.1, 0.9), 0.1 * n) for n in range(20)]
    rows = [row._replace(file=tmp_path / "x" / "v.mp4") for row in rows]
    other = [row._replace(file=tmp_path / "y" / "v.mp4", known="a") for row in rows[:1]]
    saved = save_timelines(PredictionTable(classes, rows + other), tmp_path / "out")
    assert [file.name for file in saved] == ["x_v.png", "y_v.png"]
    pixels = (matplotlib.image.imread(saved[0])[..., :3] * 255).round().astype(int)
    red, blue = ((pixels == colour).all(axis=2).sum() for colour in ([255, 0, 0], [0, 0, 255]))
    assert red > 5_000 and 1.5 < blue / red < 4  # of 20 frames 6 are a, and a tenth of each of the others
    labels = [text.get_text() for text in timeline_figure("t", [0.0], [[1.0, 0.0]], classes).legends[0].get_texts()]
    assert labels == ["a"]


def test_names_of_classes_and_files_are_no_formulas(tmp_path):
    names = ("$\\frac", "a$b$", "x" * 150, "\x1b[31m")
    rows = [Prediction(tmp_path / "$\\bad$.mp4", names[0], 0.7, (0.7, 0.1, 0.1, 0.1), 0.0)]
    assert save_timelines(PredictionTable(ClassList(names), rows), tmp_path)[0].exists()
    save_figure(confusion_figure({"t": np.eye(4)}, names), tmp_path / "confusion.png")
