"""One init, one fold, one way of reading it: the unit of every table about planes."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from usvs.archive.plane_labels import PLANES
from usvs.archive.prepared import PreparedStore
from usvs.config import PlanesSettings
from usvs.downstream.finetune import finetune_fold, predict_planes
from usvs.downstream.folds import Fold
from usvs.downstream.frames import FrameTable
from usvs.downstream.metrics import DDOF, PlaneMetrics, Spread, plane_metrics
from usvs.downstream.plane_task import PlaneTask
from usvs.downstream.probe import Calibrate, frozen_probe, needs_calibration
from usvs.errors import ConfigError
from usvs.models.resnext_se import SEResNeXt
from usvs.sampling.permutation import derive_key
from usvs.training.encoder import load_encoder
from usvs.training.trainer import choose_device

Mode = Literal["finetune", "probe"]
Init = Literal["random"] | Path
SCORES = ("precision", "recall", "f1", "accuracy")
ENCODER = 100  # what the key of an untrained encoder's weights is for


@dataclass(frozen=True)
class FoldResult:
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
    metrics: PlaneMetrics
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
class PlanesResult:
    """An init fine-tuned or probed on every fold: scores as mean and sample standard deviation over folds."""

    init: str
    mode: Mode
    folds: tuple[FoldResult, ...]

    def spread(self, score: str) -> Spread:
        """Return one of `SCORES` over the folds."""
        return Spread.of(getattr(fold.metrics, score) for fold in self.folds)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The folds' confusion matrices added up: every held-out frame, once."""
        total: NDArray[np.int64] = np.sum([fold.metrics.confusion for fold in self.folds], axis=0, dtype=np.int64)
        return total

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        scores = {score: vars(self.spread(score)) for score in SCORES}
        folds = [fold.to_json() for fold in self.folds]
        return {**scores, "ddof": DDOF, "confusion": self.confusion.tolist(), "folds": folds}


def measure_fold(
    store: PreparedStore,
    table: FrameTable,
    fold: Fold,
    settings: PlanesSettings,
    init: Init,
    mode: Mode,
    calibrate: Calibrate = "random",
) -> tuple[FoldResult, PlaneTask | None]:
    """Read or fine-tune an init on one fold.

    Args:
        store: where the frames are.
        table: labelled frames; those of the fold's patients are used.
        fold: who is trained on (all of its training patients) and who is tested.
        settings: network, optimiser and seed; `labelled_patients` has been applied to the fold by the caller.
        init: ``random`` or a pretraining run.
        mode: ``finetune`` or ``probe``.
        calibrate: whose batch-norm statistics are recomputed before a probe.

    Returns:
        The result, and the trained detector (None for a probe).
    """
    started = time.monotonic()
    train, test = table.of_groups(fold.train), table.of_groups(fold.test)
    encoder = initial_encoder(init, settings).to(choose_device(settings.run.device))
    sha256, task, updates, calibrated = encoder_sha256(encoder), None, 0, False
    if mode == "finetune":
        task, updates = finetune_fold(store, train, encoder, settings)
        metrics = plane_metrics(test.plane, predict_planes(store, test, task, settings), PLANES)
    else:
        calibrated = needs_calibration(init == "random", calibrate)
        pixels, augment = settings.model.frame_pixels, settings.augment
        metrics = frozen_probe(store, encoder, train, test, pixels, augment, calibrated).metrics
    seconds = time.monotonic() - started
    return FoldResult(fold, metrics, len(train), len(test), updates, calibrated, sha256, seconds), task


def initial_encoder(init: Init, settings: PlanesSettings) -> SEResNeXt:
    """Return the video encoder an init stands for; the untrained one depends on the seed alone, not on the fold.

    Raises:
        ConfigError: where a run's encoder is not the one the settings describe: unlike networks cannot be compared.
        DataError: for a run that holds no weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, ENCODER) >> 1)
        untrained = SEResNeXt(settings.model.video)
    if init == "random":
        return untrained
    encoder = load_encoder(Path(init))
    if _shapes(encoder) != _shapes(untrained) or encoder.stride != untrained.stride:
        raise ConfigError(
            f"init '{init}': its video encoder is not that of setting 'model.video'; use the profile of its pretraining"
        )
    return encoder


def init_names(inits: Sequence[Init]) -> list[str]:
    """Return a short name for each init, a run's own folder name, numbered where two runs share it."""
    names = ["random" if init == "random" else Path(init).resolve().name for init in inits]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def encoder_sha256(encoder: SEResNeXt) -> str:
    """Return the SHA-256 of an encoder's parameters and buffers, in their order."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _shapes(encoder: SEResNeXt) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}
