"""Test scans over time: what the model of the fold that a scan was not trained in predicts of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.inference.frame_batches import KnownLabels, scan_batches
from usvs.inference.models import evaluation_inputs, predict_models
from usvs.report.elements import Content, note
from usvs.report.finetuned_results import FinetunedRun
from usvs.report.pictures import overlay
from usvs.report.scan_labels import ScanLabels, calm_colours, labels_of_classes, open_scan_labels
from usvs.report.scan_timeline import Predicted, film_seconds, timeline, timeline_legend
from usvs.report.shown_scans import pictured_scans
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.comparison import MODELS
from usvs.tasks.model_files import TrainedModel, load_model

SCANS = 3


def finetuned_timelines(run: Path, results: FinetunedRun, store: Path | None, names: bool) -> Iterator[Content]:
    """Yield timelines of a few test scans, at most one of a fold.

    Args:
        run: folder with the models.
        results: of the run.
        store: that it was trained on; None: only a note is shown.
        names: whether scans have the paths of their files beside their keys.

    Raises:
        DataError: where the store is another one, or a model is missing or damaged.
    """
    if store is None:
        yield note("'usvs report RUN --store STORE' adds what the model predicts along a few test scans.")
        return
    opened = PreparedStore(store)
    if (expected := results.plan.get("store")) != opened.store_id:
        raise DataError(f"store '{store}': expected the one of this run ({expected}), got {opened.store_id}")
    best = results.best
    if best is None or not (run / MODELS / best).is_dir():
        yield note("There is no fine-tuned model yet.")
        return
    chosen = _test_scans(opened, results.folds)
    if not chosen:
        yield note("No test scan with a sector is in the store.")
        return
    known = Catalogue.load(store).paths if names else {}
    yield (
        f"{len(chosen)} test scans, one of a fold, each predicted from '{best}' by the model of the fold that was not"
        " trained on its patient."
    )
    first = load_model(run / MODELS / best / f"fold_{chosen[0][1]}")
    labels = _labels(opened, first)
    yield timeline_legend(opened, (number for number, _ in chosen), labels)
    for number, fold in chosen:
        model = load_model(run / MODELS / best / f"fold_{fold}")
        scan = opened.scan(number)
        file = f"{known[scan.scan_key]}, " if names else ""
        title = f"{file}scan {scan.scan_key}, patient {scan.patient_key or 'unknown'}, fold {fold + 1}"
        yield timeline(opened, number, title, labels, _predict(opened, number, model))


def _test_scans(store: PreparedStore, folds: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Return scan and fold of up to `SCANS` test scans, the first one in the store of each fold."""
    shown = pictured_scans(store)
    found = []
    for fold, patients in enumerate(folds):
        tested = set(patients.get("test", ()))
        for number in np.flatnonzero(shown).tolist():
            scan = store.scan(number)
            if scan.scan_key in tested or scan.patient_key in tested:
                found.append((number, fold))
                break
    return found[:SCANS]


def _labels(store: PreparedStore, model: TrainedModel) -> ScanLabels | None:
    """Return the labels with the model's own classes and colours where they are of them."""
    if isinstance(model.task, ClassificationTask) and model.task.class_list.column in store.labels.classes:
        return labels_of_classes(store, model.task.class_list)
    return open_scan_labels(store)


def _predict(store: PreparedStore, number: int, model: TrainedModel) -> Predicted:
    scan = store.scan(number)
    if isinstance(model.task, ClassificationTask):
        seconds: list[float | None] = []
        classes: list[NDArray[np.int64]] = []
        for batch in scan_batches(store, number, model.settings.temporal_stride, KnownLabels(None, ())):
            seconds += batch.seconds
            classes.append(predict_models((model,), evaluation_inputs(model, batch.frames)).argmax(dim=1).numpy())
        names, colours = model.task.classes, model.task.class_list.colours
        return Predicted(names, calm_colours(names, colours), np.array(seconds, np.float64), np.concatenate(classes))
    frames = scan.frames(scan.nearest_frames(film_seconds(scan.duration_seconds)))
    inputs = evaluation_inputs(model, frames)
    densities = predict_models((model,), inputs).numpy()
    film: list[NDArray[np.uint8]] = [
        overlay(frame, density) for frame, density in zip(inputs[:, 0].numpy(), densities, strict=True)
    ]
    return Predicted(film=np.stack(film))
