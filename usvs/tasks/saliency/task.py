"""Gaze-saliency prediction (section 3.3) as a task: where sonographers look, as one density per frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from usvs.data.frame_table import read_frames
from usvs.data.gaze_table import GazeTable, fixated_pixels, gaze_density, gaze_frames
from usvs.data.transforms import crop_grid, draw_augment_params, evaluation_frames, transform_frames, transform_points
from usvs.errors import ConfigError
from usvs.evaluation.folds import GroupBy
from usvs.evaluation.saliency_metrics import SaliencyMetrics, saliency_scores
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.saliency.evaluation_table import gaze_in_crop
from usvs.tasks.saliency.examples import predict_examples
from usvs.tasks.saliency.module import SaliencyModule
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.tasks.task import EvaluationProtocol, Reference, ScoreColumn
from usvs.utils.permutation import UInt64Array

SCORED_MAPS = 256  # at a time


class SaliencyTask:
    """Predict a density of gaze for each frame; implements `usvs.tasks.task.DownstreamTask`."""

    kind = "saliency"
    name = "gaze"
    title = "gaze saliency"
    protocols: Sequence[EvaluationProtocol] = ("finetune",)
    columns: tuple[ScoreColumn, ...] = (
        ScoreColumn("kl", "KL", percent=False),
        ScoreColumn("nss", "NSS", percent=False),
        ScoreColumn("auc", "AUC-Judd", percent=False),
        ScoreColumn("cc", "CC", percent=False),
        ScoreColumn("sim", "SIM", percent=False),
        ScoreColumn("auc_exact", "AUC", percent=False),
    )
    extra_scores: Sequence[str] = ()
    main_score = "kl"
    higher_is_better = False

    def dataset(self, store: PreparedStore, settings: SaliencySettings, group_by: GroupBy = "patient") -> GazeTable:
        """List every n-th frame of the store with a fixation in the window around it."""
        return gaze_frames(store, settings.temporal_stride, settings.window_seconds, settings.sigma_degrees, group_by)

    def test_dataset(self, store: PreparedStore, table: GazeTable, settings: SaliencySettings) -> GazeTable:
        """Return the frames with a fixation in the central crop; fixations and sigma are fractions of that crop."""
        return gaze_in_crop(store, table, settings)

    def labels(self, table: GazeTable) -> NDArray[np.int64]:
        """Refuse: gaze has no classes."""
        raise ConfigError("task 'gaze' has no class labels: expected protocol 'finetune'")

    def module(self, encoder: Encoder, train: GazeTable | None, settings: SaliencySettings) -> SaliencyModule:
        """Build encoder, saliency head and KL loss."""
        return SaliencyModule(encoder, settings.head_width, settings.nss_weight, settings.correlation_weight)

    def batch(
        self,
        store: PreparedStore,
        train: GazeTable,
        rows: NDArray[np.int64],
        augmentation_bits: UInt64Array,
        settings: SaliencySettings,
    ) -> tuple[Tensor, Tensor]:
        """Return augmented frames [b, 1, P, P] and densities [b, P, P] of fixations that move with their frames."""
        chosen = train.take(rows)
        frames, params = read_frames(store, chosen.frames), draw_augment_params(augmentation_bits, settings.augment)
        pixels, side, crop = settings.model.frame_pixels, frames.shape[-1], settings.augment.crop_fraction
        fixations = transform_points(chosen.fixations, params, side, pixels, crop)
        sigma = chosen.sigma * side / crop_grid(side, pixels, crop).extents(params)[:, None]
        return transform_frames(frames, params, pixels, crop), gaze_density(fixations, sigma, pixels, pixels)

    def inputs(self, store: PreparedStore, table: GazeTable, settings: SaliencySettings) -> Tensor:
        """Return the central crops of the frames, [b, 1, P, P]."""
        return evaluation_frames(read_frames(store, table.frames), settings.model.frame_pixels, settings.augment)

    def predict(self, module: SaliencyModule, inputs: Tensor) -> Tensor:
        """Return log-densities [b, P, P]."""
        return module.log_density(inputs)

    def probabilities(self, prediction: Tensor) -> Tensor:
        """Return densities [b, P, P]; log-densities are normalised over the pixels already."""
        return prediction.exp()

    def score_rows(self, prediction: Tensor, table: GazeTable) -> Tensor:
        """Return the scores of each frame and its number of fixated pixels, float64 [b, 7]."""
        return density_scores(prediction.exp(), table)

    def metrics(self, row_scores: Tensor, table: GazeTable) -> SaliencyMetrics:
        """Return the means over frames of `score_rows` [n, 7]."""
        return SaliencyMetrics(*row_scores.T.contiguous().mean(dim=1).tolist())

    def reference(self, store: PreparedStore, table: GazeTable, settings: SaliencySettings) -> Reference:
        """Return the scores of a uniform map."""
        test, pixels = self.test_dataset(store, table, settings), settings.model.frame_pixels
        starts = range(0, len(test), SCORED_MAPS)
        parts = [test.take(np.arange(start, min(start + SCORED_MAPS, len(test)))) for start in starts]
        scored = [density_scores(torch.ones(1, pixels, pixels).expand(len(part), -1, -1), part) for part in parts]
        uniform = self.metrics(torch.cat(scored), test)
        notes = (
            "means over frames; lower KL is better",
            f"{uniform.fixations:.1f} fixated pixels per frame: AUC-Judd of chance is {uniform.auc:.2f}, not 0.5",
        )
        row = tuple(uniform.scores[column.score] for column in self.columns)
        return Reference({"uniform": uniform.to_json(), "auc": "AUC-Judd"}, (("(uniform map)", row),), notes)

    def examples(
        self, store: PreparedStore, test: GazeTable, module: SaliencyModule, settings: SaliencySettings
    ) -> dict[str, NDArray[Any]]:
        """Return frames, ground truth and prediction of a few frames, [k, P, P] each."""
        device = next(module.parameters()).device
        return predict_examples(store, test, lambda inputs: module.log_density(inputs.to(device)), settings)

    def description(self) -> dict[str, Any]:
        """Return the name, the only attribute."""
        return {"name": self.name}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Make the task of a saved model again."""
        return cls()


def density_scores(predicted: Tensor, table: GazeTable) -> Tensor:
    """Score densities against the fixations of a table.

    Args:
        predicted: densities [b, H, W].
        table: the b frames; fixations and sigma are fractions of the maps.

    Returns:
        KL, NSS, AUC-Judd, CC, SIM, AUC and the number of fixated pixels of each frame, float64 [b, 7].
    """
    height, width = predicted.shape[1:]
    fixations = fixated_pixels(table.fixations, height, width)
    found = saliency_scores(predicted, gaze_density(table.fixations, table.sigma, height, width), fixations)
    scores = (found.kl_divergence, found.nss, found.auc_judd, found.correlation, found.similarity, found.auc)
    return torch.stack([*scores, fixations.sum(dim=(1, 2)).double()], dim=1)
