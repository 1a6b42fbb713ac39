"""Frame classification as a task: the class names are its data, from the fourteen standard planes to any label set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from usvs.archive.class_list import ClassList
from usvs.archive.labels import PLANE_COLUMN, STANDARD_PLANES
from usvs.data.frame_table import FrameTable, labelled_frames, read_frames
from usvs.data.transforms import evaluation_frames, training_frames
from usvs.evaluation.folds import GroupBy
from usvs.evaluation.metrics import ClassificationMetrics, chance_f1, classification_metrics
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.module import ClassificationModule, class_weights
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.task import EvaluationProtocol, Reference, ScoreColumn
from usvs.utils.permutation import UInt64Array


class ClassificationTask:
    """Predict one of several named classes for each frame; implements `usvs.tasks.task.DownstreamTask`.

    Args:
        classes: name of each class, in the order of the class numbers; or a class list, whose label column is the
            ground truth. Without a column it is the standard planes' numbers in the store.
        name: of the task in results; ``planes`` for the standard planes.
        title: heading of the results table.

    Raises:
        ValueError: for fewer than two classes, or two of the same name.
    """

    kind = "classification"
    protocols: Sequence[EvaluationProtocol] = ("finetune", "probe", "knn")
    columns: tuple[ScoreColumn, ...] = (
        ScoreColumn("precision", "precision", percent=True),
        ScoreColumn("recall", "recall", percent=True),
        ScoreColumn("f1", "F1", percent=True),
    )
    extra_scores: Sequence[str] = ("accuracy",)
    main_score = "f1"
    higher_is_better = True

    def __init__(
        self, classes: Sequence[str] | ClassList, name: str = "classification", title: str = "classification of frames"
    ) -> None:
        names = classes.names if isinstance(classes, ClassList) else tuple(classes)
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(f"classes: expected at least two different names, got {list(names)}")
        self.class_list: ClassList = classes if isinstance(classes, ClassList) else ClassList(names)
        self.classes = names
        self.name = name
        self.title = title

    def dataset(
        self, store: PreparedStore, settings: ClassificationSettings, group_by: GroupBy = "patient"
    ) -> FrameTable:
        """List every n-th frame of the store that has a label.

        Raises:
            DataError: also for a store with labels of other classes.
        """
        return labelled_frames(store, settings.temporal_stride, group_by, self.label_classes)

    @property
    def label_classes(self) -> ClassList | None:
        """The class list by which the store's labels are numbered; None for the prepared numbers of planes."""
        is_planes = self.class_list.column == PLANE_COLUMN and self.classes == STANDARD_PLANES
        return None if is_planes or not self.class_list.column else self.class_list

    def test_dataset(self, store: PreparedStore, table: FrameTable, settings: ClassificationSettings) -> FrameTable:
        """Return the table: every labelled frame can be scored."""
        return table

    def labels(self, table: FrameTable) -> NDArray[np.int64]:
        """Return the class number of each frame."""
        return table.label

    def module(
        self, encoder: Encoder, train: FrameTable | None, settings: ClassificationSettings
    ) -> ClassificationModule:
        """Build encoder, linear head and cross-entropy, weighted by the class frequencies of the training frames."""
        count = len(self.classes)
        weights = torch.ones(count) if train is None else class_weights(train.label, count, settings.class_weights)
        return ClassificationModule(encoder, count, weights)

    def batch(
        self,
        store: PreparedStore,
        train: FrameTable,
        rows: NDArray[np.int64],
        augmentation_bits: UInt64Array,
        settings: ClassificationSettings,
    ) -> tuple[Tensor, Tensor]:
        """Return augmented frames [b, 1, P, P] and class numbers [b]."""
        chosen = train.take(rows)
        pixels, augment = settings.model.frame_pixels, settings.augment
        frames = training_frames(read_frames(store, chosen), augmentation_bits, pixels, augment)
        return frames, torch.from_numpy(chosen.label)

    def inputs(self, store: PreparedStore, table: FrameTable, settings: ClassificationSettings) -> Tensor:
        """Return the central crops of the frames, [b, 1, P, P]."""
        return evaluation_frames(read_frames(store, table), settings.model.frame_pixels, settings.augment)

    def predict(self, module: ClassificationModule, inputs: Tensor) -> Tensor:
        """Return logits [b, classes]."""
        return module.logits(inputs)

    def probabilities(self, prediction: Tensor) -> Tensor:
        """Return the probabilities of the classes, [b, classes]."""
        return prediction.softmax(dim=1)

    def score_rows(self, prediction: Tensor, table: FrameTable) -> Tensor:
        """Return the number of the most probable class of each frame, [b]."""
        return prediction.argmax(dim=1)

    def metrics(self, row_scores: Tensor, table: FrameTable) -> ClassificationMetrics:
        """Compare the predicted classes [n] with the labels."""
        return classification_metrics(table.label, row_scores.numpy(), self.classes)

    def reference(self, store: PreparedStore, table: FrameTable, settings: ClassificationSettings) -> Reference:
        """Return what a fair draw among the classes scores."""
        chance = chance_f1(table.label, len(self.classes))
        values = {
            "classes": list(self.classes),
            "colours": list(self.class_list.colours),
            "title": self.title,
            "chance_f1": chance,
        }
        rows = (("(chance)", (None, None, chance)),)
        notes = ("macro means over classes, in %", f"classes weighted in the loss: {settings.class_weights}")
        return Reference(values, rows, notes)

    def examples(
        self, store: PreparedStore, test: FrameTable, module: ClassificationModule, settings: ClassificationSettings
    ) -> dict[str, NDArray[Any]]:
        """Return nothing: confusion matrices are drawn from the scores."""
        return {}

    def description(self) -> dict[str, Any]:
        """Return name, title, and the class list with colours."""
        return {"name": self.name, "title": self.title, **self.class_list.to_json()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Make the task of a saved model again."""
        return cls(ClassList.from_json(description), str(description["name"]), str(description["title"]))
