"""Eq. 2 over a batch: which embeddings are held against which, and what to watch (section 2.2).

n pairs, each a frame v, its speech s and its hard negative s'; d width of the embedding.

This file holds scripted functions: no postponed annotations, no keyword-only arguments with defaults.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from usvs.ops import contrastive_loss


class ContrastiveTerms(NamedTuple):
    """Scalars; all are 0 without pairs."""

    loss: Tensor  # mean over the pairs
    margin_term: Tensor  # the share of it that is not log-sum-exp minus similarity: mean of -g(m); 0 in form ntxent
    margin_mean: Tensor  # of m = (v.s - v.s') / T
    margin_negative_fraction: Tensor  # share of pairs with m <= 0, where Eq. 2 has no value
    retrieval_top1: Tensor  # share of frames nearest to their own speech among the batch's positives
    retrieval_top1_speech_to_video: Tensor  # share of speech pieces nearest to their own frame
    retrieval_chance: Tensor
    chance: Tensor  # the loss where every similarity is equal


def batch_contrastive(
    video: Tensor,  # [n, d]
    positive: Tensor,  # [n, d]
    negative: Tensor,  # [n, d]
    normalise: bool,
    temperature: float,
    margin_floor: float,
    form: str,
    candidates: str = "all",
) -> ContrastiveTerms:
    """Return Eq. 2 (or its NT-Xent form), its mean over the pairs, and what to watch of it.

    The sum of Eq. 2 runs over every embedding of the batch but v itself: all frames, all speech and all hard negatives.

    Args:
        video: [n, d] embeddings of the frames, the anchors.
        positive: [n, d] of their speech.
        negative: [n, d] of their hard negatives.
        normalise: scale embeddings to length 1 first (ours; the paper's similarity is the plain dot product).
        temperature: T, divides every similarity (ours; 1 in the paper).
        margin_floor: where Eq. 2 is continued by its tangent.
        form: ``eq2`` or ``ntxent``; see `usvs.ops.contrastive_loss`.
        candidates: what the sum runs over: ``all``, or ``speech`` alone (ours), positives and hard negatives, which
            leaves out the frames: two of one clip look alike, and ``all`` spends its force on telling them apart.
    """
    if video.size(0) == 0:
        # 0, with gradients that are 0 and not missing, so that backward runs and changes nothing.
        return no_contrastive_terms(torch.cat((video, positive, negative)).sum())
    if normalise:
        # In float32 at least: bfloat16's two digits are too few for the length of 128 numbers.
        video, positive, negative = _unit(video), _unit(positive), _unit(negative)
    if candidates == "all":
        among = torch.cat((video, positive, negative))
        self_index = torch.arange(video.size(0), device=video.device)
    else:
        among = torch.cat((positive, negative))
        self_index = torch.full((video.size(0),), -1, dtype=torch.int64, device=video.device)
    losses = contrastive_loss(video, positive, negative, among, self_index, temperature, margin_floor, form)
    return _watch(
        losses,
        3 * video.size(0) - 1 if candidates == "all" else 2 * video.size(0),
        video.detach().float(),
        positive.detach().float(),
        negative.detach().float(),
        temperature,
        margin_floor,
        form,
    )


def no_contrastive_terms(loss: Tensor) -> ContrastiveTerms:
    """Return the terms of a batch without pairs, whose loss is the 0 given."""
    zero = loss.detach()
    return ContrastiveTerms(loss, zero, zero, zero, zero, zero, zero, zero)


def margin_term(margin: Tensor, margin_floor: float) -> Tensor:
    """Return -g(m): what Eq. 2 adds to NT-Xent, -log(1 - exp(-m)), with its tangent below the floor.

    Args:
        margin: m, any shape.
        margin_floor: the m from which on Eq. 2 is taken to the letter.
    """
    exact = -torch.log(-torch.expm1(-margin.clamp_min(margin_floor)))
    return exact - (margin - margin_floor).clamp_max(0.0) / math.expm1(margin_floor)


def _watch(
    losses: Tensor,
    others: int,  # how many embeddings an anchor is held against
    video: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperature: float,
    margin_floor: float,
    form: str,
) -> ContrastiveTerms:
    pairs = video.size(0)
    margin = (video * (positive - negative)).sum(dim=1) / temperature  # [n]
    term, chance = margin.new_zeros(()), margin.new_full((), math.log(others))
    if form == "eq2":
        term = margin_term(margin, margin_floor).mean()
        chance = chance + margin_term(margin.new_zeros(()), margin_floor)
    shown = min(pairs, 512)  # a large batch need not pay n x n similarities for a line in the log
    similarity = video[:shown] @ positive[:shown].t()  # [shown, shown]
    own = torch.arange(shown, device=video.device)
    return ContrastiveTerms(
        losses.mean(),
        term,
        margin.mean(),
        (margin <= 0).float().mean(),
        (similarity.argmax(dim=1) == own).float().mean(),
        (similarity.argmax(dim=0) == own).float().mean(),
        margin.new_full((), 1.0 / shown),
        chance,
    )


def _unit(embeddings: Tensor) -> Tensor:
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    return F.normalize(embeddings, dim=1)
