"""The plane detector and its loss, as one scripted module (no postponed annotations in this file)."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.models.encoders import Encoder
from usvs.models.heads import PlaneHead

ClassWeights = Literal["none", "inverse", "inverse_sqrt"]


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
        logits = self.logits(frames)
        total = F.cross_entropy(logits.float(), planes, weight=self.class_weights)
        accuracy = (logits.argmax(dim=1) == planes).float().mean()
        return PlaneLoss(total, accuracy)

    def logits(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to class scores [B, classes]."""
        logits: Tensor = self.head(self.encoder(frames))
        return logits


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
