"""The module of pretraining, from a batch's tensors to its losses; it is compiled as one.

Letters: B clips, K pairs a clip, P pixels a side, S samples of a speech piece, n valid pairs, d embedding width.
No postponed annotations in this file: TorchScript does not support them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.audio.spectrogram import LogSpectrogram
from usvs.data.pair_batch import PairBatch
from usvs.losses.contrastive import GlobalPairs
from usvs.losses.joint import GlobalBatch, JointLoss, JointObjective
from usvs.losses.protocol import loss_requirements
from usvs.models.encoder import as_encoder
from usvs.models.two_stream import SpeechOutput, TwoStream, VideoOutput
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.distributed import Ranks, gather_rows


class PairOutputs(NamedTuple):
    """The outputs of the two streams for a batch, as the objective takes them."""

    positive_logits: Tensor  # [n, 2]
    negative_logits: Tensor  # [n, 2]
    video: Tensor  # [n, d]
    positive: Tensor  # [n, d]
    negative: Tensor  # [n, d]
    pair_valid: Tensor  # [n]
    order_logits: Tensor  # [B, 12]
    order_class: Tensor  # [B]


class PretrainModel(nn.Module):
    """Spectrograms, the two streams and the objective (sections 2.1 to 2.4).

    Args:
        settings: of the run.
        encoder: of the video stream, with ``forward_features`` and ``num_features``; None: the one of `settings.model`.
        loss: a `usvs.losses.PretrainingLoss`; None: `JointObjective`.

    Attributes:
        spectrogram: waveform to log-spectrogram.
        streams: both encoders and their heads; `streams.video` is the encoder that a run is for.
        objective: Eq. 3, or `loss`.
    """

    def __init__(
        self, settings: PretrainSettings, encoder: nn.Module | None = None, loss: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.spectrogram: LogSpectrogram = LogSpectrogram(settings.spectrogram)
        self.streams: TwoStream = TwoStream(settings.model, None if encoder is None else as_encoder(encoder))
        self.objective: JointObjective | nn.Module = (
            JointObjective(settings.objective, settings.clips.groups_per_clip) if loss is None else loss
        )
        requirements = loss_requirements(self.objective)
        self.uses_pairs: bool = requirements.pairs
        self.uses_order: bool = requirements.order
        self.gathers_embeddings: bool = requirements.global_pairs
        self.branches_are_separate: bool = not settings.model.shared_projection

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
            pair_valid: [B] bool, which clips have valid pairs; on the host, since it decides how much is computed.
            order_class: [B] int64.
            order_valid: [B] bool, which clips have the order task; on the host as well.
        """
        outputs = self.outputs(frames, order_frames, speech, negative_speech, pair_valid, order_class, order_valid)
        return self.loss(outputs)

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
        """Run both streams, each network once, over the clips with valid pairs and those with the order task."""
        video = self.first_branch(frames, order_frames, speech, negative_speech, pair_valid, order_class, order_valid)
        spoken = self.second_branch(frames, order_frames, speech, negative_speech, pair_valid, order_class, order_valid)
        return self._join(video, spoken, frames.size(1), pair_valid, order_class, order_valid)

    # The two streams meet in their outputs only, so that each may be computed by a thread of its own
    # (`usvs.training.branches`). Both take the complete batch.

    def first_branch(
        self,
        frames: Tensor,
        order_frames: Tensor,
        speech: Tensor,
        negative_speech: Tensor,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> VideoOutput:
        """Run the video stream; arguments are those of `forward`."""
        rows = self._pair_rows(pair_valid).to(frames.device)  # on the host before: no synchronisation with a device
        ordered = self._order_rows(order_valid).to(frames.device)
        return self.streams.run_video(
            frames.index_select(0, rows).flatten(0, 1), order_frames.index_select(0, ordered), ordered
        )

    def second_branch(
        self,
        frames: Tensor,
        order_frames: Tensor,
        speech: Tensor,
        negative_speech: Tensor,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> SpeechOutput:
        """Run the speech stream; arguments are those of `forward`."""
        rows = self._pair_rows(pair_valid).to(frames.device)
        return self.streams.run_speech(self._spectrograms(speech, negative_speech, rows))

    @torch.jit.export
    def join_branches(
        self,
        video: VideoOutput,
        spoken: SpeechOutput,
        frames: Tensor,
        order_frames: Tensor,
        speech: Tensor,
        negative_speech: Tensor,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> JointLoss:
        """Return what `forward` does, given both streams' outputs; the other arguments are those of `forward`."""
        return self.loss(self._join(video, spoken, frames.size(1), pair_valid, order_class, order_valid))

    def _join(
        self,
        video: VideoOutput,
        spoken: SpeechOutput,
        groups: int,
        pair_valid: Tensor,
        order_class: Tensor,
        order_valid: Tensor,
    ) -> PairOutputs:
        valid, ordered = self._pair_rows(pair_valid), self._order_rows(order_valid)
        pairs = video.features.size(0)
        return PairOutputs(
            self.streams.correspondence(video.features, spoken.features[:pairs]),
            self.streams.correspondence(video.features, spoken.features[pairs:]),
            video.embeddings,
            spoken.embeddings[:pairs],
            spoken.embeddings[pairs:],
            pair_valid.index_select(0, valid).repeat_interleave(groups),
            video.order_logits,
            order_class.index_select(0, ordered.to(order_class.device)),
        )

    def loss(self, outputs: PairOutputs, global_batch: GlobalBatch | None = None) -> JointLoss:
        """Return Eq. 3 of the streams' outputs; for a part of a batch, its terms of the global batch's sum."""
        losses: JointLoss = self.objective(
            outputs.positive_logits,
            outputs.negative_logits,
            outputs.video,
            outputs.positive,
            outputs.negative,
            outputs.pair_valid,
            outputs.order_logits,
            outputs.order_class,
            global_batch,
        )
        return losses

    def global_batch(self, outputs: PairOutputs, ranks: Ranks) -> GlobalBatch:
        """Gather the embeddings of all ranks' valid pairs, with gradient, and the numbers of pairs and clips."""
        valid = outputs.pair_valid.nonzero().flatten()
        counts = ranks.gather_counts((valid.size(0), outputs.order_logits.size(0)))  # [ranks, 2]
        first, pairs = int(counts[: ranks.number, 0].sum()), int(counts[:, 0].sum())
        embeddings = torch.cat((outputs.video, outputs.positive, outputs.negative), dim=1)
        if self.gathers_embeddings:
            own = embeddings.index_select(0, valid.to(embeddings.device))
            wide = torch.promote_types(own.dtype, torch.float32)  # the precision in which their gradients are summed
            embeddings = gather_rows(own.to(wide), first, pairs, ranks).to(own.dtype)
        video, positive, negative = embeddings.chunk(3, dim=1)
        return GlobalBatch(GlobalPairs(video, positive, negative, first), pairs, int(counts[:, 1].sum()))

    def _pair_rows(self, pair_valid: Tensor) -> Tensor:
        """The clips [n / K] with valid pairs."""
        if not self.uses_pairs:
            return torch.zeros(0, dtype=torch.int64)
        return pair_valid.nonzero().flatten()

    def _order_rows(self, order_valid: Tensor) -> Tensor:
        """The clips with the order task."""
        if not self.uses_order:
            return torch.zeros(0, dtype=torch.int64)
        return order_valid.nonzero().flatten()

    def _spectrograms(self, speech: Tensor, negative_speech: Tensor, rows: Tensor) -> Tensor:
        """Map `rows` of [B, K, S] twice to [2n, 1, bands, time]; the waveforms are copied once."""
        count = rows.size(0)
        pieces = speech.new_empty((2 * count, speech.size(1), speech.size(2)))
        torch.index_select(speech, 0, rows, out=pieces[:count])
        torch.index_select(negative_speech, 0, rows, out=pieces[count:])
        spectrograms: Tensor = self.spectrogram(pieces.flatten(0, 1))
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
