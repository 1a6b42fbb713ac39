"""Class predictions for image and video files: by a fine-tuned model, or by SonoNet's published weights."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.inference.frames import as_files
from usvs.inference.models import evaluation_inputs, file_batches, load_models, predict_models
from usvs.inference.sononet import SonoNetClassifier
from usvs.media.box import Box
from usvs.models.sononet import make_sononet
from usvs.models.weight_files import read_weights
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.model_files import TrainedModel
from usvs.utils.progress import track
from usvs.utils.text import printable

logger = logging.getLogger(__name__)

SONONET = "sononet:"


class Prediction(NamedTuple):
    """The prediction for one image, or one frame of a video.

    Attributes:
        file: as it was given.
        label: name of the most probable class; empty where the file could not be read.
        confidence: its probability, 0 .. 1, as the network gives it; it is not calibrated.
        probabilities: of all classes, in the order of the model's classes.
        seconds: time of a video's frame; None for an image.
        error: why there is no prediction; None where there is one.
    """

    file: Path
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    seconds: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        name = printable(str(self.file))
        if self.error is not None:
            return f"{name}\tnot predicted\t{self.error}"
        time = "" if self.seconds is None else f"\t{self.seconds:.3f} s"
        return f"{name}\t{self.label}\t{self.confidence:.3f}{time}"


class Classifier(Protocol):
    """Predicts the class of the frames of one file."""

    classes: tuple[str, ...]

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
        self.models, self.classes = models, task.classes

    def predict_file(self, file: Path, box: Box | None, stride: int) -> Iterator[tuple[list[float | None], Tensor]]:
        """Yield the probabilities of an image, or of every `stride`-th frame of a video.

        Raises:
            DataError: for a file that cannot be read; what was yielded before stays valid.
        """
        for seconds, frames in file_batches(file, self.models[0].prepared_pixels, stride, box):
            yield seconds, predict_models(self.models, evaluation_inputs(self.models[0], frames)).double()


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
    """Predict the class of image files, and of the frames of video files.

    A file that cannot be read does not stop the others: its prediction has the reason as `error`. Where a video cannot
    be decoded to its end, the predictions of the frames before come first.

    Args:
        images: PNG, JPEG, BMP or TIFF files of any size, or videos: complete screens or sectors.
        model: as of `load_classifier`, for example a run of `usvs.finetune`, or ``sononet:SonoNet16.npz``.
        box: the region to use, in pixels; None: the sector is detected in each file. SonoNet's authors used
            ``Box(81, 115, 874, 734)`` on their 975 x 735 screens.
        stride: every `stride`-th frame of a video is predicted.

    Raises:
        DataError: for a model that cannot be read.
        ConfigError: as of `load_classifier`.
    """
    files = as_files(images)
    if files is None:
        raise ConfigError("images: expected image or video files; for arrays see usvs.FrameClassifier.from_pretrained")
    classifier, predictions = load_classifier(model), []
    for file in track(files, "predicting images"):
        try:
            for seconds, probabilities in classifier.predict_file(file, box, stride):
                for moment, row in zip(seconds, probabilities.tolist(), strict=True):
                    best = int(np.argmax(row))
                    predictions.append(Prediction(file, classifier.classes[best], row[best], tuple(row), moment))
        except DataError as error:
            predictions.append(Prediction(file, "", 0.0, (), error=str(error)))
    return predictions
