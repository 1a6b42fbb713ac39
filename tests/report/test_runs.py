"""Figures of stored runs and experiments: what is drawn of which files, and which are refused."""

import json

import numpy as np
import pytest

from usvs.archive.labels import STANDARD_PLANES
from usvs.errors import DataError
from usvs.report import experiments, runs
from usvs.report.experiments import save_curves_figure, save_reproduction_figures
from usvs.report.runs import save_gaze_figure, save_loss_curves, save_planes_figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, by the name of their file."""
    figures = {}

    def keep(figure, file):
        figures[file.name] = figure
        return file

    for module in (runs, experiments):
        monkeypatch.setattr(module, "save_figure", keep)
    return figures


def write_results(folder, **results):
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def scores(f1):
    confusion = np.random.default_rng(0).integers(0, 30, (14, 14)) + 300 * np.eye(14, dtype=int)
    values = [f1 - 0.04, f1, f1 + 0.04]
    return {"f1": {"mean": f1, "std": 0.04, "values": values}, "confusion": confusion.tolist()}


@pytest.fixture
def planes_run(tmp_path):
    inits = {"random": {"finetune": scores(0.5), "probe": scores(0.4)}, "joint": {"finetune": scores(0.7)}}
    return write_results(tmp_path, kind="planes", classes=STANDARD_PLANES, chance_f1=0.06, inits=inits)


def test_a_planes_run_has_a_confusion_matrix_for_each_init_and_protocol_and_one_bar_chart(planes_run, drawn):
    saved = save_planes_figures(planes_run)
    assert (
        [file.name for file in saved]
        == list(drawn)
        == [
            "confusion_random_finetune.png",
            "confusion_random_probe.png",
            "confusion_joint_finetune.png",
            "f1.png",
        ]
    )
    assert drawn["confusion_random_probe.png"].axes[0].get_title() == "random, linear probe: macro F1 40.0 ± 4.0 %"
    assert len(drawn["confusion_joint_finetune.png"].axes[0].get_xticklabels()) == 14
    bars = drawn["f1.png"].axes[0]
    assert [bar.get_height() for bar in bars.patches] == pytest.approx([50.0, 70.0, 40.0])
    assert [tick.get_text() for tick in bars.get_xticklabels()] == ["fine-tuned", "linear probe"]


def test_the_losses_of_a_run_are_drawn_from_its_records(tmp_path, drawn):
    line = {"step": 5, "order": 2.4, "order_chance": 2.48}
    lines = [line | {"split": split} for split in ("train", "validation")]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert save_loss_curves(tmp_path) == tmp_path / "plots" / "losses.png"
    assert [axes.get_title() for axes in drawn["losses.png"].axes] == ["order"]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "total": 1.0}\n')
    with pytest.raises(DataError, match=f"run '{tmp_path}': records: expected a quantity with a chance level"):
        save_loss_curves(tmp_path)


def test_a_gaze_run_shows_the_ground_truth_and_every_init(tmp_path, drawn):
    maps = {name: np.ones((3, 4, 4)) for name in ("frames", "truth", "predicted_random", "predicted_joint")}
    np.savez(tmp_path / "examples.npz", **maps)
    save_gaze_figure(tmp_path)
    titles = [axes.get_title() for axes in drawn["saliency.png"].axes]
    assert titles == ["frame", "ground truth", "random", "joint", *[""] * 8]
    with pytest.raises(DataError, match="expected stored examples"):
        save_gaze_figure(tmp_path / "nothing")


@pytest.fixture
def reproduction(tmp_path):
    """The stored results of the preset paper with two rows, and examples of one."""
    result = {"f1": 0.5, "confusion": np.eye(14, dtype=int).tolist()}
    measured = {"planes": {row: [result, result] for row in ("video", "joint")}, "gaze": {"joint": []}}
    (tmp_path / "run" / "examples").mkdir(parents=True)
    np.savez(
        tmp_path / "run" / "examples" / "joint_seed_4.npz",
        **{name: np.ones((2, 4, 4)) for name in ("frames", "truth", "predicted")},
    )
    settings = {"preset": "paper"}
    return write_results(
        tmp_path, kind="reproduce", settings=settings, seeds=[4, 5], classes=STANDARD_PLANES, measured=measured
    )


def test_figures_3_and_4_show_the_rows_that_were_run(reproduction, drawn):
    assert save_reproduction_figures(reproduction) == [reproduction / "figure_3.png", reproduction / "figure_4.png"]
    assert [axes.get_title() for axes in drawn["figure_3.png"].axes] == [
        "Video: macro F1 50.0 % over 2 seeds and folds",
        "Ours: macro F1 50.0 % over 2 seeds and folds",
    ]
    assert [axes.get_title() for axes in drawn["figure_4.png"].axes][:3] == ["frame", "ground truth", "joint"]


def test_evidence_has_a_bar_for_each_evaluation_and_init(tmp_path, drawn):
    inits = ("random", "shuffled", "joint")
    measured = {name: {init: [{"f1": 0.5}, {"f1": 0.7}] for init in inits} for name in ("probe", "probe, few labels")}
    settings = {"preset": "evidence", "planes": {"folds": 2}}
    write_results(tmp_path, kind="reproduce", settings=settings, seeds=[0], chance_f1=0.06, measured=measured)
    assert save_reproduction_figures(tmp_path) == [tmp_path / "evidence.png"]
    (axes,) = drawn["evidence.png"].axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([60.0] * 6)
    assert axes.get_title() == "one point for each seed and patient fold (1 x 2)"


def test_curves_have_a_panel_for_each_protocol(tmp_path, drawn):
    counts = {"1": [{"f1": 0.2}, {"f1": 0.4}], "3": [{"f1": 0.6}]}
    measured = {"finetune": {"random": counts}, "probe": {"random": counts}, "knn": {}}
    write_results(tmp_path, kind="curves", chance_f1=0.06, measured=measured)
    save_curves_figure(tmp_path)
    assert [axes.get_title() for axes in drawn["curves.png"].axes] == ["fine-tuned", "linear probe"]
    assert list(drawn["curves.png"].axes[0].get_lines()[0].get_ydata()) == pytest.approx([30.0, 60.0])
    write_results(tmp_path, kind="curves", chance_f1=0.06, measured={"finetune": {}})
    with pytest.raises(DataError, match="expected results to draw, got none"):
        save_curves_figure(tmp_path)


def test_results_of_another_kind_or_none_are_refused(planes_run, tmp_path):
    with pytest.raises(DataError, match="expected results of kind 'reproduce', got 'planes'"):
        save_reproduction_figures(planes_run)
    with pytest.raises(DataError, match="expected stored results"):
        save_planes_figures(tmp_path / "nothing")
