"""The saliency predictor and its loss, as one scripted module (no postponed annotations in this file).

Letters: B frames, P side of a frame and of its map.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.models.heads import SaliencyHead
from usvs.models.registry import Encoder
from usvs.training.distributed import Ranks


class SaliencyOutputs(NamedTuple):
    """What the network says of a batch, as the loss takes it."""

    log_density: Tensor  # [B, P, P]
    truth: Tensor  # [B, P, P]


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
        return self.loss(self.outputs(frames, truth))

    def outputs(self, frames: Tensor, truth: Tensor) -> SaliencyOutputs:
        """Run the network."""
        return SaliencyOutputs(self.log_density(frames), truth)

    def loss(self, said: SaliencyOutputs, whole: Tensor | None = None) -> SaliencyLoss:
        """Return the loss of what the network said; of a part of a batch, its share of it.

        Args:
            said: the network's densities and the true ones.
            whole: [], how many frames of the whole batch were looked at; None: this is all of it.
        """
        log_density, q = said.log_density.flatten(1), said.truth.detach().flatten(1)
        looked_at = q.sum(dim=1) > 0
        count = (looked_at.sum() if whole is None else whole).clamp(min=1)
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

    def global_batch(self, said: SaliencyOutputs, ranks: Ranks) -> Tensor:
        """Meet the other ranks: how many of everybody's frames were looked at."""
        return ranks.total((said.truth.flatten(1).sum(dim=1) > 0).sum())

    def log_density(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to log-densities [B, P, P]: a softmax over all pixels of a map."""
        scores = self.head(self.encoder.forward_features(frames), frames.size(2), frames.size(3))
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        log_density = torch.log_softmax(wide.flatten(1), dim=1)
        return log_density.view(scores.size(0), scores.size(1), scores.size(2))
