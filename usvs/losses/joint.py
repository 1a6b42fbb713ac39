"""The objective of a step: L = alpha L_cls + beta L_cont + gamma L_ord (Eq. 3).

Letters: N pairs, valid or not, B clips, d width of the embedding.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError
from usvs.losses.contrastive import GlobalPairs, batch_contrastive, no_contrastive_terms
from usvs.losses.correspondence import correspondence_loss
from usvs.losses.frame_order import order_loss
from usvs.losses.settings import ObjectiveSettings


class GlobalBatch(NamedTuple):
    """The batch that several ranks hold parts of."""

    pairs: GlobalPairs  # those that count; their embeddings may be empty where no term asks for them
    pair_count: int
    clip_count: int


class JointLoss(NamedTuple):
    """Scalars; `total` alone carries a gradient worth following. Of a part of a batch: shares that add up to it.

    What is measured on pairs is 0 where there is none, and on a term left out: to average over batches, weigh by
    `valid_pairs`.
    """

    total: Tensor
    correspondence: Tensor  # L_cls, chance ln 2
    contrastive: Tensor  # L_cont, chance beside it
    order: Tensor  # L_ord, chance ln 12
    correspondence_accuracy: Tensor  # chance 1/2
    order_accuracy: Tensor  # chance 1/12
    retrieval_top1: Tensor  # frame -> speech among the batch's positives
    retrieval_top1_speech_to_video: Tensor
    retrieval_chance: Tensor
    margin_mean: Tensor  # of (v.s - v.s') / T
    margin_negative_fraction: Tensor
    contrastive_margin_term: Tensor  # the part of L_cont that NT-Xent lacks
    chance_contrastive: Tensor  # ln of the number of candidates; form eq2: and its margin term at margin 0
    valid_pairs: Tensor  # how many pairs counted


class JointObjective(nn.Module):
    """Eq. 3; a weight of zero leaves its term out of the computation.

    Args:
        settings: weights, form, temperature, normalisation, margin floor.

    Raises:
        ConfigError: when every weight is zero.
    """

    def __init__(self, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.correspondence_weight: float = settings.correspondence_weight
        self.contrastive_weight: float = settings.contrastive_weight
        self.order_weight: float = settings.order_weight
        self.normalise: bool = settings.normalise
        self.temperature: float = settings.temperature
        self.margin_floor: float = settings.margin_floor
        self.form: str = settings.form
        self.candidates: str = settings.candidates
        if not any((self.correspondence_weight, self.contrastive_weight, self.order_weight)):
            raise ConfigError(
                "objective: expected at least one weight above 0, got all three 0: nothing would be learnt"
            )

    def forward(
        self,
        positive_logits: Tensor,
        negative_logits: Tensor,
        video: Tensor,
        positive: Tensor,
        negative: Tensor,
        pair_valid: Tensor,
        order_logits: Tensor,
        order_class: Tensor,
        whole: GlobalBatch | None = None,
    ) -> JointLoss:
        """Return the losses of a batch. The inputs of a term that is left out, or has no data, may be empty.

        Args:
            positive_logits: [N, 2] of `TwoStream.correspondence` for frames and their own speech.
            negative_logits: [N, 2] for the same frames and their hard negatives.
            video: [N, d] embeddings of the frames.
            positive: [N, d] of their speech.
            negative: [N, d] of their hard negatives.
            pair_valid: [N] bool, which pairs count (high affinity, section 2.3).
            order_logits: [B, 12].
            order_class: [B] int64.
            whole: the batch that this is a part of; None: it is all of it.
        """
        valid = pair_valid.nonzero().flatten().to(order_logits.device)  # no wait where the mask is on the host
        pairs: GlobalPairs | None = None
        pair_count, clip_count = -1, -1
        if whole is not None:
            pairs, pair_count, clip_count = whole.pairs, whole.pair_count, whole.clip_count
        zero = order_logits.new_zeros((), dtype=torch.float32)
        correspondence, correspondence_accuracy = zero, zero
        if self.correspondence_weight > 0:
            correspondence, correspondence_accuracy = correspondence_loss(
                positive_logits.index_select(0, valid), negative_logits.index_select(0, valid), pair_count
            )
        contrastive = no_contrastive_terms(zero)
        if self.contrastive_weight > 0:
            contrastive = batch_contrastive(
                video.index_select(0, valid),
                positive.index_select(0, valid),
                negative.index_select(0, valid),
                self.normalise,
                self.temperature,
                self.margin_floor,
                self.form,
                self.candidates,
                pairs,
            )
        order, order_accuracy = zero, zero
        if self.order_weight > 0:
            order, order_accuracy = order_loss(order_logits, order_class, clip_count)
        total = (
            self.correspondence_weight * correspondence
            + self.contrastive_weight * contrastive.loss
            + self.order_weight * order
        )
        return JointLoss(
            total,
            correspondence,
            contrastive.loss,
            order,
            correspondence_accuracy,
            order_accuracy,
            contrastive.retrieval_top1,
            contrastive.retrieval_top1_speech_to_video,
            contrastive.retrieval_chance,
            contrastive.margin_mean,
            contrastive.margin_negative_fraction,
            contrastive.margin_term,
            contrastive.chance,
            zero + valid.size(0),
        )
