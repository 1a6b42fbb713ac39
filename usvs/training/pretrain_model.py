"""Everything a pretraining step computes, from a batch's tensors to its losses; the module that is scripted.

Letters: B clips, K pairs a clip, P pixels a side, S samples a piece, n pairs that count, d width of the embedding.
No postponed annotations in this file: they do not script.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.config import PretrainSettings
from usvs.loading.batch import PairBatch
from usvs.models.two_stream import TwoStream
from usvs.objectives.joint import JointLoss, JointObjective
from usvs.speech.spectrogram import LogSpectrogram
from usvs.training.chance import uses_pairs


class PairOutputs(NamedTuple):
    """What the two streams say of a batch, as the objective takes it."""

    positive_logits: Tensor  # [n, 2]
    negative_logits: Tensor  # [n, 2]
    video: Tensor  # [n, d]
    positive: Tensor  # [n, d]
    negative: Tensor  # [n, d]
    pair_valid: Tensor  # [n]
    order_logits: Tensor  # [B, 12]


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
    ) -> JointLoss:
        """Return the losses of a batch.

        Args:
            frames: [B, K, 1, P, P] standardised gray frames of the pairs.
            order_frames: [B, 4, 1, P, P] in the order shown.
            speech: [B, K, S] waveforms.
            negative_speech: [B, K, S].
            pair_valid: [B] bool, which clips' pairs count.
            order_class: [B] int64.
        """
        said = self.outputs(frames, order_frames, speech, negative_speech, pair_valid)
        return self.loss(said, order_class)

    def outputs(
        self, frames: Tensor, order_frames: Tensor, speech: Tensor, negative_speech: Tensor, pair_valid: Tensor
    ) -> PairOutputs:
        """Run both streams, each network once, over the clips whose pairs count and over all order frames."""
        rows = self._rows(pair_valid)
        spectrograms = self._spectrograms(speech.index_select(0, rows), negative_speech.index_select(0, rows))
        shown = order_frames if self.uses_order else order_frames[:0]
        out = self.streams(frames.index_select(0, rows).flatten(0, 1), shown, spectrograms)
        pairs = out.video_features.size(0)
        features, embeddings = out.speech_features, out.speech_embeddings
        return PairOutputs(
            self.streams.correspondence(out.video_features, features[:pairs]),
            self.streams.correspondence(out.video_features, features[pairs:]),
            out.video_embeddings,
            embeddings[:pairs],
            embeddings[pairs:],
            pair_valid.index_select(0, rows).repeat_interleave(frames.size(1)),
            out.order_logits,
        )

    def loss(self, said: PairOutputs, order_class: Tensor) -> JointLoss:
        """Return Eq. 3 of what the streams said."""
        losses: JointLoss = self.objective(
            said.positive_logits,
            said.negative_logits,
            said.video,
            said.positive,
            said.negative,
            said.pair_valid,
            said.order_logits,
            order_class if self.uses_order else order_class[:0],
        )
        return losses

    def _rows(self, pair_valid: Tensor) -> Tensor:
        """The clips [n / K] whose frames and speech are run."""
        if not self.uses_pairs:
            return torch.zeros(0, dtype=torch.int64, device=pair_valid.device)
        rows = pair_valid.nonzero().flatten()
        if rows.numel() == 0 and not self.uses_order:
            # An empty batch has no statistics: run one clip, which counts for nothing.
            return torch.zeros(1, dtype=torch.int64, device=pair_valid.device)
        return rows

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
    )
