"""The contrastive loss in plain torch: the definition that the compiled op is held to.

Notation: n anchors v, each with its positive s and its hard negative s'; M candidates c; d = embedding width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def accumulated_dtype(embeddings: Tensor) -> torch.dtype:
    """Return the dtype of sums over embeddings, and of losses."""
    return torch.float64 if embeddings.dtype == torch.float64 else torch.float32


def normalised(rows: Tensor) -> Tensor:
    """Scale rows to length 1, computed in the dtype of sums: a length in bfloat16 would be off by 2^-9."""
    return F.normalize(rows.to(accumulated_dtype(rows)), dim=1).to(rows.dtype)


def pair_terms(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    temperature: float | Tensor,
    margin_floor: float,
    form: str,
) -> Tensor:
    """Return the terms of a loss beside its logsumexp, [n], in plain torch: those of the positive and hard negative."""
    if form == "logsumexp":
        return 0 * anchors.sum(dim=1)
    positive = (anchors * positives).sum(dim=1) / temperature  # [n]
    if form == "ntxent":
        return -positive
    margin = positive - (anchors * hard_negatives).sum(dim=1) / temperature  # [n]
    clamped = margin.clamp_min(margin_floor)  # the point at which g, or its tangent below margin_floor, is taken
    return -positive - torch.log(-torch.expm1(-clamped)) - (margin - clamped) / math.expm1(margin_floor)


def contrastive_loss_reference(
    anchors: Tensor,  # [n, d]
    positives: Tensor,  # [n, d]
    hard_negatives: Tensor,  # [n, d]
    candidates: Tensor,  # [M, d]
    self_index: Tensor,  # [n]
    temperature: float | Tensor = 1.0,
    margin_floor: float = 1.0,
    form: str = "eq2",
    normalise: bool = False,
) -> Tensor:
    """Compute `contrastive_loss` in plain torch; same arguments and result. Holds the [n, M] similarities."""
    anchors, positives, hard_negatives, candidates = (
        (normalised(rows) if normalise else rows).to(accumulated_dtype(rows))
        for rows in (anchors, positives, hard_negatives, candidates)
    )
    logsumexp, poison = _logsumexp_reference(anchors, candidates, self_index, temperature)
    return (logsumexp + pair_terms(anchors, positives, hard_negatives, temperature, margin_floor, form)) * poison


def _logsumexp_reference(
    anchors: Tensor, candidates: Tensor, self_index: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return [n] logsumexp, without gradient where it is not finite, and [n] factors: 1, or NaN where it is not."""
    sound = anchors.isfinite().all(dim=1) & (self_index < candidates.shape[0]) & (self_index >= -1)
    is_self = torch.arange(candidates.shape[0], device=candidates.device) == self_index[:, None]  # [n, M]
    similarities = torch.where(sound[:, None], anchors, 0.0) @ candidates.T
    logits = (similarities / temperature).masked_fill(is_self, float("-inf"))
    sound = sound & torch.logsumexp(logits.detach(), dim=1).isfinite()
    logsumexp = torch.logsumexp(torch.where(sound[:, None], logits, 0.0), dim=1)
    return logsumexp, torch.where(sound, 1.0, float("nan")).to(logsumexp.dtype)
