"""A few frames with ground truth and prediction, as arrays to draw (Fig. 4)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.frame_table import read_frames
from usvs.data.gaze_table import GazeTable, gaze_density
from usvs.data.transforms import evaluation_frames
from usvs.store.prepared import PreparedStore
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.utils.spacing import evenly_spaced

EXAMPLE_FRAMES = 6


def example_rows(table: GazeTable, count: int = EXAMPLE_FRAMES) -> GazeTable:
    """Return a few frames to show: of different planes where they have labels, evenly spaced otherwise."""
    planes, first = np.unique(table.frames.label, return_index=True)
    rows = first[planes >= 0]
    if len(rows) < count:
        rows = np.arange(len(table))
    return table.take(np.unique(rows[evenly_spaced(len(rows), count)]))


def predict_examples(
    store: PreparedStore, test: GazeTable, log_density: Callable[[Tensor], Tensor], settings: SaliencySettings
) -> dict[str, NDArray[Any]]:
    """Return arrays [k, P, P] of a few frames: ``frames``, ``truth`` and ``predicted``.

    Args:
        store: where the frames are.
        test: frames as `gaze_in_crop` returns them.
        log_density: the trained network.
        settings: input size and crop.
    """
    shown, pixels = example_rows(test), settings.model.frame_pixels
    frames = read_frames(store, shown.frames)
    inputs = evaluation_frames(frames, pixels, settings.augment)
    with torch.inference_mode():
        predicted = log_density(inputs).float().cpu().exp()
    truth = gaze_density(shown.fixations, shown.sigma, pixels, pixels)
    return {"frames": inputs[:, 0].numpy(), "truth": truth.numpy(), "predicted": predicted.numpy()}
