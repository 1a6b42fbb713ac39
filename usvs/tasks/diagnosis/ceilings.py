"""Supervised ceilings: how well a label is read from one frame, and from one piece of speech, of unseen patients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.audio.spectrogram import LogSpectrogram
from usvs.data.validation_split import PatientSplit
from usvs.errors import DataError
from usvs.evaluation.label_reading import (
    F1Beside,
    confusion_nats,
    f1_beside_chance,
    label_entropy_nats,
    shared_nats,
)
from usvs.models.se_resnext import SEResNeXt
from usvs.store.prepared import PreparedStore
from usvs.tasks.diagnosis.labelled_samples import (
    LabelSource,
    Reader,
    Samples,
    clip_rows,
    draw_samples,
    read_frames,
    read_speech,
)
from usvs.tasks.fit import train_module
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.settings import FinetuneSettings
from usvs.training.random_state import seeded
from usvs.training.settings import OptimiserSettings
from usvs.training.trainer import choose_device
from usvs.utils.permutation import UInt64Array

BATCH = 64
UPDATES = 300
LEARNING_RATE = 1e-3  # of settings whose own optimiser is not AdamW


@dataclass(frozen=True)
class Ceiling:
    """How well a supervised network reads the label on unseen patients.

    Attributes:
        f1: macro F1 beside chance, with an interval over patients.
        nats: mutual information of label and prediction: so much of the label is read.
        confusion: [C][C] counts, rows the label.
        train_samples: it was trained on.
        test_samples: it was tested on.
        test_patients: they are from.
        updates: made.
    """

    f1: F1Beside
    nats: float
    confusion: tuple[tuple[int, ...], ...]
    train_samples: int
    test_samples: int
    test_patients: int
    updates: int

    @property
    def at_chance(self) -> bool:
        """Whether the label is not read above chance."""
        return not self.f1.above_chance


@dataclass(frozen=True)
class Ceilings:
    """Both streams' ceilings.

    Attributes:
        labels: names of the labels.
        picture: from one frame.
        speech: from one piece of speech of a clip with enough speech; None where there is no such clip.
        label_nats: entropy of the labels.
        bound_nats: smaller one of what both streams read: if speech and picture have nothing in common but the label,
            they share at most so much as networks like these read it (data-processing inequality), and L_cont cannot
            fall further below chance (its gain is a lower bound of the shared information).
        expected_nats: what the two predictions share under the same assumption.
    """

    labels: tuple[str, ...]
    picture: Ceiling
    speech: Ceiling | None
    label_nats: float
    bound_nats: float
    expected_nats: float


class LabelLoss(NamedTuple):
    """The result of a step."""

    total: Tensor


class LabelNetwork(nn.Module):
    """An encoder and a linear layer; `before` maps its input first."""

    def __init__(self, encoder: SEResNeXt, classes: int, before: nn.Module) -> None:
        super().__init__()
        self.before: nn.Module
        self.encoder: SEResNeXt
        self.before, self.encoder = before, encoder
        self.classify: nn.Linear = nn.Linear(encoder.num_features, classes)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return [n, C]."""
        result: Tensor = self.classify(self.encoder(self.before(inputs)))
        return result

    def forward(self, inputs: Tensor, label: Tensor) -> LabelLoss:
        """Return the cross entropy of labels [n]."""
        return LabelLoss(F.cross_entropy(self.logits(inputs), label))


def measure_ceilings(
    store: PreparedStore, settings: PretrainSettings, split: PatientSplit, labels: LabelSource, updates: int = UPDATES
) -> Ceilings:
    """Train a small network on each stream of the training patients, and test it on the others.

    Args:
        store: the prepared scans.
        settings: with the encoders, the clips and the augmentation.
        split: training patients and those to test on.
        labels: to read.
        updates: of each network.

    Raises:
        DataError: where either side has fewer than two labels.
    """
    speech_rows = clip_rows(store, settings, with_speech=True)
    frames = [draw_samples(store, settings, split, labels, side, None) for side in (split.train, split.validation)]
    pieces = [
        draw_samples(store, settings, split, labels, side, speech_rows) for side in (split.train, split.validation)
    ]
    present = [set(np.unique(part.label).tolist()) for part in frames]
    if min(len(names) for names in present) < 2:
        raise DataError(
            "labels: expected at least two different ones among the frames of training and of unseen patients, got"
            f" {len(present[0])} and {len(present[1])}; raise validation_fraction or label more patients"
        )
    picture = _fit(store, settings, split, labels, frames, read_frames, updates, "picture")
    classes = [len(np.unique(part.label)) for part in pieces]
    speech = _fit(store, settings, split, labels, pieces, read_speech, updates, "speech") if min(classes) > 1 else None
    counts = np.array(picture.confusion)
    other = None if speech is None else np.array(speech.confusion)
    return Ceilings(
        labels.names,
        picture,
        speech,
        label_entropy_nats(counts),
        0.0 if speech is None else min(picture.nats, speech.nats),
        0.0 if other is None else shared_nats(counts, other),
    )


def _fit(
    store: PreparedStore,
    settings: PretrainSettings,
    split: PatientSplit,
    labels: LabelSource,
    parts: list[Samples],
    make_reader: Callable[[PreparedStore, Samples, PretrainSettings], Reader],
    updates: int,
    what: str,
) -> Ceiling:
    train, test = parts
    readers = [make_reader(store, part, settings) for part in parts]
    is_speech, classes = what == "speech", len(labels.names)
    with seeded(settings.run.seed):
        encoder = SEResNeXt(settings.model.speech if is_speech else settings.model.video)
        network = LabelNetwork(encoder, classes, LogSpectrogram(settings.spectrogram) if is_speech else nn.Identity())
    own = settings.optimiser
    rate = own.learning_rate if own.kind == "adamw" else LEARNING_RATE
    samples = len(train.label)
    optimiser = OptimiserSettings(
        kind="adamw", learning_rate=rate, weight_decay=0.01, schedule="one_cycle", epochs=1, batch_clips=BATCH
    )
    run = settings.run.model_copy(update={"compile": "eager", "micro_batch_clips": None, "loader_workers": 0})
    target = torch.from_numpy(train.label)

    def batch(rows: NDArray[np.int64], bits: UInt64Array) -> tuple[Tensor, ...]:
        chosen = rows % samples  # one long epoch, so that the number of updates is exact
        return readers[0](chosen, bits), target[torch.from_numpy(chosen)]

    made = train_module(
        network,
        updates * BATCH,
        batch,
        FinetuneSettings(model=settings.model, augment=settings.augment, optimiser=optimiser, run=run),
        label=f"supervised ceiling of the {what}",
    )
    predicted = _predict(network, readers[1], len(test.label), choose_device(settings.run.device))
    patient = np.array([split.scan_group[scan] for scan in test.scan.tolist()])
    patients = np.unique(patient)
    counts = np.zeros((len(patients), classes, classes), np.int64)
    np.add.at(counts, (np.searchsorted(patients, patient), test.label, predicted), 1)
    confusion = counts.sum(axis=0)
    return Ceiling(
        f1_beside_chance(counts),
        confusion_nats(confusion),
        tuple(tuple(row) for row in confusion.tolist()),
        samples,
        len(test.label),
        len(patients),
        made,
    )


def _predict(network: LabelNetwork, read: Reader, count: int, device: torch.device) -> NDArray[np.int64]:
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, count, 2 * BATCH):
            rows = np.arange(start, min(start + 2 * BATCH, count), dtype=np.int64)
            found.append(network.logits(read(rows, None).to(device)).argmax(dim=1).cpu())
    predicted: NDArray[np.int64] = torch.cat(found).numpy()
    return predicted
