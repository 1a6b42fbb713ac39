"""The joint objective of pretraining: L = alpha L_cls + beta L_cont + gamma L_ord (Eq. 3).

Notation: N pairs, valid or not, B clips, d embedding width.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError
from usvs.losses.contrastive import (
    GlobalPairs,
    StreamTerms,
    batch_contrastive,
    no_contrastive_terms,
    stream_contrast,
)
from usvs.losses.correspondence import correspondence_loss
from usvs.losses.frame_order import order_loss
from usvs.losses.settings import ObjectiveSettings


class GlobalBatch(NamedTuple):
    """The batch that several processes or micro-batches have parts of.

    Attributes:
        pairs: embeddings of all valid pairs; empty where the loss does not compare pairs with each other.
        pair_count: number of valid pairs.
        clip_count: number of clips with the order task.
    """

    pairs: GlobalPairs
    pair_count: int
    clip_count: int


class JointLoss(NamedTuple):
    """Losses and metrics of a batch, scalars. Of a part of a global batch: contributions that add up over the parts.

    Metrics of pairs are 0 in a batch without valid pairs and for a term of weight 0: weight them by `valid_pairs` in
    means over batches.

    Attributes:
        total: Eq. 3, the only field whose gradient is used.
        correspondence: L_cls; ln 2 at chance.
        contrastive: L_cont; `chance_contrastive` at chance.
        order: L_ord; ln 12 at chance.
        correspondence_accuracy: 1/2 at chance.
        order_accuracy: 1/12 at chance.
        retrieval_top1: from a frame to its speech among the batch's positives; `retrieval_chance` at chance.
        retrieval_top1_speech_to_video: from speech to its frame.
        retrieval_chance: 1 / number of pairs.
        margin_mean: mean of (v.s - v.s') / T.
        margin_negative_fraction: fraction of pairs whose margin is not positive.
        contrastive_margin_term: part of L_cont that NT-Xent does not have.
        chance_contrastive: ln of the number of candidates; in form ``eq2`` plus the margin term at margin 0.
        valid_pairs: number of pairs that counted.
        reverse: from speech to frames; `chance_reverse` at chance.
        stream_frames: contrast of the frames of a clip with those of others; `chance_stream_frames` at chance.
        stream_speech: the same of pieces of speech.
        chance_reverse: ln of the number of frames.
        chance_stream_frames: ln of the number of clips.
        chance_stream_speech: ln of the number of clips and hard negatives.
    """

    total: Tensor
    correspondence: Tensor
    contrastive: Tensor
    order: Tensor
    correspondence_accuracy: Tensor
    order_accuracy: Tensor
    retrieval_top1: Tensor
    retrieval_top1_speech_to_video: Tensor
    retrieval_chance: Tensor
    margin_mean: Tensor
    margin_negative_fraction: Tensor
    contrastive_margin_term: Tensor
    chance_contrastive: Tensor
    valid_pairs: Tensor
    reverse: Tensor
    stream_frames: Tensor
    stream_speech: Tensor
    chance_reverse: Tensor
    chance_stream_frames: Tensor
    chance_stream_speech: Tensor


class JointObjective(nn.Module):
    """Eq. 3, the default `usvs.losses.PretrainingLoss`; a term of weight 0 is not computed.

    Args:
        settings: weights, form, temperature, normalisation, margin floor.
        groups: K, the pairs of a clip.

    Attributes:
        uses_pairs: whether a term uses pairs of frames and speech.
        uses_order: whether the order term is there.
        uses_global_pairs: whether pairs are compared with all others of the global batch.

    Raises:
        ConfigError: where every weight is 0.
    """

    def __init__(self, settings: ObjectiveSettings, groups: int = 1) -> None:
        super().__init__()
        if settings.stream_weight > 0 and groups < 2:
            raise ConfigError(
                f"objective.stream_weight {settings.stream_weight}: expected clips.groups_per_clip of at least 2, got"
                f" {groups}: two frames of a clip are compared"
            )
        self.groups: int = groups
        self.symmetric: bool = settings.symmetric
        self.stream_weight: float = settings.stream_weight
        self.correspondence_weight: float = settings.correspondence_weight
        self.contrastive_weight: float = settings.contrastive_weight
        self.order_weight: float = settings.order_weight
        self.normalise: bool = settings.normalise
        self.temperature: float = settings.temperature
        self.margin_floor: float = settings.margin_floor
        self.form: str = settings.form
        self.candidates: str = settings.candidates
        self.uses_pairs: bool = self.correspondence_weight > 0 or self.contrastive_weight > 0 or self.stream_weight > 0
        self.uses_order: bool = self.order_weight > 0
        self.uses_global_pairs: bool = self.contrastive_weight > 0 or self.stream_weight > 0
        if not (self.uses_pairs or self.uses_order):
            raise ConfigError(
                "objective: expected at least one weight above 0 of correspondence_weight, contrastive_weight and"
                " order_weight, got 0 for all"
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
        global_batch: GlobalBatch | None = None,
    ) -> JointLoss:
        """Return the losses of a batch. The inputs of a term of weight 0, or without data, may be empty.

        Args:
            positive_logits: [N, 2] of `TwoStream.correspondence` for frames and their own speech.
            negative_logits: [N, 2] for the same frames and their hard negatives.
            video: [N, d] embeddings of the frames.
            positive: [N, d] embeddings of their speech.
            negative: [N, d] embeddings of their hard negatives.
            pair_valid: [N] bool, pairs that count (high affinity, section 2.3).
            order_logits: [B, 12].
            order_class: [B] int64.
            global_batch: the batch that these rows are a part of; None: they are all of it.
        """
        valid = pair_valid.nonzero().flatten().to(order_logits.device)  # no synchronisation for a mask on the CPU
        pairs: GlobalPairs | None = None
        pair_count, clip_count = -1, -1
        if global_batch is not None:
            pairs, pair_count, clip_count = global_batch.pairs, global_batch.pair_count, global_batch.clip_count
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
                self.symmetric,
                self.groups,
            )
        streams = StreamTerms(zero, zero, zero, zero)
        if self.stream_weight > 0:
            rows = GlobalPairs(
                video.index_select(0, valid), positive.index_select(0, valid), negative.index_select(0, valid), 0
            )
            streams = stream_contrast(
                rows.video, rows.positive, self.groups, self.temperature, rows if pairs is None else pairs
            )
        order, order_accuracy = zero, zero
        if self.order_weight > 0:
            order, order_accuracy = order_loss(order_logits, order_class, clip_count)
        matching = 0.5 * (contrastive.loss + contrastive.reverse) if self.symmetric else contrastive.loss
        total = (
            self.correspondence_weight * correspondence
            + self.contrastive_weight * matching
            + self.order_weight * order
            + self.stream_weight * (streams.frames + streams.speech)
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
            contrastive.reverse,
            streams.frames,
            streams.speech,
            contrastive.reverse_chance,
            streams.frames_chance,
            streams.speech_chance,
        )
