"""The saliency predictor and its loss, as one scripted module (no postponed annotations in this file).

Letters: B frames, P side of a frame and of its map.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.models.encoder import Encoder
from usvs.models.heads import SaliencyHead
from usvs.training.distributed import Ranks


class SaliencyOutputs(NamedTuple):
    """The network's outputs for a batch, as the loss takes them."""

    log_density: Tensor  # [B, P, P]
    ground_truth: Tensor  # [B, P, P]


class SaliencyLoss(NamedTuple):
    """The loss of one step and its terms: scalars, means over the frames with fixations."""

    total: Tensor
    kl: Tensor  # KL(ground truth || prediction) in nats
    nss: Tensor  # of the ground-truth density instead of single pixels
    correlation: Tensor


class SaliencyModule(nn.Module):
    """A video encoder, a saliency head, and KL(ground truth || prediction) as the loss.

    Args:
        encoder: the video encoder; trained in place.
        head_width: channels of the head.
        nss_weight: of NSS, which is subtracted from the loss.
        correlation_weight: of CC, which is subtracted from the loss.
    """

    def __init__(self, encoder: Encoder, head_width: int, nss_weight: float, correlation_weight: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head: SaliencyHead = SaliencyHead(encoder.num_features, head_width)
        self.nss_weight: float = nss_weight
        self.correlation_weight: float = correlation_weight

    def forward(self, frames: Tensor, ground_truth: Tensor) -> SaliencyLoss:
        """Return the loss of frames [B, 1, P, P] with densities [B, P, P]; those that are all zero are left out."""
        return self.loss(self.outputs(frames, ground_truth))

    def outputs(self, frames: Tensor, ground_truth: Tensor) -> SaliencyOutputs:
        """Run the network."""
        return SaliencyOutputs(self.log_density(frames), ground_truth)

    def loss(self, outputs: SaliencyOutputs, global_batch: Tensor | None = None) -> SaliencyLoss:
        """Return the loss; for a part of a batch, its part of the batch's loss.

        Args:
            outputs: the network's log-densities and the ground truth.
            global_batch: [], number of frames with fixations in the global batch; None: `outputs` has all of it.
        """
        log_density, q = outputs.log_density.flatten(1), outputs.ground_truth.detach().flatten(1)
        has_fixations = q.sum(dim=1) > 0
        count = (has_fixations.sum() if global_batch is None else global_batch).clamp(min=1)
        kl = ((torch.xlogy(q, q) - q * log_density).sum(dim=1) * has_fixations).sum() / count
        p = log_density.exp()
        centred = p - p.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1)
        # of a constant map 1 instead of 0: the gradient of sqrt(0) is infinite, and NaN after the product with 0
        deviation = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt() + 1e-12
        centred_truth = q - q.mean(dim=1, keepdim=True)
        spread = centred_truth.square().mean(dim=1).sqrt() + 1e-12
        nss = ((q * centred).sum(dim=1) / deviation * has_fixations).sum() / count
        correlation = ((centred * centred_truth).mean(dim=1) / (deviation * spread) * has_fixations).sum() / count
        total = kl - self.nss_weight * nss - self.correlation_weight * correlation
        return SaliencyLoss(total, kl, nss, correlation)

    def global_batch(self, outputs: SaliencyOutputs, ranks: Ranks) -> Tensor:
        """Sum the number of frames with fixations over all ranks."""
        return ranks.total((outputs.ground_truth.flatten(1).sum(dim=1) > 0).sum())

    def log_density(self, frames: Tensor) -> Tensor:
        """Map frames [B, 1, P, P] to log-densities [B, P, P]: a softmax over all pixels of a map."""
        scores = self.head(self.encoder.forward_features(frames), frames.size(2), frames.size(3))
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        log_density = torch.log_softmax(wide.flatten(1), dim=1)
        return log_density.view(scores.size(0), scores.size(1), scores.size(2))
