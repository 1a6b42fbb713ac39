"""The `Task` protocol: everything that training, cross-validation, saving and prediction ask of a task.

A class is a task if it can say its dataset, its module, its batches, its predictions and its scores. It holds what the
task is about (for example the class names); how it is carried out comes with each call as settings. Nothing in
`usvs.tasks` that works on a `Task` knows which task it is. To add a task: write its settings, its module and a class
with the methods below (`usvs/tasks/saliency` is an example), and add it to `usvs.tasks.registry`.

Letters: n rows of a table, b rows of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from usvs.config import Settings
from usvs.evaluation.folds import GroupBy
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.utils.permutation import UInt64Array

# How an encoder is evaluated: everything trained, or a linear classifier or nearest neighbours on its frozen features.
EvaluationProtocol = Literal["finetune", "probe", "knn"]


class Table(Protocol):
    """Rows of a store that a task can use (frames, or clips), with their ground truth and their patients."""

    @property
    def scan(self) -> NDArray[np.int32]:
        """Number of each row's scan in the store, [n]."""
        ...

    @property
    def group(self) -> NDArray[np.str_]:
        """Keyed hash of the patient (or scan) that each row belongs to, [n]; folds never split one."""
        ...

    def __len__(self) -> int:
        """Return n."""
        ...

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Return the rows given by their numbers or by a mask."""
        ...

    def of_groups(self, groups: Sequence[str]) -> Self:
        """Return the rows of these patients.

        Raises:
            DataError: where none of them has a row.
        """
        ...


class Metrics(Protocol):
    """The scores of a set of predictions; as text, the few that belong into a log line."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Every named score that is averaged over folds."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the scores and what belongs to them, such as a confusion matrix."""
        ...


class ScoreColumn(NamedTuple):
    """A score of a results table.

    Attributes:
        score: its name in `Metrics.scores`.
        title: of the column.
        percent: printed in percent, with one decimal; otherwise as it is, with two.
    """

    score: str
    title: str
    percent: bool


class Reference(NamedTuple):
    """What a results table is compared with: the scores of chance or of a uniform prediction.

    Attributes:
        values: plain values for ``results.json``.
        rows: lines of the table, each a name and a value (or None) per column.
        notes: lines below the table.
    """

    values: dict[str, Any]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    notes: tuple[str, ...]


TableT = TypeVar("TableT", bound=Table)
MetricsT = TypeVar("MetricsT", bound=Metrics)
SettingsT_contra = TypeVar("SettingsT_contra", bound=Settings, contravariant=True)
MetricsT_co = TypeVar("MetricsT_co", bound=Metrics, covariant=True)


class Task(Protocol[TableT, SettingsT_contra, MetricsT_co]):
    """What is learnt: dataset, module, batch, prediction and scores."""

    @property
    def name(self) -> str:
        """Name of the task in results, saved models and log lines."""
        ...

    @property
    def protocols(self) -> Sequence[EvaluationProtocol]:
        """How an encoder can be evaluated on it."""
        ...

    def dataset(self, store: PreparedStore, settings: SettingsT_contra, group_by: GroupBy = "patient") -> TableT:
        """List the rows of a store that the task can use, with ground truth and patients.

        Args:
            store: a prepared store.
            settings: for example the temporal stride.
            group_by: ``scan`` takes each scan for a patient of its own.

        Raises:
            DataError: where the store has none, or a row has no patient id and `group_by` is not ``scan``.
        """
        ...

    def test_dataset(self, store: PreparedStore, table: TableT, settings: SettingsT_contra) -> TableT:
        """Return the rows of a table that can be scored, with their ground truth as the network's output has it.

        Raises:
            DataError: where there is none.
        """
        ...

    def module(self, encoder: Encoder, train: TableT | None, settings: SettingsT_contra) -> nn.Module:
        """Build the trainable module around an encoder, which is trained in place.

        Args:
            encoder: the initial encoder.
            train: the training rows, for example to balance the loss; None: for prediction only.
            settings: for example the width of the head.

        Returns:
            A module whose forward takes the tensors of `batch` and returns a NamedTuple of scalars with a field
            ``total``, the loss. With the other methods of `usvs.training.micro_batches.TrainableModule` it can also be
            computed in micro-batches and by several ranks. Its own weights are drawn from torch's global generator.
        """
        ...

    def batch(
        self,
        store: PreparedStore,
        train: TableT,
        rows: NDArray[np.int64],
        augmentation_bits: UInt64Array,
        settings: SettingsT_contra,
    ) -> tuple[Tensor, ...]:
        """Read some training rows and return what the module's forward takes.

        Args:
            store: where the pixels are.
            train: the training rows.
            rows: [b] numbers in `train`.
            augmentation_bits: uint64 [b], from which each row's random augmentation is drawn.
            settings: augmentation and input size.
        """
        ...

    def inputs(self, store: PreparedStore, table: TableT, settings: SettingsT_contra) -> Tensor:
        """Read the rows of a table and return the network's input for evaluation, without randomness: [b, ...]."""
        ...

    def predict(self, module: Any, inputs: Tensor) -> Tensor:
        """Return what a trained `module` predicts of inputs [b, ...] (logits, log-densities): [b, ...]."""
        ...

    def probabilities(self, prediction: Tensor) -> Tensor:
        """Return a prediction [b, ...] of `predict` as probabilities or densities, whose mean over models is taken."""
        ...

    def score_rows(self, prediction: Tensor, table: TableT) -> Tensor:
        """Return what `metrics` needs of each row, so that no prediction has to be kept: [b] or [b, k].

        Args:
            prediction: [b, ...] float32 on the host, as `predict` returned it.
            table: the b rows, of `test_dataset`.
        """
        ...

    def metrics(self, row_scores: Tensor, table: TableT) -> MetricsT_co:
        """Return the scores of a table from what `score_rows` returned for its rows, [n] or [n, k]."""
        ...


class DownstreamTask(Task[TableT, SettingsT_contra, MetricsT_co], Protocol[TableT, SettingsT_contra, MetricsT_co]):
    """A task with ground truth, on which inits are compared: what the results table and a saved model need besides."""

    @property
    def kind(self) -> str:
        """Key of its class in `usvs.tasks.registry`."""
        ...

    @property
    def title(self) -> str:
        """Heading of the results table."""
        ...

    @property
    def columns(self) -> Sequence[ScoreColumn]:
        """Scores in the results table."""
        ...

    @property
    def extra_scores(self) -> Sequence[str]:
        """Names of further scores in the stored results, which have no column in the table."""
        ...

    @property
    def main_score(self) -> str:
        """Name of the score by which inits are ranked."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger `main_score` is better."""
        ...

    def labels(self, table: TableT) -> NDArray[np.int64]:
        """Return the class number of each row [n], which the protocols probe and knn learn from.

        Raises:
            ConfigError: for a task without class labels.
        """
        ...

    def reference(self, store: PreparedStore, table: TableT, settings: SettingsT_contra) -> Reference:
        """Return the scores of chance or of a uniform prediction, on all rows of `dataset`."""
        ...

    def examples(
        self, store: PreparedStore, test: TableT, module: Any, settings: SettingsT_contra
    ) -> dict[str, NDArray[Any]]:
        """Return arrays of a few predictions to draw, ``predicted`` among them; empty for a task without pictures."""
        ...

    def description(self) -> dict[str, Any]:
        """Return the plain values from which `from_description` makes the task again, for example its class names."""
        ...

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Make the task again.

        Raises:
            KeyError: where a value is missing.
            ValueError: where a value cannot be used.
        """
        ...
