"""Frozen evaluation: features of an encoder that is not trained, for a linear probe or nearest neighbours.

The batch-norm statistics of a random encoder are mean 0 and variance 1 until something runs in training mode; any
training replaces them, and that alone raises a probe by many points. So a random encoder is evaluated with statistics
computed on the very frames that the probe is trained on (calibrated). A trained encoder keeps the statistics of its
training, as in use; ``calibrate="always"`` recomputes them for every encoder alike.
"""

import copy
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.frame_table import FrameTable, read_frames
from usvs.data.settings import AugmentSettings
from usvs.data.transforms import evaluation_frames
from usvs.models.batch_norm import calibrate_batch_norm
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.features import BATCH_FRAMES, embed_frames
from usvs.utils.permutation import permute

Calibrate = Literal["random", "always", "never"]
CALIBRATION_KEY = 0  # the same frames make the same batches, whatever the seed


def frozen_features(
    store: PreparedStore,
    encoder: Encoder,
    train: FrameTable,
    test: FrameTable,
    frame_pixels: int,
    augment: AugmentSettings,
    calibrated: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the features of training and test frames by an encoder in evaluation mode.

    Args:
        store: where the frames are.
        encoder: any video encoder; it is not changed, calibration works on a copy.
        train: frames of the labelled patients.
        test: frames of the test patients.
        frame_pixels: side of the network's input.
        augment: its `crop_fraction` decides the central crop.
        calibrated: recompute batch-norm statistics on the training frames first; see `needs_calibration`.

    Returns:
        Features [n, C] and [m, C].
    """
    if calibrated:
        encoder = copy.deepcopy(encoder)
        calibrate_batch_norm(encoder, _calibration_batches(store, encoder, train, frame_pixels, augment))
    of_train, of_test = (embed_frames(store, table, encoder, frame_pixels, augment) for table in (train, test))
    return of_train, of_test


def needs_calibration(random_init: bool, calibrate: Calibrate) -> bool:
    """Return whether an encoder is evaluated with recomputed batch-norm statistics."""
    return calibrate == "always" or (calibrate == "random" and random_init)


def _calibration_batches(
    store: PreparedStore, encoder: Encoder, train: FrameTable, frame_pixels: int, augment: AugmentSettings
) -> Iterator[Tensor]:
    """Yield every training frame once, in batches of one size (give or take one frame) that each mix scans and classes.

    In the table's own order a batch would hold one scan, and the spread between scans would be in no batch's variance.
    """
    device = next(encoder.parameters()).device
    order = permute(np.arange(len(train)), len(train), CALIBRATION_KEY)
    for rows in np.array_split(order, math.ceil(len(train) / BATCH_FRAMES)):
        yield evaluation_frames(read_frames(store, train.take(rows)), frame_pixels, augment).to(device)
