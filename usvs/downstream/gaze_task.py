"""The saliency predictor and its loss, as one scripted module (no postponed annotations in this file).

Letters: B frames, P side of a frame and of its map.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.models.encoders import Encoder
from usvs.models.heads import SaliencyHead


class SaliencyLoss(NamedTuple):
    """What one step yields, all scalars and means over the frames that were looked at."""

    total: Tensor
    kl: Tensor  # KL(truth || prediction) in nats
    nss: Tensor  # of the truth's mass instead of single pixels
    correlation: Tensor


class SaliencyTask(nn.Module):
    """A video encoder, a saliency head, and KL(truth || prediction) as the loss.

    Args:
        encoder: the video stream; it is trained on, in place.
        head_width: channels of the head.
        nss_weight: of NSS, taken off the loss.
        correlation_weight: of CC, taken off the loss.
    """

    def __init__(self, encoder: Encoder, head_width: int, nss_weight: float, correlation_weight: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = SaliencyHead(encoder.num_features, head_width)
        self.nss_weight: float = nss_weight
        self.correlation_weight: float = correlation_weight

    def forward(self, frames: Tensor, truth: Tensor) -> SaliencyLoss:
        """Return the loss of frames [B, 1, P, P] with densities [B, P, P]; one that is zero all over is left out."""
        log_density = self.log_density(frames).flatten(1)
        q = truth.flatten(1)
        looked_at = q.sum(dim=1) > 0
        count = looked_at.sum().clamp(min=1)
        kl = ((torch.xlogy(q, q) - q * log_density).sum(dim=1) * looked_at).sum() / count
        p = log_density.exp()
        centred = p - p.mean(dim=1, keepdim=True)
        deviation = centred.square().mean(dim=1).sqrt() + 1e-12
        away = q - q.mean(dim=1, keepdim=True)
        spread = away.square().mean(dim=1).sqrt() + 1e-12
        nss = ((q * centred).sum(dim=1) / deviation * looked_at).sum() / count
        correlation = ((centred * away).mean(dim=1) / (deviation * spread) * looked_at).sum() / count
        total = kl - self.nss_weight * nss - self.correlation_weight * correlation
        return SaliencyLoss(total, kl, nss, correlation)

    def log_density(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to log-densities [B, P, P]: a softmax over all pixels of a map."""
        scores = self.head(self.encoder.forward_features(frames), frames.size(2), frames.size(3))
        log_density = torch.log_softmax(scores.float().flatten(1), dim=1)
        return log_density.view(scores.size(0), scores.size(1), scores.size(2))
