"""Contrastive loss of a batch: the candidates of Eq. 2 and the metrics logged with it (section 2.2).

Notation: n pairs, each of a frame v, its speech s and its hard negative s'; d embedding width; N pairs of the global
batch, of which this process has n.

This file holds scripted functions: no postponed annotations, no keyword-only arguments with defaults.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from usvs.ops import contrastive_loss


class GlobalPairs(NamedTuple):
    """Embeddings of all N pairs of the global batch.

    Attributes:
        video: [N, d], with gradient to the process that has the row.
        positive: [N, d].
        negative: [N, d].
        first: row at which the n pairs of this process begin; 0 where N = n.
    """

    video: Tensor
    positive: Tensor
    negative: Tensor
    first: int


class ContrastiveTerms(NamedTuple):
    """Scalars over the pairs; all are 0 without pairs.

    Of a part of a global batch: contributions, which add up over the parts to the values of the global batch.

    Attributes:
        loss: mean of Eq. 2.
        margin_term: part of the loss that NT-Xent does not have, the mean of -g(m); 0 in form ``ntxent``.
        margin_mean: mean of the margins m = (v.s - v.s') / T.
        margin_negative_fraction: fraction of pairs with m <= 0, where Eq. 2 is undefined.
        retrieval_top1: fraction of frames whose own speech is the most similar of the batch's positives.
        retrieval_top1_speech_to_video: fraction of speech pieces whose own frame is the most similar one.
        retrieval_chance: both of them at chance.
        chance: the loss where all similarities are equal.
        reverse: mean NT-Xent loss from speech to frames; 0 where it is not computed.
        reverse_chance: the same at chance.
    """

    loss: Tensor
    margin_term: Tensor
    margin_mean: Tensor
    margin_negative_fraction: Tensor
    retrieval_top1: Tensor
    retrieval_top1_speech_to_video: Tensor
    retrieval_chance: Tensor
    chance: Tensor
    reverse: Tensor
    reverse_chance: Tensor


class StreamTerms(NamedTuple):
    """Contrasts within the streams, scalars; contributions of a part as in `ContrastiveTerms`.

    Attributes:
        frames: mean NT-Xent loss from a frame to another frame of its clip.
        speech: mean NT-Xent loss from a piece of speech to another piece of its clip.
        frames_chance: of the frames' loss.
        speech_chance: of the speech's.
    """

    frames: Tensor
    speech: Tensor
    frames_chance: Tensor
    speech_chance: Tensor


def batch_contrastive(
    video: Tensor,  # [n, d]
    positive: Tensor,  # [n, d]
    negative: Tensor,  # [n, d]
    normalise: bool,
    temperature: float,
    margin_floor: float,
    form: str,
    candidates: str = "all",
    global_pairs: GlobalPairs | None = None,
    symmetric: bool = False,
    groups: int = 1,
) -> ContrastiveTerms:
    """Return the mean of Eq. 2 (or of its NT-Xent form) over the pairs, and metrics.

    The sum of Eq. 2 runs over every embedding of the batch but v itself: all frames, all speech and all hard negatives.

    Args:
        video: [n, d] embeddings of the frames, the anchors.
        positive: [n, d] embeddings of their speech.
        negative: [n, d] embeddings of their hard negatives.
        normalise: scale embeddings to length 1 first; the paper's similarity is the plain dot product.
        temperature: T, divides every similarity; 1 in the paper.
        margin_floor: margin below which Eq. 2 is replaced by its tangent.
        form: ``eq2`` or ``ntxent``; see `usvs.ops.contrastive_loss`.
        candidates: what the sum runs over: ``all``; or ``speech``, positives and hard negatives only, which is not in
            the paper: two frames of one clip are similar, and most of the gradient of ``all`` separates them.
        global_pairs: all pairs of the global batch, where other processes have the rest; the sum runs over all of them.
        symmetric: pair every frame with every piece of its clip, and compute the loss from speech to frames as well.
        groups: K, pairs of a clip, which are consecutive rows; used where `symmetric`.
    """
    if normalise:
        # In float32 at least: bfloat16 is too coarse for the norm of 128 numbers.
        video, positive, negative = _unit(video), _unit(positive), _unit(negative)
    if global_pairs is None:
        global_pairs = GlobalPairs(video, positive, negative, 0)
    elif normalise:
        global_pairs = GlobalPairs(
            _unit(global_pairs.video), _unit(global_pairs.positive), _unit(global_pairs.negative), global_pairs.first
        )
    if video.size(0) == 0:
        # A loss of 0 whose gradients are 0 and not None, so that backward runs and changes nothing.
        everything = torch.cat((global_pairs.video, global_pairs.positive, global_pairs.negative))
        return no_contrastive_terms(0.0 * everything.sum())
    if candidates == "all":
        compared = torch.cat((global_pairs.video, global_pairs.positive, global_pairs.negative))
        self_index = global_pairs.first + torch.arange(video.size(0), device=video.device)
    else:
        compared = torch.cat((global_pairs.positive, global_pairs.negative))
        self_index = torch.full((video.size(0),), -1, dtype=torch.int64, device=video.device)
    own_speech, reverse = positive, torch.zeros_like(video[:, 0])
    if symmetric:  # a mean over dot products is a dot product with the mean
        own_speech = _clip_means(positive, groups)
        frames, nothing = global_pairs.video, torch.full_like(self_index, -1)
        reverse = contrastive_loss(
            positive, _clip_means(video, groups), video, frames, nothing, temperature, margin_floor, "ntxent"
        )
    losses = contrastive_loss(video, own_speech, negative, compared, self_index, temperature, margin_floor, form)
    others = compared.size(0) - 1 if candidates == "all" else compared.size(0)
    own = GlobalPairs(video.detach().float(), positive.detach().float(), negative.detach().float(), global_pairs.first)
    return _terms(losses, reverse, symmetric, others, own, global_pairs, temperature, margin_floor, form)


def no_contrastive_terms(loss: Tensor) -> ContrastiveTerms:
    """Return the terms of a batch without pairs; `loss` is its loss, a zero."""
    zero = loss.detach()
    return ContrastiveTerms(loss, zero, zero, zero, zero, zero, zero, zero, zero, zero)


def stream_contrast(
    video: Tensor,  # [n, d]
    positive: Tensor,  # [n, d]
    groups: int,
    temperature: float,
    global_pairs: GlobalPairs | None = None,
) -> StreamTerms:
    """Return the contrast within each stream: group k of a clip against group k + 1 of all clips, all of length 1.

    Not in the paper. Speech is compared with all hard negatives besides, which are by the same speaker.

    Args:
        video: [n, d] embeddings of the frames; the K of a clip are consecutive.
        positive: [n, d] embeddings of their speech.
        groups: K, at least 2.
        temperature: T.
        global_pairs: all pairs of the global batch; None: these are all. Its hard negatives are used in any case.
    """
    zero = video.new_zeros((), dtype=torch.float32)
    if video.size(0) == 0 or global_pairs is None:
        return StreamTerms(zero, zero, zero, zero)
    frames, pieces = _unit(video), _unit(positive)
    all_frames, all_pieces, negatives = (
        _unit(global_pairs.video), _unit(global_pairs.positive), _unit(global_pairs.negative)
    )  # fmt: skip
    total, clips = all_frames.size(0), all_frames.size(0) // groups
    nothing = torch.full((video.size(0) // groups,), -1, dtype=torch.int64, device=video.device)
    sums = [zero, zero]
    for group in range(groups):
        other = (group + 1) % groups
        anchors, own = frames[group::groups], frames[other::groups]
        sums[0] = (
            sums[0]
            + contrastive_loss(anchors, own, own, all_frames[other::groups], nothing, temperature, 1.0, "ntxent").sum()
        )
        anchors, own = pieces[group::groups], pieces[other::groups]
        compared = torch.cat((all_pieces[other::groups], negatives))
        sums[1] = sums[1] + contrastive_loss(anchors, own, own, compared, nothing, temperature, 1.0, "ntxent").sum()
    fraction = video.size(0) / total
    return StreamTerms(
        sums[0] / total,
        sums[1] / total,
        zero + fraction * math.log(clips),
        zero + fraction * math.log(clips + total),
    )


def margin_term(margin: Tensor, margin_floor: float) -> Tensor:
    """Return -g(m), by which Eq. 2 differs from NT-Xent: -log(1 - exp(-m)), and its tangent below the floor.

    Args:
        margin: m, any shape.
        margin_floor: the m from which on -log(1 - exp(-m)) is used.
    """
    exact = -torch.log(-torch.expm1(-margin.clamp_min(margin_floor)))
    return exact - (margin - margin_floor).clamp_max(0.0) / math.expm1(margin_floor)


def _clip_means(embeddings: Tensor, groups: int) -> Tensor:
    """Replace each of the rows [n, d] by the mean of its clip's `groups` rows."""
    means = embeddings.view(embeddings.size(0) // groups, groups, embeddings.size(1)).mean(dim=1)
    return means.repeat_interleave(groups, dim=0)


def _terms(
    losses: Tensor,
    reverse: Tensor,
    symmetric: bool,
    others: int,  # number of embeddings that an anchor is compared with
    own: GlobalPairs,
    global_pairs: GlobalPairs,
    temperature: float,
    margin_floor: float,
    form: str,
) -> ContrastiveTerms:
    pairs, fraction = global_pairs.video.size(0), own.video.size(0) / global_pairs.video.size(0)
    margin = (own.video * (own.positive - own.negative)).sum(dim=1) / temperature  # [n]
    term, chance = margin.new_zeros(()), margin.new_full((), math.log(others))
    if form == "eq2":
        term = margin_term(margin, margin_floor).sum() / pairs
        chance = chance + margin_term(margin.new_zeros(()), margin_floor)
    ranked = min(pairs, 512)  # bounds the cost of the [N, N] similarities, which are for the log only
    return ContrastiveTerms(
        losses.sum() / pairs,
        term,
        margin.sum() / pairs,
        (margin <= 0).sum() / pairs,
        _top1_fraction(own.video, global_pairs.positive, own.first, ranked),
        _top1_fraction(own.positive, global_pairs.video, own.first, ranked),
        margin.new_full((), fraction / ranked),
        chance * fraction,
        reverse.sum() / pairs,
        margin.new_full((), fraction * math.log(pairs) if symmetric else 0.0),
    )


def _top1_fraction(queries: Tensor, keys: Tensor, first: int, ranked: int) -> Tensor:
    """Return this process's contribution to the fraction of the first `ranked` rows whose own key is the most similar.

    Args:
        queries: [n, d], rows of the global batch from `first` on.
        keys: [N, d], all rows of the global batch.
        first: row of the global batch at which the queries begin.
        ranked: number of rows of the global batch that take part, as queries and as keys.
    """
    queries, keys = queries[: max(ranked - first, 0)], keys[:ranked].detach().float()
    own = first + torch.arange(queries.size(0), device=queries.device)
    return ((queries @ keys.t()).argmax(dim=1) == own).sum() / ranked


def _unit(embeddings: Tensor) -> Tensor:
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    return F.normalize(embeddings, dim=1)
