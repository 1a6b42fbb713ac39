"""`FrameClassifier`: frame classification with the conventions of scikit-learn."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from usvs.config import Profile, override_settings
from usvs.data.frame_dataset import FrameDataset
from usvs.data.frame_labels import encode_labels
from usvs.data.frame_table import FrameTable
from usvs.errors import ConfigError
from usvs.evaluation.metrics import ClassificationMetrics, classification_metrics
from usvs.inference.encoder_settings import with_encoder
from usvs.inference.frames import Source, as_files, read_image_frame
from usvs.inference.model_base import FinetunedModel
from usvs.inference.models import evaluation_inputs, predict_images, predict_models
from usvs.models.preprocessing import prepared_side
from usvs.store.prepared import PreparedStore
from usvs.store.store_labels import other_classes
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.fit import fit_module
from usvs.tasks.initial_encoder import Init, initial_encoder
from usvs.tasks.model_files import TrainedModel
from usvs.tasks.registry import AnyTask
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device


class FrameClassifier(FinetunedModel):
    """An encoder fine-tuned to predict one of several classes for each frame.

    It trains as `usvs.finetune` does. scikit-learn's `clone`, `get_params` and `set_params` work, and so does
    `usvs.cross_validate`.

    Example:
        >>> frames = usvs.data.FrameDataset("STORE", labels="planes")
        >>> classifier = usvs.FrameClassifier(encoder="RUN").fit(frames)
        >>> classifier.predict(["image.png"])

    Args:
        encoder: initial encoder: ``"random"``, a pretraining run, ``"imagenet:FILE"``, ``"sononet:FILE"``,
            ``"timm:NAME"``, or a module with `num_features` and `forward_features`, which is copied.
        profile: ``"quick"`` or ``"paper"``; of the default settings. The network and input size of a pretraining run
            replace the profile's.
        classes: names of the classes in the order of their numbers; None: those of the dataset given to `fit`.
        **settings: settings of `ClassificationSettings` by name, see `usvs.config.override_settings`.

    Attributes:
        classes_: [C] names of the classes (numbers, where `fit` was given numbers); in the order of `predict_proba`.
        models_: the trained models; one after `fit`, one per fold where a run with folds was loaded.
    """

    _estimator_type = "classifier"
    _arguments = ("encoder", "profile", "classes")
    _task_class = ClassificationTask
    _task_title = "a classification"

    def __init__(
        self,
        encoder: Init = "random",
        *,
        profile: Profile = "quick",
        classes: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(encoder, profile, settings)
        self.classes = classes

    def fit(self, frames: Any, labels: Any = None, patients: ArrayLike | None = None) -> Self:
        """Train on labelled frames.

        Args:
            frames: a `usvs.data.FrameDataset` with labels; or frames uint8 [n, P, P] or [n, 1, P, P], or image files.
            labels: [n] class of each frame, names or numbers, where `frames` is no dataset.
            patients: [n] patient of each frame; only `usvs.cross_validate` uses them.

        Returns:
            The classifier itself.

        Raises:
            ConfigError: for labels, settings or an encoder that cannot be used.
            DataError: for files or a run that cannot be read.
        """
        settings = self._settings()
        dataset = self._dataset(frames, labels, patients, settings)
        labelled = dataset.subset(dataset.labels >= 0)
        if not len(labelled):
            raise ConfigError("fit: expected frames with labels, got none")
        try:
            classes = tuple(self.classes or dataset.classes)
            task = ClassificationTask(dataset.class_list if dataset.class_list.names == classes else classes)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        store, table = frames_as_store(labelled, task.classes)
        device = choose_device(settings.run.device)
        with process_settings(device):
            encoder = initial_encoder(self.encoder, settings).to(device)
            module, _ = fit_module(task, store, table, encoder, settings)
        side = store.scan(0).frame_pixels
        self.models_: tuple[TrainedModel, ...] = (TrainedModel(task, module.eval(), settings, side),)
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes in the order of `predict_proba`, [C]."""
        names = self._task.classes
        numbers = [str(number) for number in range(len(names))]
        return np.arange(len(names)) if list(names) == numbers else np.array(names)

    def predict_proba(self, images: Source | FrameDataset) -> NDArray[np.float64]:
        """Return the probability of every class, [n, C].

        Args:
            images: a `FrameDataset`; image or video files (the sector is detected; of videos every eighth frame); or
                images in memory, as of `usvs.models.preprocessing.preprocess_images`.

        Raises:
            DataError: for a file that cannot be read, or images of another shape or dtype.
        """
        models = self._models
        if isinstance(images, FrameDataset):
            starts = range(0, len(images), BATCH_FRAMES)
            rows = (np.arange(start, min(start + BATCH_FRAMES, len(images))) for start in starts)
            parts = [predict_models(models, evaluation_inputs(models[0], images.read(part))) for part in rows]
            return torch.cat(parts).double().numpy()
        return predict_images(models, images).double().numpy()

    def predict(self, images: Source | FrameDataset) -> NDArray[Any]:
        """Return the most probable class of each image, [n], as in `classes_`; arguments as of `predict_proba`."""
        return np.asarray(self.classes_[self.predict_proba(images).argmax(axis=1)])

    def score(self, frames: Any, labels: Any = None) -> float:
        """Return the accuracy on labelled frames, 0 .. 1; arguments as of `fit`."""
        return self.evaluate(frames, labels).accuracy

    def evaluate(self, frames: Any, labels: Any = None) -> ClassificationMetrics:
        """Return all scores on labelled frames: macro precision, recall and F1, accuracy, confusion matrix.

        Args:
            frames: as of `fit`; frames without a label are left out.
            labels: as of `fit`.

        Raises:
            DataError: for a dataset with labels of other classes than the model's, with the lists of both.
        """
        names = self._task.classes
        if isinstance(frames, FrameDataset):
            labelled = frames.subset(frames.labels >= 0)
            if {frames.classes[number] for number in np.unique(labelled.labels).tolist()} - set(names):
                raise other_classes(self._task.class_list, frames.class_list)
            known = class_numbers(labelled, names)
            return classification_metrics(known, self.predict_proba(labelled).argmax(axis=1), names)
        if labels is None:
            raise ConfigError("labels: expected one per frame, got None")
        return classification_metrics(
            encode_labels(labels, names).label, self.predict_proba(frames).argmax(axis=1), names
        )

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of a classifier."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())

    @classmethod
    def _arguments_of(cls, task: AnyTask) -> dict[str, Any]:
        return {"classes": cast("ClassificationTask", task).classes}

    @property
    def _task(self) -> ClassificationTask:
        return cast("ClassificationTask", self._models[0].task)

    def _settings(self) -> ClassificationSettings:
        base = with_encoder(classification_profile(self.profile), self.encoder)
        return override_settings(base, **self.settings)

    def _dataset(
        self, frames: Any, labels: Any, patients: ArrayLike | None, settings: ClassificationSettings
    ) -> FrameDataset:
        if isinstance(frames, FrameDataset):
            if labels is not None or patients is not None:
                raise ConfigError("fit: expected a FrameDataset alone, or frames in memory with labels")
            return frames
        if labels is None:
            raise ConfigError("fit: expected labels, one per frame, or a FrameDataset")
        files = as_files(frames)
        if files is not None:
            side = prepared_side(settings.model.frame_pixels, settings.augment.crop_fraction)
            frames = np.stack([read_image_frame(file, side) for file in files])
        groups = np.arange(len(frames)) if patients is None else patients
        return FrameDataset.from_arrays(frames, labels, groups, classes=self.classes)


def frames_as_store(frames: FrameDataset, classes: Sequence[str]) -> tuple[PreparedStore, FrameTable]:
    """Return a labelled dataset as the store and table that tasks take: one scan, whose frames the dataset reads.

    Args:
        frames: a dataset whose frames all have a label.
        classes: names in the order of the table's class numbers; the dataset's own order may differ.

    Raises:
        ConfigError: for a label that is not in `classes`.
    """
    scan = SimpleNamespace(frames=frames.read, frame_pixels=frames.read([0]).shape[-1])
    store: Any = SimpleNamespace(scans=("frames",), scan=lambda number: scan)
    count = len(frames)
    return store, FrameTable(
        np.zeros(count, np.int32), np.arange(count), class_numbers(frames, classes), frames.patients
    )


def class_numbers(frames: FrameDataset, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the number in `classes` of each frame's label; every frame has one.

    Raises:
        ConfigError: for a label that is not in `classes`.
    """
    return encode_labels([frames.classes[number] for number in frames.labels.tolist()], classes).label
