"""Everything a pretraining step computes, from a batch's tensors to its losses; the module that is scripted.

Letters: B clips, K pairs a clip, P pixels a side, S samples a piece, n pairs that count, d width of the embedding.
No postponed annotations in this file: they do not script.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.audio.spectrogram import LogSpectrogram
from usvs.data.pair_batch import PairBatch
from usvs.losses.contrastive import GlobalPairs
from usvs.losses.joint import GlobalBatch, JointLoss, JointObjective
from usvs.models.two_stream import TwoStream
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.distributed import Ranks, gather_rows


class PairOutputs(NamedTuple):
    """What the two streams say of a batch, as the objective takes it."""

    positive_logits: Tensor  # [n, 2]
    negative_logits: Tensor  # [n, 2]
    video: Tensor  # [n, d]
    positive: Tensor  # [n, d]
    negative: Tensor  # [n, d]
    pair_valid: Tensor  # [n]
    order_logits: Tensor  # [B, 12]
    order_class: Tensor  # [B]


class PretrainModel(nn.Module):
    """Spectrograms, the two streams and the joint objective (sections 2.1 to 2.4).

    Attributes:
        spectrogram: waveform to log-spectrogram.
        streams: both encoders and their heads; `streams.video` is what is kept.
        objective: Eq. 3.
    """

    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__()
        self.spectrogram = LogSpectrogram(settings.spectrogram)
        self.streams = TwoStream(settings.model)
        self.objective = JointObjective(settings.objective)
        self.uses_pairs: bool = uses_pairs(settings.objective)
        self.uses_order: bool = settings.objective.order_weight > 0

    def forward(
        self,
        frames: Tensor,
        order_frames: Tensor,
        speech: Tensor,
        negative_speech: Tensor,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> JointLoss:
        """Return the losses of a batch.

        Args:
            frames: [B, K, 1, P, P] standardised gray frames of the pairs.
            order_frames: [B, 4, 1, P, P] in the order shown.
            speech: [B, K, S] waveforms.
            negative_speech: [B, K, S].
            pair_valid: [B] bool, which clips' pairs count; left on the host, since it decides how much is run.
            order_class: [B] int64.
            order_valid: [B] bool, which clips show the order task; on the host as well.
        """
        said = self.outputs(frames, order_frames, speech, negative_speech, pair_valid, order_class, order_valid)
        return self.loss(said)

    def outputs(
        self,
        frames: Tensor,
        order_frames: Tensor,
        speech: Tensor,
        negative_speech: Tensor,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> PairOutputs:
        """Run both streams, each network once, over the clips whose pairs count and over those whose order is asked."""
        counted = self._rows(pair_valid)  # known where pair_valid is, so that nobody waits for a device
        rows = counted.to(frames.device)
        spectrograms = self._spectrograms(speech.index_select(0, rows), negative_speech.index_select(0, rows))
        ordered = self._order_rows(order_valid).to(frames.device)
        out = self.streams(
            frames.index_select(0, rows).flatten(0, 1), order_frames.index_select(0, ordered), spectrograms, ordered
        )
        pairs = out.video_features.size(0)
        features, embeddings = out.speech_features, out.speech_embeddings
        return PairOutputs(
            self.streams.correspondence(out.video_features, features[:pairs]),
            self.streams.correspondence(out.video_features, features[pairs:]),
            out.video_embeddings,
            embeddings[:pairs],
            embeddings[pairs:],
            pair_valid.index_select(0, counted).repeat_interleave(frames.size(1)),
            out.order_logits,
            order_class.index_select(0, ordered),
        )

    def loss(self, said: PairOutputs, whole: GlobalBatch | None = None) -> JointLoss:
        """Return Eq. 3 of what the streams said; of a part of a batch, its shares of it."""
        losses: JointLoss = self.objective(
            said.positive_logits,
            said.negative_logits,
            said.video,
            said.positive,
            said.negative,
            said.pair_valid,
            said.order_logits,
            said.order_class,
            whole,
        )
        return losses

    def global_batch(self, said: PairOutputs, ranks: Ranks) -> GlobalBatch:
        """Meet the other ranks: the embeddings of everybody's pairs that count, with gradient, and the counts."""
        valid = said.pair_valid.nonzero().flatten()
        counts = ranks.gather_counts((valid.size(0), said.order_logits.size(0)))  # [ranks, 2]
        first, pairs = int(counts[: ranks.number, 0].sum()), int(counts[:, 0].sum())
        embeddings = torch.cat((said.video, said.positive, said.negative), dim=1)
        if self.objective.contrastive_weight > 0:
            own = embeddings.index_select(0, valid.to(embeddings.device))
            wide = torch.promote_types(own.dtype, torch.float32)  # in which their gradients are summed
            embeddings = gather_rows(own.to(wide), first, pairs, ranks).to(own.dtype)
        video, positive, negative = embeddings.chunk(3, dim=1)
        return GlobalBatch(GlobalPairs(video, positive, negative, first), pairs, int(counts[:, 1].sum()))

    def _rows(self, pair_valid: Tensor) -> Tensor:
        """The clips [n / K] whose frames and speech are run."""
        if not self.uses_pairs:
            return torch.zeros(0, dtype=torch.int64)
        return pair_valid.nonzero().flatten()

    def _order_rows(self, order_valid: Tensor) -> Tensor:
        """The clips whose order frames are run."""
        if not self.uses_order:
            return torch.zeros(0, dtype=torch.int64)
        return order_valid.nonzero().flatten()

    def _spectrograms(self, speech: Tensor, negative_speech: Tensor) -> Tensor:
        """Map [n / K, K, S] twice to [2n, 1, bands, time]."""
        pieces = torch.cat((speech.flatten(0, 1), negative_speech.flatten(0, 1)))
        spectrograms: Tensor = self.spectrogram(pieces)
        return spectrograms


def model_inputs(batch: PairBatch) -> tuple[Tensor, ...]:
    """Return a batch's tensors in the order in which `PretrainModel.forward` takes them."""
    return (
        batch.frames,
        batch.order_frames,
        batch.speech,
        batch.negative_speech,
        batch.pair_valid,
        batch.order_class,
        batch.order_valid,
    )
