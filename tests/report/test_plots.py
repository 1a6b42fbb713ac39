import json

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from usvs.archive.plane_labels import PLANES
from usvs.errors import DataError
from usvs.report.plots import (
    draw_confusion,
    save_bars,
    save_evidence_picture,
    save_frame_grid,
    save_loss_curves,
    save_planes_pictures,
)


def reading(f1):
    confusion = np.random.default_rng(0).integers(0, 30, (14, 14)) + 300 * np.eye(14, dtype=int)
    values = [f1 - 0.04, f1, f1 + 0.04]
    return {"f1": {"mean": f1, "std": 0.04, "values": values}, "confusion": confusion.tolist()}


@pytest.fixture
def planes_run(tmp_path):
    inits = {"random": {"finetune": reading(0.5), "probe": reading(0.4)}, "joint": {"finetune": reading(0.7)}}
    results = {"kind": "planes", "classes": PLANES, "chance_f1": 0.06, "inits": inits}
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_a_planes_run_gets_a_confusion_matrix_per_init_and_reading_and_one_bar_chart(planes_run):
    saved = save_planes_pictures(planes_run)
    assert {file.name for file in saved} == {
        "confusion_random_finetune.png",
        "confusion_random_probe.png",
        "confusion_joint_finetune.png",
        "f1.png",
    }
    for file in saved:
        assert matplotlib.image.imread(file).std() > 0.02


def test_confusion_is_in_percent_of_each_true_class_and_an_absent_class_is_blank():
    axes = Figure().subplots()
    draw_confusion(axes, np.array([[3, 1, 0], [0, 0, 0], [0, 1, 1]]), ["a", "b", "c"], "title")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "75", (1, 0): "25", (1, 2): "50", (2, 2): "50"}
    assert axes.images[0].get_array().mask[1].all()


def test_loss_curves_show_both_splits_and_chance(tmp_path):
    lines = [
        {
            "step": s,
            "split": split,
            "order": 2.5 - 0.01 * s,
            "order_chance": 2.4849,
            "learning_rate": 0.1,
            "order_accuracy": 0.1,
        }
        for s in range(1, 50, 7)
        for split in ("train", "held_out")
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert matplotlib.image.imread(save_loss_curves(tmp_path)).std() > 0.02


def test_records_without_chance_lines_are_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "total": 1.0}\n')
    with pytest.raises(DataError, match="no record has a quantity with a chance line"):
        save_loss_curves(tmp_path)


def test_evidence_is_drawn_from_its_results(tmp_path):
    random = np.random.default_rng(0)
    readings = {
        name: {
            init: [{"f1": float(f1)} for f1 in random.uniform(0.4, 0.6, 9)] for init in ("random", "shuffled", "joint")
        }
        for name in ("probe", "fine-tuned, few labels")
    }
    results = {"kind": "evidence", "seeds": [0, 1, 2], "folds": 3, "chance_f1": 0.06, "readings": readings}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert save_evidence_picture(tmp_path) == tmp_path / "evidence.png"


def test_results_of_another_kind_or_none_are_refused(planes_run, tmp_path):
    with pytest.raises(DataError, match="expected results of kind 'evidence', got 'planes'"):
        save_evidence_picture(planes_run)
    with pytest.raises(DataError, match="expected stored results"):
        save_planes_pictures(tmp_path / "nothing")


def test_one_value_and_one_bar_can_be_drawn(tmp_path):
    save_bars({"probe": {"random": [0.5]}}, 0.07, "title", tmp_path / "bars.png")
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16), dtype=np.uint8)
    save_frame_grid(frames, [str(n) for n in range(5)], tmp_path / "grid.png", columns=3)
    assert matplotlib.image.imread(tmp_path / "grid.png").std() > 0.02
