"""Class predictions for images, videos, DICOM and stores: by a fine-tuned model, or by SonoNet's published weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from usvs.archive.class_list import ClassList
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.inference.frame_batches import KnownLabels, scan_batches
from usvs.inference.frames import as_files, file_batches
from usvs.inference.models import evaluation_inputs, load_models, predict_models
from usvs.inference.sononet import SonoNetClassifier
from usvs.media.box import Box
from usvs.models.sononet import make_sononet
from usvs.models.weight_files import read_weights
from usvs.store.identity import is_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import check_store_classes
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.model_files import TrainedModel
from usvs.utils.progress import track
from usvs.utils.text import printable, quantity

SONONET = "sononet:"


class Prediction(NamedTuple):
    """The prediction for one image, or one frame of a video.

    Attributes:
        file: as it was given; of a store the keyed hash of the scan.
        label: name of the most probable class; empty where the file could not be read.
        confidence: its probability, 0 .. 1, as the network gives it; it is not calibrated.
        probabilities: of all classes, in the order of the model's classes.
        seconds: time of a frame of a video or a scan; None for an image.
        error: why there is no prediction; None where there is one.
        known: name of the class that the frame is labelled as in a store; None without a label.
    """

    file: Path
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    seconds: float | None = None
    error: str | None = None
    known: str | None = None

    def __str__(self) -> str:
        name = printable(str(self.file))
        if self.error is not None:
            return f"{name}\tnot predicted\t{printable(self.error)}"
        time = "" if self.seconds is None else f"\t{self.seconds:.3f} s"
        return f"{name}\t{self.label}\t{self.confidence:.3f}{time}"


class Classifier(Protocol):
    """Predicts the class of the frames of one file."""

    classes: tuple[str, ...]
    class_list: ClassList

    def predict_file(self, file: Path, box: Box | None, stride: int) -> Iterator[tuple[list[float | None], Tensor]]:
        """Yield times and probabilities [b, classes] of the frames of a file.

        Raises:
            DataError: for a file that cannot be read.
        """
        ...


class FinetunedClassifier:
    """Models of `usvs.finetune`; where there are several folds, the mean of their probabilities."""

    def __init__(self, models: tuple[TrainedModel, ...]) -> None:
        task = models[0].task
        if not isinstance(task, ClassificationTask):
            raise ConfigError(f"model: expected a classification, got task '{task.name}'; see usvs.SaliencyModel")
        self.models: tuple[TrainedModel, ...]
        self.task: ClassificationTask
        self.classes: tuple[str, ...]
        self.class_list: ClassList
        self.models, self.task, self.classes, self.class_list = models, task, task.classes, task.class_list

    def predict_file(self, file: Path, box: Box | None, stride: int) -> Iterator[tuple[list[float | None], Tensor]]:
        """Yield the probabilities of an image, or of every `stride`-th frame of a video.

        Raises:
            DataError: for a file that cannot be read; what was yielded before stays valid.
        """
        for seconds, frames in file_batches(file, self.models[0].prepared_pixels, stride, box):
            yield seconds, predict_models(self.models, evaluation_inputs(self.models[0], frames)).double()

    def open_store(self, folder: Path) -> PreparedStore:
        """Open a store for `predict_store`.

        Raises:
            DataError: for a store that cannot be read, or whose labels are of other classes.
        """
        store = PreparedStore(folder)
        check_store_classes(self.task, store)
        return store

    def predict_store(self, store: PreparedStore, stride: int) -> Iterator[Prediction]:
        """Yield the predictions of every `stride`-th frame of each prepared scan; of a damaged one the reason."""
        for number in track(range(len(store.scans)), "predicting scans"):
            try:
                yield from self._predict_scan(store, number, stride)
            except DataError as error:
                yield Prediction(Path(store.scans[number]), "", 0.0, (), error=str(error))

    def _predict_scan(self, store: PreparedStore, number: int, stride: int) -> Iterator[Prediction]:
        labels = self.class_list.column in store.labels.classes and self.task.label_classes is not None
        names = self.classes if labels or self.task.label_classes is None else ()
        for batch in scan_batches(store, number, stride, KnownLabels(self.class_list if labels else None, names)):
            inputs = evaluation_inputs(self.models[0], batch.frames)
            probabilities = predict_models(self.models, inputs).double().tolist()
            for moment, label, row in zip(batch.seconds, batch.labels, probabilities, strict=True):
                yield make_prediction(self.classes, Path(batch.scan), row, moment)._replace(known=label)


def load_classifier(model: str | Path) -> Classifier:
    """Return the classifier that ``--model`` names.

    Args:
        model: ``sononet:FILE`` with the weights of any public layout; or as of `usvs.inference.models.load_models`.

    Raises:
        DataError: for weights that are missing, damaged or of another network.
        ConfigError: for a model of another task.
    """
    if isinstance(model, str) and model.startswith(SONONET):
        return SonoNetClassifier(make_sononet(read_weights(Path(model.removeprefix(SONONET)))))
    if isinstance(model, str) and model.lower().endswith(".npz") and Path(model).is_file():
        raise ConfigError(f"--model: for SonoNet's weights expected 'sononet:{model}', got '{model}'")
    return FinetunedClassifier(load_models(model))


def predict(
    images: str | Path | Sequence[str | Path],
    model: str | Path,
    *,
    box: Box | None = None,
    stride: int = TEMPORAL_STRIDE,
) -> list[Prediction]:
    """Predict the class of image files, and of the frames of video files and stores.

    Arguments and errors are those of `predict_frames`, which also returns the classes and writes tables.
    """
    return predict_frames(images, model, box=box, stride=stride).predictions


class PredictionTable(NamedTuple):
    """Predictions with the classes that they are of.

    Attributes:
        classes: in the order of the probabilities, with colours.
        predictions: a row per image or frame.
        doubtful_below: predictions of a smaller confidence are doubtful; by default those for which the other classes
            together are as probable.
    """

    classes: ClassList
    predictions: list[Prediction]
    doubtful_below: float = 0.5

    def is_doubtful(self, prediction: Prediction) -> bool | None:
        """Return whether a prediction should be looked at; None where there is none."""
        return None if prediction.error else not prediction.confidence >= self.doubtful_below  # NaN is

    @property
    def doubtful(self) -> int:
        """The number of predictions that should be looked at."""
        return sum(bool(self.is_doubtful(row)) for row in self.predictions)

    def line(self, prediction: Prediction) -> str:
        """Return the line of a prediction for a terminal, tab-separated; a doubtful one ends with ``doubtful``."""
        return f"{prediction}\tdoubtful" if self.is_doubtful(prediction) else str(prediction)

    @property
    def of_files(self) -> dict[Path, list[Prediction]]:
        """The predictions of each file or scan that could be read, in order of time."""
        found: dict[Path, list[Prediction]] = {}
        for one in self.predictions:
            if one.error is None:
                found.setdefault(one.file, []).append(one)
        return found


def predict_frames(
    images: str | Path | Sequence[str | Path],
    model: str | Path,
    *,
    box: Box | None = None,
    stride: int = TEMPORAL_STRIDE,
) -> PredictionTable:
    """Predict the class of image files, and of the frames of video files and stores.

    A file that cannot be read does not stop the others: its prediction has the reason as `error`. Where a video cannot
    be decoded to its end, or a scan of a store is damaged, the predictions of the frames before come first.

    Args:
        images: PNG, JPEG, BMP or TIFF files of any size, videos, DICOM, or stores: complete screens or sectors.
        model: as of `load_classifier`, for example a run of `usvs.finetune`, or ``sononet:SonoNet16.npz``.
        box: the region to use, in pixels; None: the sector is detected in each file. SonoNet's authors used
            ``Box(81, 115, 874, 734)`` on their 975 x 735 screens.
        stride: every `stride`-th frame of a video is predicted.

    Raises:
        DataError: for a model that cannot be read, or a store with labels of other classes than the model's.
        ConfigError: as of `load_classifier`.
    """
    files = as_files(images)
    if files is None:
        raise ConfigError("images: expected image or video files; for arrays see usvs.FrameClassifier.from_pretrained")
    classifier, predictions, stores = load_classifier(model), list[Prediction](), dict[Path, Iterator[Prediction]]()
    for file in filter(is_store, files):  # all before the first prediction, which an error would lose
        if not isinstance(classifier, FinetunedClassifier):
            raise ConfigError(f"'{file}': expected images, since SonoNet's weights do not fit a store's frames")
        stores[file] = classifier.predict_store(classifier.open_store(file), stride)
    for file in track(files, "predicting images"):
        try:
            if file in stores:
                for prediction in stores[file]:
                    predictions.append(prediction)
                continue
            for seconds, probabilities in classifier.predict_file(file, box, stride):
                for moment, row in zip(seconds, probabilities.tolist(), strict=True):
                    predictions.append(make_prediction(classifier.classes, file, row, moment))
        except DataError as error:
            predictions.append(Prediction(file, "", 0.0, (), error=str(error)))
    return PredictionTable(classifier.class_list, predictions)


def summary_lines(found: PredictionTable) -> list[str]:
    """Return a line per file or scan, tab-separated: its name, the most probable class of its mean, and frames."""
    lines = []
    for file, rows in found.of_files.items():
        mean = np.mean([row.probabilities for row in rows], axis=0)
        best = int(mean.argmax())
        frames = quantity(len(rows), "frame")
        lines.append(f"{printable(str(file))}\t{printable(found.classes.names[best])}\t{mean[best]:.3f}\t{frames}")
    return lines


def make_prediction(
    classes: Sequence[str], file: Path, probabilities: Sequence[float], seconds: float | None
) -> Prediction:
    """Return the prediction that probabilities [C] of classes mean."""
    best = int(np.argmax(probabilities))
    return Prediction(file, classes[best], probabilities[best], tuple(probabilities), seconds)
