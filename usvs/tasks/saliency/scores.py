"""How well densities predict where people looked: the scores of Table 2 for the frames of a table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usvs.data.gaze_table import GazeTable, fixated_pixels, fixations_inside, gaze_density
from usvs.data.transforms import crop_grid, transform_points
from usvs.errors import DataError
from usvs.evaluation.saliency_metrics import saliency_scores
from usvs.models.preprocessing import identity_params
from usvs.store.prepared import PreparedStore
from usvs.tasks.saliency.settings import SaliencySettings

SCORED_MAPS = 256  # at a time


@dataclass(frozen=True)
class GazeMetrics:
    """Means over frames of the saliency scores; `auc` is MIT's AUC-Judd, whose chance depends on `fixations`.

    Attributes:
        kl: KL(truth || prediction) in nats; lower is better.
        nss: normalised scanpath saliency (MIT, N - 1).
        auc: AUC-Judd.
        cc: correlation coefficient.
        sim: similarity (MIT, after min-max).
        auc_exact: exact AUC, ties counting half; chance 1/2.
        fixations: mean number of fixated pixels a frame.
    """

    kl: float
    nss: float
    auc: float
    cc: float
    sim: float
    auc_exact: float
    fixations: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def seen_in_evaluation(store: PreparedStore, table: GazeTable, settings: SaliencySettings) -> GazeTable:
    """Return the frames whose central crop was looked at, with looks and sigma as shares of that crop.

    Raises:
        DataError: where there is none.
    """
    side, pixels, crop = store.scan(0).frame_pixels, settings.model.frame_pixels, settings.augment.crop_fraction
    looks = transform_points(table.fixations, identity_params(len(table)), side, pixels, crop)
    moved = GazeTable(table.frames, looks, table.sigma * side / crop_grid(side, pixels, crop).extent)
    kept = moved.take(np.any(fixations_inside(looks), axis=1))
    if not len(kept):
        raise DataError("gaze: nobody looked into the inner part of a test frame")
    return kept


def gaze_metrics(predicted: Tensor, table: GazeTable) -> GazeMetrics:
    """Score densities [n, H, W] against the looks of a table, whose shares are of the maps; means over frames."""
    height, width = predicted.shape[1:]
    parts = []
    for start in range(0, len(table), SCORED_MAPS):
        rows = np.arange(start, min(start + SCORED_MAPS, len(table)))
        looked, maps = table.take(rows), predicted[start : start + len(rows)]
        truth = gaze_density(looked.fixations, looked.sigma, height, width)
        fixations = fixated_pixels(looked.fixations, height, width)
        found = saliency_scores(maps, truth, fixations)
        scores = (found.kl_divergence, found.nss, found.auc_judd, found.correlation, found.similarity, found.auc)
        parts.append(torch.stack([*scores, fixations.sum(dim=(1, 2)).double()]))
    return GazeMetrics(*torch.cat(parts, dim=1).mean(dim=1).tolist())
