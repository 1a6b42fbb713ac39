"""The plane detector and its loss, as one scripted module (no postponed annotations in this file)."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.models.heads import PlaneHead
from usvs.models.registry import Encoder
from usvs.training.distributed import Ranks

ClassWeights = Literal["none", "inverse", "inverse_sqrt"]


class PlaneOutputs(NamedTuple):
    """What the network says of a batch, as the loss takes it."""

    logits: Tensor  # [B, classes]
    planes: Tensor  # [B]


class GlobalLabels(NamedTuple):
    """The batch that several ranks hold parts of."""

    weight: Tensor  # of all its frames
    frames: int


class PlaneLoss(NamedTuple):
    """What one step of fine-tuning yields, all scalars: the loss, and the share of frames named rightly."""

    total: Tensor
    accuracy: Tensor


class PlaneTask(nn.Module):
    """A video encoder, a plane head and weighted cross-entropy.

    Args:
        encoder: the video stream; it is trained on, in place.
        classes: how many planes.
        weights: float32 [classes], the loss's weight of each class.
    """

    def __init__(self, encoder: Encoder, classes: int, weights: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = PlaneHead(encoder.num_features, classes)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor

    def forward(self, frames: Tensor, planes: Tensor) -> PlaneLoss:
        """Return the loss of frames [B, 1, P, P] with class numbers [B]."""
        return self.loss(self.outputs(frames, planes))

    def outputs(self, frames: Tensor, planes: Tensor) -> PlaneOutputs:
        """Run the network."""
        return PlaneOutputs(self.logits(frames), planes)

    def loss(self, said: PlaneOutputs, whole: GlobalLabels | None = None) -> PlaneLoss:
        """Return the frames' weighted mean cross-entropy; of a part of a batch, its share of it."""
        weight, frames = self._weight(said.planes), said.planes.size(0)
        if whole is not None:
            weight, frames = whole.weight, whole.frames
        logits = said.logits.to(torch.promote_types(said.logits.dtype, torch.float32))
        total = F.cross_entropy(logits, said.planes, weight=self.class_weights, reduction="sum") / weight
        return PlaneLoss(total, (said.logits.argmax(dim=1) == said.planes).sum() / frames)

    def global_batch(self, said: PlaneOutputs, ranks: Ranks) -> GlobalLabels:
        """Meet the other ranks: what everybody's frames weigh, and how many they are."""
        frames = int(ranks.gather_counts((said.planes.size(0),)).sum())
        return GlobalLabels(ranks.total(self._weight(said.planes)), frames)

    def logits(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to class scores [B, classes]."""
        logits: Tensor = self.head(self.encoder(frames))
        return logits

    def _weight(self, planes: Tensor) -> Tensor:
        return self.class_weights.index_select(0, planes).sum()


def class_weights(planes: NDArray[np.int64], classes: int, kind: ClassWeights) -> Tensor:
    """Return float32 [classes] weights against imbalance (ours; the paper says nothing of it).

    With share q of a class among the training frames: 1 / q (``inverse``), its square root (``inverse_sqrt``)
    or 1; scaled so that the mean weight of a training frame is 1. A class without a frame gets 0.
    """
    counts = np.bincount(planes, minlength=classes).astype(np.float64)
    power = {"none": 0.0, "inverse": 1.0, "inverse_sqrt": 0.5}[kind]
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights.astype(np.float32))
