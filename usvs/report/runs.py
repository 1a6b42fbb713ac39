"""Figures of one run, drawn from the files in its folder: of a pretraining, of classification and of saliency."""

from pathlib import Path

import numpy as np

from usvs.errors import DataError
from usvs.report.plots import bar_figure, confusion_figure, loss_figure, saliency_figure, save_figure
from usvs.report.stored_results import example_maps, read_examples, read_results
from usvs.training.metrics_log import read_metrics

PROTOCOL_TITLES = {"finetune": "fine-tuned", "probe": "linear probe", "knn": "nearest neighbours"}


def save_loss_curves(run: Path) -> Path:
    """Draw the losses and accuracies of a pretraining run that have a chance level.

    Returns:
        ``RUN/plots/losses.png``.

    Raises:
        DataError: where the run has no records, or none with a chance level.
    """
    try:
        figure = loss_figure(read_metrics(run))
    except DataError as error:
        raise DataError(f"run '{run}': {error}") from None
    return save_figure(figure, run / "plots" / "losses.png")


def save_planes_figures(run: Path) -> list[Path]:
    """Draw the results of a classification run: a confusion matrix for each init and protocol, and scores as bars.

    Returns:
        The files, all in ``RUN/plots``.

    Raises:
        DataError: where `run` has no results of that kind.
    """
    results = read_results(run, "planes", "classification")
    saved = []
    bars: dict[str, dict[str, list[float]]] = {}
    for init, protocols in results["inits"].items():
        for protocol, measured in protocols.items():
            name, f1 = PROTOCOL_TITLES[protocol], measured["f1"]
            title = f"{init}, {name}: macro F1 {100 * f1['mean']:.1f} ± {100 * f1['std']:.1f} %"
            figure = confusion_figure({title: np.array(measured["confusion"])}, results["classes"])
            saved.append(save_figure(figure, run / "plots" / f"confusion_{init}_{protocol}.png"))
            bars.setdefault(name, {})[init] = f1["values"]
    figure = bar_figure(bars, results["chance_f1"], "test patients, one point for each fold")
    return [*saved, save_figure(figure, run / "plots" / "f1.png")]


def save_gaze_figure(run: Path) -> Path:
    """Draw the stored examples of a saliency run (Fig. 4): frame, ground truth and the prediction of every init.

    Returns:
        ``RUN/plots/saliency.png``.

    Raises:
        DataError: where `run` has no examples.
    """
    examples = read_examples(run / "examples.npz")
    return save_figure(saliency_figure(examples["frames"], example_maps(examples)), run / "plots" / "saliency.png")
