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


class GlobalPairs(NamedTuple):
    """All N pairs of a batch of which several ranks hold n each; N = n and `first` 0 where one holds them all."""

    video: Tensor  # [N, d], with a gradient to whoever holds the row
    positive: Tensor  # [N, d]
    negative: Tensor  # [N, d]
    first: int  # the row at which this rank's own begin


class ContrastiveTerms(NamedTuple):
    """Scalars; all are 0 without pairs. Of a part of a batch: its shares, which add up to the whole batch's."""

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
    whole: GlobalPairs | None = None,
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
        whole: the batch that these pairs are rows of, where other ranks hold the rest; the sum runs over all of it.
    """
    if normalise:
        # In float32 at least: bfloat16's two digits are too few for the length of 128 numbers.
        video, positive, negative = _unit(video), _unit(positive), _unit(negative)
    if whole is None:
        whole = GlobalPairs(video, positive, negative, 0)
    elif normalise:
        whole = GlobalPairs(_unit(whole.video), _unit(whole.positive), _unit(whole.negative), whole.first)
    if video.size(0) == 0:
        # 0, with gradients that are 0 and not missing, so that backward runs and changes nothing.
        return no_contrastive_terms(0.0 * torch.cat((whole.video, whole.positive, whole.negative)).sum())
    if candidates == "all":
        among = torch.cat((whole.video, whole.positive, whole.negative))
        self_index = whole.first + torch.arange(video.size(0), device=video.device)
    else:
        among = torch.cat((whole.positive, whole.negative))
        self_index = torch.full((video.size(0),), -1, dtype=torch.int64, device=video.device)
    losses = contrastive_loss(video, positive, negative, among, self_index, temperature, margin_floor, form)
    others = among.size(0) - 1 if candidates == "all" else among.size(0)
    own = GlobalPairs(video.detach().float(), positive.detach().float(), negative.detach().float(), whole.first)
    return _watch(losses, others, own, whole, temperature, margin_floor, form)


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
    own: GlobalPairs,
    whole: GlobalPairs,
    temperature: float,
    margin_floor: float,
    form: str,
) -> ContrastiveTerms:
    pairs, share = whole.video.size(0), own.video.size(0) / whole.video.size(0)
    margin = (own.video * (own.positive - own.negative)).sum(dim=1) / temperature  # [n]
    term, chance = margin.new_zeros(()), margin.new_full((), math.log(others))
    if form == "eq2":
        term = margin_term(margin, margin_floor).sum() / pairs
        chance = chance + margin_term(margin.new_zeros(()), margin_floor)
    shown = min(pairs, 512)  # a large batch need not pay N x N similarities for a line in the log
    return ContrastiveTerms(
        losses.sum() / pairs,
        term,
        margin.sum() / pairs,
        (margin <= 0).sum() / pairs,
        _nearest_is_own(own.video, whole.positive, own.first, shown),
        _nearest_is_own(own.positive, whole.video, own.first, shown),
        margin.new_full((), share / shown),
        chance * share,
    )


def _nearest_is_own(asking: Tensor, among: Tensor, first: int, shown: int) -> Tensor:
    """The share of the first `shown` rows of the batch that are here, [n, d] from `first` on, and find their own."""
    asking, among = asking[: max(shown - first, 0)], among[:shown].detach().float()
    own = first + torch.arange(asking.size(0), device=asking.device)
    return ((asking @ among.t()).argmax(dim=1) == own).sum() / shown


def _unit(embeddings: Tensor) -> Tensor:
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    return F.normalize(embeddings, dim=1)
