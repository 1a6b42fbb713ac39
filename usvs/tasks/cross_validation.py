"""One init, one fold, one way of reading it: the unit of every table about planes and gaze."""

import time
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import FrameTable
from usvs.data.gaze_table import GazeTable
from usvs.evaluation.folds import Fold
from usvs.evaluation.metrics import DDOF, PlaneMetrics, Spread, plane_metrics
from usvs.evaluation.probe import nearest_neighbours, probe_features
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.module import PlaneTask
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.finetune import finetune_fold, finetune_gaze_fold, predict_planes, predict_saliency
from usvs.tasks.frozen_probe import Calibrate, frozen_features, frozen_probe, needs_calibration
from usvs.tasks.initial_encoder import Init, encoder_sha256, initial_encoder, parse_init
from usvs.tasks.saliency.module import SaliencyTask
from usvs.tasks.saliency.scores import GazeMetrics, gaze_metrics, seen_in_evaluation
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.distributed import ALONE, Ranks
from usvs.training.trainer import choose_device

Mode = Literal["finetune", "probe"]
SCORES = ("precision", "recall", "f1", "accuracy")
GAZE_SCORES = ("kl", "nss", "auc", "cc", "sim", "auc_exact")  # auc is MIT's AUC-Judd, as in the paper's tables
MetricsT = TypeVar("MetricsT", PlaneMetrics, GazeMetrics)


@dataclass(frozen=True)
class FoldResult(Generic[MetricsT]):
    """One fold's scores and what they rest on.

    Attributes:
        fold: who was trained on and who was tested.
        metrics: the scores on every test frame.
        train_frames: labelled frames trained on.
        test_frames: frames predicted.
        updates: of the whole network; 0 for a probe.
        calibrated: whether batch-norm statistics were recomputed on the training frames (probe only).
        encoder_sha256: of the weights it started from.
        seconds: what it took.
    """

    fold: Fold
    metrics: MetricsT
    train_frames: int
    test_frames: int
    updates: int
    calibrated: bool
    encoder_sha256: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values; patients as keyed hashes."""
        people = {
            "fold": self.fold.number,
            "train_patients": list(self.fold.train),
            "test_patients": list(self.fold.test),
        }
        names = ("train_frames", "test_frames", "updates", "calibrated", "encoder_sha256")
        plain = {name: getattr(self, name) for name in names}
        return {**people, **plain, "seconds": round(self.seconds, 2), **self.metrics.to_json()}


@dataclass(frozen=True)
class InitResult(Generic[MetricsT]):
    """An init read on every fold: scores as mean and sample standard deviation over folds."""

    init: str
    mode: Mode
    folds: tuple[FoldResult[MetricsT], ...]

    def spread(self, score: str) -> Spread:
        """Return one of `SCORES` or `GAZE_SCORES` over the folds."""
        return Spread.of(getattr(fold.metrics, score) for fold in self.folds)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The folds' confusion matrices added up: every held-out frame, once."""
        matrices = [fold.metrics.confusion for fold in self.folds if isinstance(fold.metrics, PlaneMetrics)]
        total: NDArray[np.int64] = np.sum(matrices, axis=0, dtype=np.int64)
        return total

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        planes = isinstance(self.folds[0].metrics, PlaneMetrics)
        scores = {score: vars(self.spread(score)) for score in (SCORES if planes else GAZE_SCORES)}
        confusion = {"confusion": self.confusion.tolist()} if planes else {}
        return {**scores, "ddof": DDOF, **confusion, "folds": [fold.to_json() for fold in self.folds]}


def measure_fold(
    store: PreparedStore,
    table: FrameTable,
    fold: Fold,
    settings: ClassificationSettings,
    init: Init,
    mode: Mode,
    calibrate: Calibrate = "random",
    ranks: Ranks = ALONE,
) -> tuple[FoldResult[PlaneMetrics], PlaneTask | None]:
    """Read or fine-tune an init on one fold of standard planes.

    Args:
        store: where the frames are.
        table: labelled frames; those of the fold's patients are used.
        fold: who is trained on (all of its training patients) and who is tested.
        settings: network, optimiser and seed; `labelled_patients` has been applied to the fold by the caller.
        init: what is read, see `inits`.
        mode: ``finetune`` or ``probe``.
        calibrate: whose batch-norm statistics are recomputed before a probe.
        ranks: who takes part in fine-tuning; a probe is read by each, with the same result.

    Returns:
        The result, and the trained detector (None for a probe).
    """
    started = time.monotonic()
    train, test = table.of_groups(fold.train), table.of_groups(fold.test)
    encoder = initial_encoder(init, settings).to(choose_device(settings.run.device))
    sha256, task, updates, calibrated = encoder_sha256(encoder), None, 0, False
    if mode == "finetune":
        task, updates = finetune_fold(store, train, encoder, settings, ranks)
        metrics = plane_metrics(test.label, predict_planes(store, test, task, settings, ranks), PLANES)
    else:
        calibrated = needs_calibration(parse_init(init).kind == "random", calibrate)
        pixels, augment = settings.model.frame_pixels, settings.augment
        metrics = frozen_probe(store, encoder, train, test, pixels, augment, calibrated).metrics
    seconds = time.monotonic() - started
    return FoldResult(fold, metrics, len(train), len(test), updates, calibrated, sha256, seconds), task


def measure_frozen_fold(
    store: PreparedStore, table: FrameTable, fold: Fold, settings: ClassificationSettings, init: Init
) -> dict[str, FoldResult[PlaneMetrics]]:
    """Read an init without changing it, by a linear probe and by nearest neighbours on the same features.

    Arguments are those of `measure_fold`; an untrained encoder is read with calibrated batch-norm statistics.

    Returns:
        The results under ``probe`` and ``knn``.
    """
    started = time.monotonic()
    train, test = table.of_groups(fold.train), table.of_groups(fold.test)
    encoder = initial_encoder(init, settings).to(choose_device(settings.run.device))
    calibrated = needs_calibration(parse_init(init).kind == "random", "random")
    pixels, augment = settings.model.frame_pixels, settings.augment
    known, unknown = frozen_features(store, encoder, train, test, pixels, augment, calibrated)
    results = {}
    for name, read in (("probe", probe_features), ("knn", nearest_neighbours)):
        metrics, seconds = read(known, train.label, unknown, test.label, PLANES), time.monotonic() - started
        sizes = (len(train), len(test), 0, calibrated, encoder_sha256(encoder), seconds)
        results[name] = FoldResult(fold, metrics, *sizes)
    return results


def measure_gaze_fold(
    store: PreparedStore,
    table: GazeTable,
    fold: Fold,
    settings: SaliencySettings,
    init: Init,
    ranks: Ranks = ALONE,
) -> tuple[FoldResult[GazeMetrics], SaliencyTask]:
    """Fine-tune an init on one fold of gaze saliency.

    Args:
        store: where the frames are.
        table: frames with gaze; those of the fold's patients are used.
        fold: who is trained on and who is tested.
        settings: network, optimiser, truth and seed.
        init: what is read, see `inits`.
        ranks: who takes part.

    Returns:
        The result, and the trained predictor.
    """
    started = time.monotonic()
    train, test = table.of_groups(fold.train), seen_in_evaluation(store, table.of_groups(fold.test), settings)
    fine = settings.model.video.model_copy(update={"output_stride": settings.output_stride})
    finer = settings.model_copy(update={"model": settings.model.model_copy(update={"video": fine})})
    encoder = initial_encoder(init, finer).to(choose_device(settings.run.device))
    sha256 = encoder_sha256(encoder)
    task, updates = finetune_gaze_fold(store, train, encoder, settings, ranks)
    metrics = gaze_metrics(predict_saliency(store, test.frames, task, settings, ranks), test)
    seconds = time.monotonic() - started
    return FoldResult(fold, metrics, len(train), len(test), updates, False, sha256, seconds), task
