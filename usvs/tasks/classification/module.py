"""The frame classifier and its loss, as one scripted module (no postponed annotations in this file).

Letters: B frames, P side of a frame.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.models.encoder import Encoder
from usvs.models.heads import PlaneHead
from usvs.training.distributed import Ranks

ClassWeights = Literal["none", "inverse", "inverse_sqrt"]


class ClassificationOutputs(NamedTuple):
    """The network's outputs for a batch, as the loss takes them."""

    logits: Tensor  # [B, classes]
    labels: Tensor  # [B]


class GlobalLabels(NamedTuple):
    """What the loss of a part needs to know of the global batch, over all ranks and micro-batches."""

    weight: Tensor  # sum of the class weights of all its frames
    frames: int


class ClassificationLoss(NamedTuple):
    """The loss of one step, and the fraction of frames whose class is predicted correctly; scalars."""

    total: Tensor
    accuracy: Tensor


class ClassificationModule(nn.Module):
    """A video encoder, a linear classification head and weighted cross-entropy.

    Args:
        encoder: the video encoder; trained in place.
        classes: number of classes.
        weights: float32 [classes], the weight of each class in the loss.
    """

    def __init__(self, encoder: Encoder, classes: int, weights: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.head: PlaneHead = PlaneHead(encoder.num_features, classes)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor

    def forward(self, frames: Tensor, labels: Tensor) -> ClassificationLoss:
        """Return the loss of frames [B, 1, P, P] with class numbers [B]."""
        return self.loss(self.outputs(frames, labels))

    def outputs(self, frames: Tensor, labels: Tensor) -> ClassificationOutputs:
        """Run the network."""
        return ClassificationOutputs(self.logits(frames), labels)

    def loss(self, outputs: ClassificationOutputs, global_batch: GlobalLabels | None = None) -> ClassificationLoss:
        """Return the frames' weighted mean cross-entropy; for a part of a batch, its part of the batch's loss."""
        weight, frames = self._weight(outputs.labels), outputs.labels.size(0)
        if global_batch is not None:
            weight, frames = global_batch.weight, global_batch.frames
        logits = outputs.logits.to(torch.promote_types(outputs.logits.dtype, torch.float32))
        total = F.cross_entropy(logits, outputs.labels, weight=self.class_weights, reduction="sum") / weight
        return ClassificationLoss(total, (outputs.logits.argmax(dim=1) == outputs.labels).sum() / frames)

    def global_batch(self, outputs: ClassificationOutputs, ranks: Ranks) -> GlobalLabels:
        """Sum the weights and the number of frames over all ranks."""
        frames = int(ranks.gather_counts((outputs.labels.size(0),)).sum())
        return GlobalLabels(ranks.total(self._weight(outputs.labels)), frames)

    def logits(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to class scores [B, classes]."""
        logits: Tensor = self.head(self.encoder(frames))
        return logits

    def _weight(self, labels: Tensor) -> Tensor:
        return self.class_weights.index_select(0, labels).sum()


def class_weights(labels: NDArray[np.int64], classes: int, kind: ClassWeights) -> Tensor:
    """Return float32 [classes] weights against class imbalance (ours; the paper does not mention any).

    With q the fraction of a class among the training frames: 1 / q (``inverse``), its square root (``inverse_sqrt``)
    or 1; scaled so that the mean weight of a training frame is 1. A class without a frame gets 0.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    power = {"none": 0.0, "inverse": 1.0, "inverse_sqrt": 0.5}[kind]
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights.astype(np.float32))
