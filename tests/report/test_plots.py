import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from usvs.errors import DataError
from usvs.report.plots import (
    COLOURS,
    bar_figure,
    confusion_figure,
    curve_figure,
    draw_confusion,
    loss_figure,
    new_figure,
    saliency_figure,
    save_figure,
)

CHANCE = 0.07


def lines_of(axes):
    """Return the labelled lines of axes: label -> x and y."""
    labelled = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in labelled}


def pixels_of(figure, tmp_path):
    return matplotlib.image.imread(save_figure(figure, tmp_path / "new" / "figure.png"))[..., :3]


@pytest.mark.slow
def test_importing_and_drawing_leave_the_backend_and_the_settings_of_matplotlib_alone(tmp_path):
    program = (
        "import matplotlib; matplotlib.use('svg'); before = dict(matplotlib.rcParams);"
        "from usvs.report import experiments, plots, runs; from pathlib import Path; import sys;"
        "plots.save_figure(plots.bar_figure({'probe': {'random': [0.5]}}, 0.1, 'title'), Path(sys.argv[1]));"
        "assert dict(matplotlib.rcParams) == before; assert matplotlib.get_backend() == 'svg';"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "MPLBACKEND": ""}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "figure.png")], check=True, env=environment)


def test_a_png_has_the_size_of_the_figure_and_no_name_of_the_program(tmp_path):
    pixels = pixels_of(new_figure(2.0, 1.0), tmp_path)
    assert pixels.shape == (130, 260, 3) and (pixels == 1.0).all()
    assert b"Matplotlib" not in (tmp_path / "new" / "figure.png").read_bytes()


def test_confusion_is_in_percent_of_each_true_class_and_an_absent_class_is_empty():
    axes = Figure().subplots()
    draw_confusion(axes, np.array([[3, 1, 0], [0, 0, 0], [0, 1, 1]]), ["a", "b", "c"], "title")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "75", (1, 0): "25", (1, 2): "50", (2, 2): "50"}
    assert axes.images[0].get_array().mask[1].all()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "title")


def test_confusion_matrices_are_side_by_side(tmp_path):
    figure = confusion_figure({"one": np.eye(3), "other": np.ones((3, 3))}, ["a", "b", "c"])
    assert [axes.get_title() for axes in figure.axes] == ["one", "other"]
    assert [len(axes.texts) for axes in figure.axes] == [3, 9]
    assert (pixels_of(figure, tmp_path) < 0.9).any(axis=2).mean() > 0.05


def records(steps, **names):
    return [{"step": step, "split": split, **names} for step in steps for split in ("train", "validation")]


def test_each_quantity_with_a_chance_level_has_a_panel_with_both_splits_and_chance(tmp_path):
    figure = loss_figure(
        records([1, 8], order=2.1, order_chance=2.48, learning_rate=0.1) + records([9], pairs=0.6, pairs_chance=0.5)
    )
    assert [axes.get_title() for axes in figure.axes] == ["order", "pairs"]
    order, pairs = figure.axes
    assert lines_of(order) == {
        "training": ([1, 8], [2.1, 2.1]),
        "validation": ([1, 8], [2.1, 2.1]),
        "chance": ([1, 8], [2.48, 2.48]),
    }
    assert lines_of(pairs)["validation"] == ([9], [0.6])
    assert [text.get_text() for text in order.get_legend().get_texts()] == ["training", "chance", "validation"]
    assert order.get_xlabel() == "updates"
    assert (pixels_of(figure, tmp_path) < 0.9).any(axis=2).mean() > 0.005


def test_four_quantities_are_in_two_rows_and_the_other_panels_are_empty():
    names = {f"{name}{end}": 1.0 for name in "abcd" for end in ("", "_chance")}
    figure = loss_figure(records([1], **names))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d", "", ""]
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2


def test_records_without_a_chance_level_are_refused():
    with pytest.raises(DataError, match="expected a quantity with a chance level"):
        loss_figure(records([1], total=1.0))


def test_bars_are_means_with_every_value_as_a_point_and_a_line_at_chance(tmp_path):
    groups = {"probe": {"random": [0.2, 0.4], "joint": [0.8]}, "fine-tuned": {"joint": [0.5, 0.7, 0.9]}}
    figure = bar_figure(groups, CHANCE, "one point a fold")
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([30.0, 80.0, 70.0])
    colours = [bar.get_facecolor()[:3] for bar in axes.patches]
    assert colours == [to_rgb(COLOURS[init]) for init in ("random", "joint", "joint")]
    points = np.concatenate([points.get_offsets()[:, 1] for points in axes.collections])
    assert points.tolist() == pytest.approx([20.0, 40.0, 80.0, 50.0, 70.0, 90.0])
    assert list(axes.get_lines()[0].get_ydata()) == pytest.approx([7.0, 7.0])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["probe", "fine-tuned"]
    assert axes.get_ylabel() == "macro F1, %" and axes.get_title() == "one point a fold"
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["30.0", "random", "80.0", "joint", "70.0", "joint", "chance"]
    assert (pixels_of(figure, tmp_path) < 0.9).any(axis=2).mean() > 0.1


def test_a_saliency_figure_has_a_row_a_frame_and_a_column_a_map(tmp_path):
    random = np.random.default_rng(0)
    frames, maps = (
        random.random((2, 8, 8)),
        {"ground truth": random.random((2, 8, 8)), "joint": random.random((2, 8, 8))},
    )
    figure = saliency_figure(frames, maps)
    assert [axes.get_title() for axes in figure.axes] == ["frame", "ground truth", "joint", "", "", ""]
    assert [len(axes.images) for axes in figure.axes] == [1, 2, 2, 1, 2, 2]
    assert (figure.axes[5].images[1].get_array() == maps["joint"][1]).all()
    assert figure.axes[4].images[1].norm.vmin == 0.0
    assert (pixels_of(figure, tmp_path) < 0.9).any(axis=2).mean() > 0.3


def test_curves_are_means_against_labelled_patients_with_every_value_as_a_point(tmp_path):
    panels = {
        "fine-tuned": {"random": {1: [0.1, 0.2], 3: [0.4, 0.6]}, "joint": {1: [0.5, 0.5], 3: [0.7, 0.9]}},
        "linear probe": {"random": {1: [0.3], 3: [0.3]}},
    }
    figure = curve_figure(panels, CHANCE)
    assert [axes.get_title() for axes in figure.axes] == ["fine-tuned", "linear probe"]
    tuned, probe = figure.axes
    lines = lines_of(tuned)
    assert lines["random"] == ([1, 3], pytest.approx([15.0, 50.0]))
    assert lines["joint"] == ([1, 3], pytest.approx([50.0, 80.0]))
    assert lines["chance"][1] == pytest.approx([7.0, 7.0])
    assert sum(len(points.get_offsets()) for points in tuned.collections) == 8
    assert sum(len(points.get_offsets()) for points in probe.collections) == 2
    assert tuned.get_xscale() == "log" and tuned.get_ylabel() == "macro F1, %"
    assert [tick.get_text() for tick in tuned.get_xticklabels()] == ["1", "3"]
    assert [text.get_text() for text in tuned.get_legend().get_texts()] == ["random", "joint", "chance"]
    assert (pixels_of(figure, tmp_path) < 0.9).any(axis=2).mean() > 0.005
