"""The `Task` protocol: everything that training, cross-validation, saving and prediction ask of a task.

A class is a task if it can say its dataset, its module, its batches, its predictions and its scores. It holds what the
task is about (for example the class names); how it is carried out comes with each call as settings. Nothing in
`usvs.tasks` that works on a `Task` knows which task it is. To add a task: write its settings, its module and a class
with the methods below (`usvs/tasks/saliency` is an example), and add it to `usvs.tasks.registry`.

Letters: n rows of a table, b rows of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from usvs.config import Settings
from usvs.evaluation.folds import GroupBy
from usvs.models.registry import Encoder
from usvs.store.prepared import PreparedStore
from usvs.utils.permutation import UInt64Array

# How an encoder is evaluated on a task: everything trained, or a linear classifier or nearest neighbours on its features.
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

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Table":
        """Return the rows given by their numbers or by a mask."""
        ...

    def of_groups(self, groups: Sequence[str]) -> "Table":
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


TableT = TypeVar("TableT", bound=Table)
SettingsT_contra = TypeVar("SettingsT_contra", bound=Settings, contravariant=True)
MetricsT_co = TypeVar("MetricsT_co", bound=Metrics, covariant=True)


class Task(Protocol[TableT, SettingsT_contra, MetricsT_co]):
    """What is learnt: dataset, module, batch, prediction and scores.

    Attributes:
        name: of the task, in results, in saved models and in log lines.
        protocols: how an encoder can be evaluated on it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  documented above

    @property
    def protocols(self) -> Sequence[EvaluationProtocol]: ...  # noqa: D102  documented above

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

    def module(self, encoder: Encoder, train: TableT, settings: SettingsT_contra) -> nn.Module:
        """Build the trainable module around an encoder, which is trained in place.

        Its forward takes the tensors of `batch` and returns a NamedTuple of scalars with a field ``total``, the loss; with
        ``outputs``, ``loss`` and ``global_batch`` (`usvs.training.micro_batches.ShardedTask`) it can also be computed in
        micro-batches and by several ranks. Its own weights are drawn from torch's global generator.
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

    def predict(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """Return the prediction of a batch of inputs (logits, log-densities): [b, ...]."""
        ...

    def score_rows(self, prediction: Tensor, table: TableT) -> Tensor:
        """Return what `metrics` needs of each row: [b] or [b, k], so that no prediction has to be kept.

        Args:
            prediction: [b, ...] float32 on the host, as `predict` returned it.
            table: the b rows, of `test_dataset`.
        """
        ...

    def metrics(self, row_scores: Tensor, table: TableT) -> MetricsT_co:
        """Return the scores of a table from what `score_rows` returned for its rows, [n] or [n, k]."""
        ...

    def description(self) -> dict[str, Any]:
        """Return the plain values that tell this task from others of its kind, for example its class names."""
        ...
