"""The two streams and their heads (Fig. 2 right).

Notation: Nv frames of pairs, Ns speech pieces, B clips, P side of a frame, C features, d embedding width.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.errors import ConfigError
from usvs.models.channel_means import channel_means
from usvs.models.encoder import Encoder
from usvs.models.heads import ORDER_CLASSES, CorrespondenceHead, OrderHead, ProjectionHead
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import ModelSettings


class TwoStreamOutput(NamedTuple):
    """Result of one forward pass; fields of an empty input are empty."""

    video_features: Tensor  # [Nv, C]
    video_embeddings: Tensor  # [Nv, d]
    speech_features: Tensor  # [Ns, C]
    speech_embeddings: Tensor  # [Ns, d]
    order_logits: Tensor  # [B, 12]


class VideoOutput(NamedTuple):
    """What the video stream makes of a batch."""

    features: Tensor  # [Nv, C]
    embeddings: Tensor  # [Nv, d]
    order_logits: Tensor  # [B, 12]


class SpeechOutput(NamedTuple):
    """What the speech stream makes of a batch."""

    features: Tensor  # [Ns, C]
    embeddings: Tensor  # [Ns, d]


class TwoStream(nn.Module):
    """A video and a speech encoder with their heads (section 2.4).

    Args:
        settings: of the encoders and heads.
        video: encoder of frames, trained in place; None: the SE-ResNeXt of `settings.video`, with new weights.

    Attributes:
        video: the encoder that is kept for downstream tasks.
        speech: the encoder of log-spectrograms.
        project_video: h for video features.
        project_speech: h for speech features; the same module where the settings share it.
        correspondence: fusion and classifier; call it with features of both streams.
        order: the order prediction network.
        skips_empty: do not run a network without input. False where batch norm synchronises over ranks: every rank must
            take part in every layer, those without input as well.
    """

    def __init__(self, settings: ModelSettings, video: Encoder | None = None) -> None:
        super().__init__()
        self.video: Encoder = SEResNeXt(settings.video) if video is None else video
        self.speech: SEResNeXt = SEResNeXt(settings.speech)
        video_features, speech_features = self.video.num_features, self.speech.num_features
        self.projection_grid: int = settings.projection_grid
        if settings.shared_projection and self.projection_grid > 1:
            raise ConfigError(
                f"setting 'projection_grid' {self.projection_grid}: expected 1 with one projection for both streams;"
                " set model.shared_projection=false"
            )
        if settings.shared_projection and video_features != speech_features:
            raise ConfigError(
                f"setting 'shared_projection': expected streams of one width, got {video_features} video and"
                f" {speech_features} speech features; set model.shared_projection=false"
            )
        self.project_video: ProjectionHead = _projection(video_features * self.projection_grid**2, settings)
        self.project_speech: ProjectionHead = (
            self.project_video if settings.shared_projection else _projection(speech_features, settings)
        )
        self.correspondence: CorrespondenceHead = CorrespondenceHead(
            video_features, speech_features, settings.correspondence_hidden, settings.correspondence_batch_norm
        )
        self.order: OrderHead = OrderHead(
            video_features,
            settings.order_grid,
            settings.order_hidden,
            settings.order_pair_hidden,
            settings.order_dropout,
        )
        self.order_classes: int = ORDER_CLASSES
        self.embedding_width: int = settings.projection_width
        self.skips_empty: bool = True

    def forward(
        self, frames: Tensor, order_frames: Tensor, speech: Tensor, order_clips: Tensor | None = None
    ) -> TwoStreamOutput:
        """Run each encoder once, on all images of its modality.

        Args:
            frames: [Nv, 1, P, P], frames of the pairs; may be empty.
            order_frames: [B, 4, 1, P, P] in the order shown; may be empty.
            speech: [Ns, 1, bands, time] log-spectrograms; may be empty.
            order_clips: int64 [B], indices of the clips with order frames among all clips of the input, for the
                dropout of the order head; None: all of them.
        """
        video = self.run_video(frames, order_frames, order_clips)
        spoken = self.run_speech(speech)
        return TwoStreamOutput(video.features, video.embeddings, spoken.features, spoken.embeddings, video.order_logits)

    def run_video(self, frames: Tensor, order_frames: Tensor, order_clips: Tensor | None = None) -> VideoOutput:
        """Run the video stream, the part of `forward` that needs no speech; arguments are those of `forward`."""
        images = torch.cat((frames, order_frames.flatten(0, 1)))
        maps = self._video_maps(images)
        features = channel_means(maps[: frames.size(0)])
        return VideoOutput(
            features,
            self._video_embeddings(maps[: frames.size(0)], features),
            self._order_logits(maps[frames.size(0) :], order_frames.size(0), order_frames.size(1), order_clips),
        )

    def run_speech(self, speech: Tensor) -> SpeechOutput:
        """Run the speech stream, the part of `forward` that needs no frames; `speech` is that of `forward`."""
        features = self._speech_features(speech)
        return SpeechOutput(features, self._speech_embeddings(features))

    # An empty batch has no statistics: batch norm would raise, or store NaN. Hence the checks of `skips_empty` below.

    def _video_maps(self, images: Tensor) -> Tensor:
        maps: Tensor = images.new_zeros((0, self.video.num_features, 1, 1))
        if images.size(0) > 0 or not self.skips_empty:
            maps = self.video.forward_features(images)
        return maps

    def _speech_features(self, speech: Tensor) -> Tensor:
        features: Tensor = speech.new_zeros((0, self.speech.num_features))
        if speech.size(0) > 0 or not self.skips_empty:
            features = self.speech(speech)
        return features

    def _video_embeddings(self, maps: Tensor, features: Tensor) -> Tensor:
        embeddings: Tensor = features.new_zeros((0, self.embedding_width))
        if features.size(0) > 0 or not self.skips_empty:
            if self.projection_grid > 1:
                features = F.adaptive_avg_pool2d(maps, self.projection_grid).flatten(1)
            embeddings = self.project_video(features)
        return embeddings

    def _speech_embeddings(self, features: Tensor) -> Tensor:
        embeddings: Tensor = features.new_zeros((0, self.embedding_width))
        if features.size(0) > 0 or not self.skips_empty:
            embeddings = self.project_speech(features)
        return embeddings

    def _order_logits(self, maps: Tensor, count: int, shown: int, clips: Tensor | None) -> Tensor:
        logits: Tensor = maps.new_zeros((0, self.order_classes))
        if count > 0 or not self.skips_empty:
            logits = self.order(maps.view(count, shown, maps.size(1), maps.size(2), maps.size(3)), clips)
        return logits


def _projection(features: int, settings: ModelSettings) -> ProjectionHead:
    return ProjectionHead(
        features, settings.projection_hidden, settings.projection_width, settings.projection_batch_norm
    )
