"""Evaluation of one init on one patient fold of any task, the unit of every results table, and its mean over folds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usvs.data.frame_table import FrameTable
from usvs.errors import ConfigError
from usvs.evaluation.folds import Fold
from usvs.evaluation.metrics import DDOF, Spread
from usvs.evaluation.probe import knn_predict, probe_predict
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.fit import evaluate_module, fit_module
from usvs.tasks.frozen_features import Calibrate, frozen_features, needs_calibration
from usvs.tasks.initial_encoder import Init, encoder_sha256, initial_encoder, is_random
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import DownstreamTask, EvaluationProtocol, MetricsT, TableT
from usvs.training.distributed import ALONE, Ranks
from usvs.training.threads import compute_threads, plan_threads
from usvs.training.trainer import choose_device

FROZEN: tuple[EvaluationProtocol, ...] = ("probe", "knn")


@dataclass(frozen=True)
class FoldResult(Generic[MetricsT]):
    """The scores of one init on one fold, and what they were measured on.

    Attributes:
        fold: training and test patients.
        metrics: the scores on every test frame.
        train_frames: number of labelled frames trained on.
        test_frames: number of frames predicted.
        updates: of the network; 0 for a frozen protocol.
        calibrated: whether batch-norm statistics were recomputed on the training frames (frozen protocols only).
        encoder_sha256: of the initial weights.
        seconds: the duration.
        module: the trained module; None for a frozen protocol.
    """

    fold: Fold
    metrics: MetricsT
    train_frames: int
    test_frames: int
    updates: int
    calibrated: bool
    encoder_sha256: str
    seconds: float
    module: nn.Module | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values without the module; patients as keyed hashes."""
        patients = {
            "fold": self.fold.number,
            "train_patients": list(self.fold.train),
            "test_patients": list(self.fold.test),
        }
        names = ("train_frames", "test_frames", "updates", "calibrated", "encoder_sha256")
        plain = {name: getattr(self, name) for name in names}
        return {**patients, **plain, "seconds": round(self.seconds, 2), **self.metrics.to_json()}


@dataclass(frozen=True)
class InitResult:
    """One init by one protocol on every fold.

    Attributes:
        init: its name in the results.
        protocol: how it was evaluated.
        scores: names of the scores.
        folds: `FoldResult.to_json` of every fold, measured now or read from an interrupted run.
    """

    init: str
    protocol: EvaluationProtocol
    scores: tuple[str, ...]
    folds: tuple[Mapping[str, Any], ...]

    def spread(self, score: str) -> Spread:
        """Return mean and sample standard deviation of a score over the folds."""
        return Spread.of(fold[score] for fold in self.folds)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Sum of the folds' confusion matrices: every test frame, once.

        Raises:
            KeyError: for a task without classes.
        """
        total: NDArray[np.int64] = np.sum([fold["confusion"] for fold in self.folds], axis=0, dtype=np.int64)
        return total

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        scores = {score: vars(self.spread(score)) for score in self.scores}
        confusion = {"confusion": self.confusion.tolist()} if "confusion" in self.folds[0] else {}
        return {**scores, "ddof": DDOF, **confusion, "folds": [dict(fold) for fold in self.folds]}


def measure_fold(
    task: DownstreamTask[TableT, Any, MetricsT],
    store: PreparedStore,
    table: TableT,
    fold: Fold,
    settings: FinetuneSettings,
    init: Init,
    protocol: EvaluationProtocol = "finetune",
    ranks: Ranks = ALONE,
    *,
    calibrate: Calibrate = "random",
    label: str = "",
) -> FoldResult[MetricsT]:
    """Evaluate an init on one fold.

    Args:
        task: what is learnt.
        store: where the frames are.
        table: rows of `task.dataset`; those of the fold's patients are used.
        fold: training patients (all of them are used) and test patients.
        settings: network, optimiser and seed; the caller has applied `labelled_patients` to the fold.
        init: the initial encoder, see `usvs.tasks.initial_encoder`.
        protocol: ``finetune`` trains everything; ``probe`` and ``knn`` learn from frozen features.
        ranks: the processes that take part in fine-tuning; a frozen protocol is computed by each, with the same result.
        calibrate: for which encoders batch-norm statistics are recomputed before a frozen protocol.
        label: of the progress bars, for example ``random, fold 1 of 3``.

    Raises:
        ConfigError: for a protocol that the task does not support.
    """
    if protocol in FROZEN:
        return measure_frozen(task, store, table, fold, settings, init, [protocol], calibrate=calibrate)[protocol]
    _check_protocol(task, protocol)
    started = time.monotonic()
    train, test, encoder, sha256 = _prepare_fold(task, store, table, fold, settings, init)
    after = f", {label}" if label else ""
    with compute_threads(plan_threads(encoder, choose_device(settings.run.device), settings.run)):
        module, updates = fit_module(task, store, train, encoder, settings, ranks, f"fine-tuning{after}")
        metrics = evaluate_module(task, store, test, module, settings, ranks, f"predicting{after}")
    seconds = time.monotonic() - started
    return FoldResult(fold, metrics, len(train), len(test), updates, False, sha256, seconds, module)


def measure_frozen(
    task: DownstreamTask[TableT, Any, MetricsT],
    store: PreparedStore,
    table: TableT,
    fold: Fold,
    settings: FinetuneSettings,
    init: Init,
    protocols: Sequence[EvaluationProtocol] = FROZEN,
    *,
    calibrate: Calibrate = "random",
) -> dict[EvaluationProtocol, FoldResult[MetricsT]]:
    """Evaluate an init on one fold by several frozen protocols, which share the features.

    Args and errors are those of `measure_fold`.

    Returns:
        The result of each protocol.
    """
    for protocol in protocols:
        _check_protocol(task, protocol)
    started = time.monotonic()
    train, test, encoder, sha256 = _prepare_fold(task, store, table, fold, settings, init)
    labels, classes = task.labels(train), 1 + int(task.labels(table).max())
    calibrated = needs_calibration(is_random(init), calibrate)
    with compute_threads(plan_threads(encoder, choose_device(settings.run.device), settings.run)):
        of_train, of_test = frozen_features(
            store,
            encoder,
            cast("FrameTable", train),
            cast("FrameTable", test),
            settings.model.frame_pixels,
            settings.augment,
            calibrated,
        )
    results: dict[EvaluationProtocol, FoldResult[MetricsT]] = {}
    for protocol in protocols:
        if protocol == "knn":
            predicted = knn_predict(of_train, labels, of_test)
        else:
            predicted = probe_predict(of_train, labels, of_test, classes)
        metrics = task.metrics(torch.from_numpy(predicted), test)
        seconds = time.monotonic() - started
        results[protocol] = FoldResult(fold, metrics, len(train), len(test), 0, calibrated, sha256, seconds)
    return results


def _prepare_fold(
    task: DownstreamTask[TableT, Any, Any],
    store: PreparedStore,
    table: TableT,
    fold: Fold,
    settings: FinetuneSettings,
    init: Init,
) -> tuple[TableT, TableT, Encoder, str]:
    """Return the fold's training rows, its test rows, the initial encoder on its device and the encoder's SHA-256."""
    train = table.of_groups(fold.train)
    test = task.test_dataset(store, table.of_groups(fold.test), settings)
    encoder = initial_encoder(init, settings).to(choose_device(settings.run.device))
    return train, test, encoder, encoder_sha256(encoder)


def _check_protocol(task: DownstreamTask[Any, Any, Any], protocol: EvaluationProtocol) -> None:
    if protocol not in task.protocols:
        raise ConfigError(f"task '{task.name}', protocol: expected {' or '.join(task.protocols)}, got '{protocol}'")
