"""The frozen reading: what a linear classifier can read from features that it cannot change.

A random encoder's batch-norm statistics are mean 0 and variance 1 until something runs in training mode; any training
at all replaces them, and that alone lifts a probe by many points. So "Rand" is read with its statistics computed on
the very frames the probe is trained on. A trained encoder keeps the statistics its training gave it, as its user would;
`calibrate="always"` recomputes them for every encoder alike, for whoever wants that comparison.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import FrameTable, read_frames
from usvs.data.settings import AugmentSettings
from usvs.data.transforms import evaluation_frames
from usvs.evaluation.metrics import PlaneMetrics
from usvs.evaluation.probe import probe_features
from usvs.models.batch_norm import calibrate_batch_norm
from usvs.models.registry import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.features import BATCH_FRAMES, embed_frames
from usvs.utils.permutation import permute

Calibrate = Literal["random", "always", "never"]
CALIBRATION_KEY = 0  # the same frames make the same batches, whatever the seed


@dataclass(frozen=True)
class ProbeResult:
    """Scores of a frozen reading, and whether batch-norm statistics were recomputed on its training frames."""

    metrics: PlaneMetrics
    calibrated: bool


def frozen_probe(
    store: PreparedStore,
    encoder: Encoder,
    train: FrameTable,
    test: FrameTable,
    frame_pixels: int,
    augment: AugmentSettings,
    calibrated: bool,
) -> ProbeResult:
    """Read an encoder without changing it: features of labelled patients' frames, a linear probe, scores on the others.

    Args:
        store: where the frames are.
        encoder: any video encoder; it is left as it came, calibration works on a copy.
        train: frames of the labelled patients.
        test: frames of the held-out patients.
        frame_pixels: side of the network's input.
        augment: whose `crop_fraction` decides the central crop.
        calibrated: recompute batch-norm statistics on the training frames first; see `needs_calibration`.
    """
    known, unknown = frozen_features(store, encoder, train, test, frame_pixels, augment, calibrated)
    return ProbeResult(probe_features(known, train.label, unknown, test.label, PLANES), calibrated)


def frozen_features(
    store: PreparedStore,
    encoder: Encoder,
    train: FrameTable,
    test: FrameTable,
    frame_pixels: int,
    augment: AugmentSettings,
    calibrated: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features [n, C] and [m, C] that every frozen reading rests on; arguments as of `frozen_probe`."""
    if calibrated:
        encoder = copy.deepcopy(encoder)
        calibrate_batch_norm(encoder, _calibration_batches(store, encoder, train, frame_pixels, augment))
    known, unknown = (embed_frames(store, table, encoder, frame_pixels, augment) for table in (train, test))
    return known, unknown


def needs_calibration(random_init: bool, calibrate: Calibrate) -> bool:
    """Say whether an encoder is read with recomputed batch-norm statistics."""
    return calibrate == "always" or (calibrate == "random" and random_init)


def _calibration_batches(
    store: PreparedStore, encoder: Encoder, train: FrameTable, frame_pixels: int, augment: AugmentSettings
) -> Iterator[Tensor]:
    """Yield every training frame once, in batches of one size (give or take one frame) that each mix scans and planes.

    In the table's own order a batch would hold one scan, and the spread between scans would be in no batch's variance.
    """
    device = next(encoder.parameters()).device
    order = permute(np.arange(len(train)), len(train), CALIBRATION_KEY)
    for rows in np.array_split(order, math.ceil(len(train) / BATCH_FRAMES)):
        yield evaluation_frames(read_frames(store, train.take(rows)), frame_pixels, augment).to(device)
