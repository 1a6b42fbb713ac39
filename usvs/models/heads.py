"""Heads of the encoders: projection, correspondence, frame order, classes and saliency.

Notation: N images, B clips, C features, d embedding width, h and w sides of a feature map, G side of the order grid.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ORDER_CLASSES = 12  # 4! orders, an order and its reverse counted as one (section 2.3)
FRAME_PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))  # in the order of OPN's code, so that its weights fit


class ProjectionHead(nn.Module):
    """The paper's h: a perceptron with one hidden layer, from features to the embeddings of Eq. 2 (section 2.4).

    Args:
        features: C.
        hidden: width of the hidden layer.
        width: d.
        batch_norm: normalise after both layers. Features are means of ReLU outputs, all positive, so that the
            embeddings of untrained streams are nearly parallel; batch norm spreads them from the first step on. The
            last one has no learnt scale, since embeddings that shrink to a point are a trap: the loss of Eq. 2 is then
            at chance and its gradient vanishes.
    """

    def __init__(self, features: int, hidden: int, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.fc1: nn.Linear = nn.Linear(features, hidden)
        self.bn1: nn.BatchNorm1d | nn.Identity = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        self.fc2: nn.Linear = nn.Linear(hidden, width)
        self.bn2: nn.BatchNorm1d | nn.Identity = nn.BatchNorm1d(width, affine=False) if batch_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map features [N, C] to embeddings [N, d], which are not normalised to length 1."""
        embeddings: Tensor = self.bn2(self.fc2(F.relu(self.bn1(self.fc1(features)))))
        return embeddings


class CorrespondenceHead(nn.Module):
    """The paper's fusion f: both features concatenated, then a classifier of two classes (section 2.1, Eq. 1).

    The paper does not say what follows the concatenation. A linear layer alone cannot solve the task: its logits are
    the sum of a number from the video and one from the speech, so its loss is ln 2 on pairs that differ only in which
    frame and speech are paired. By default one hidden layer follows; `hidden` 0 omits it.

    Args:
        video_features: C of the video stream.
        speech_features: C of the speech stream.
        hidden: width of the hidden layer; 0: none.
        batch_norm: normalise the concatenation first. Features are positive, and differences between images are small
            beside their mean.
    """

    def __init__(self, video_features: int, speech_features: int, hidden: int, batch_norm: bool = False) -> None:
        super().__init__()
        width = video_features + speech_features
        self.normalise: nn.BatchNorm1d | nn.Identity = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.fuse: nn.Sequential | nn.Identity = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True)) if hidden > 0 else nn.Identity()
        )
        self.decide: nn.Linear = nn.Linear(hidden if hidden > 0 else width, 2)
        self.skips_empty: bool = True

    def forward(self, video: Tensor, speech: Tensor) -> Tensor:
        """Return logits [N, 2], class 1 = correspond, of video features [N, C] and speech features [N, C]."""
        features = torch.cat((video, speech), dim=1)
        if features.size(0) > 0 or not self.skips_empty:  # an empty batch has no statistics
            features = self.normalise(features)
        logits: Tensor = self.decide(self.fuse(features))
        return logits


class OrderHead(nn.Module):
    """The order prediction network (OPN): in which of twelve orders four frames are shown.

    Lee et al., ICCV 2017, figure 4, with the pair order of its code: a shared fc6 for every frame, a shared fc7 for
    every pair of frames, a linear classifier of all six pairs. Its input is a pooled map and not a mean, since order
    depends on where structures are.

    Args:
        features: C.
        grid: G, side of the pooled map.
        hidden: width of fc6.
        pair_hidden: width of fc7.
        dropout: probability of dropout after fc6 and fc7, in training.
    """

    def __init__(self, features: int, grid: int, hidden: int, pair_hidden: int, dropout: float) -> None:
        super().__init__()
        self.grid: int = grid
        self.pool: nn.AdaptiveAvgPool2d = nn.AdaptiveAvgPool2d(grid)
        self.fc6: nn.Sequential = _dense(features * grid * grid, hidden)
        self.fc7: nn.Sequential = _dense(2 * hidden, pair_hidden)
        self.drop6: BatchDropout
        self.drop7: BatchDropout
        self.drop6, self.drop7 = BatchDropout(dropout), BatchDropout(dropout)
        self.classify: nn.Linear = nn.Linear(len(FRAME_PAIRS) * pair_hidden, ORDER_CLASSES)
        self.register_buffer("first", torch.tensor([pair[0] for pair in FRAME_PAIRS]), persistent=False)
        self.register_buffer("second", torch.tensor([pair[1] for pair in FRAME_PAIRS]), persistent=False)

    def forward(self, maps: Tensor, clips: Tensor | None = None) -> Tensor:
        """Return logits [B, 12] for the feature maps [B, 4, C, h, w] of frames in the order shown.

        Args:
            maps: of B clips.
            clips: int64 [B], as of `BatchDropout.forward`.
        """
        count, shown = maps.size(0), maps.size(1)
        pooled = maps.flatten(0, 1)
        if maps.size(3) != self.grid or maps.size(4) != self.grid:  # the same bits; its gradient is slow on a CPU
            pooled = self.pool(pooled)
        frames = self.drop6(self.fc6(pooled.flatten(1)), clips)
        frames = frames.view(count, shown, frames.size(1))  # -1 would be ambiguous for B = 0
        pairs = torch.cat((frames.index_select(1, self.first), frames.index_select(1, self.second)), dim=2)
        hidden = self.drop7(self.fc7(pairs.flatten(0, 1)), clips)
        logits: Tensor = self.classify(hidden.view(count, pairs.size(1) * hidden.size(1)))
        return logits


class PlaneHead(nn.Module):
    """Classes from an encoder's features, such as standard planes: one linear layer (section 3.2).

    Args:
        features: C.
        planes: number of classes.
    """

    def __init__(self, features: int, planes: int) -> None:
        super().__init__()
        self.classify: nn.Linear = nn.Linear(features, planes)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C] to logits [N, planes]."""
        logits: Tensor = self.classify(features)
        return logits


class SaliencyHead(nn.Module):
    """Gaze saliency from an encoder's feature maps: "only the last layers modified" (section 3.3).

    The paper gives no details. Here: a 3 x 3 convolution to fewer channels, upsampling by 2, another 3 x 3 convolution,
    a 1 x 1 convolution to one channel, and interpolation to the size of the result.

    Args:
        features: C.
        width: channels of the hidden layers.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.reduce: nn.Sequential = _convolution(features, width)
        self.refine: nn.Sequential = _convolution(width, width)
        self.score: nn.Conv2d = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Map feature maps [N, C, h, w] to scores [N, height, width]; their softmax over pixels is the density."""
        coarse = F.interpolate(self.reduce(maps), scale_factor=2.0, mode="bilinear", align_corners=False)
        scores = self.score(self.refine(coarse))
        return F.interpolate(scores, size=[height, width], mode="bilinear", align_corners=False).squeeze(1)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class BatchDropout(nn.Module):
    """Dropout whose mask is drawn for the global batch, so that every shard and micro-batch of it uses the same mask.

    Set both attributes before a forward pass of a part of a batch; as initialised, the input is the complete batch.

    Args:
        probability: of an element being zeroed.

    Attributes:
        global_clips: number of clips in the global batch; 0: the input is all of it.
        clips: int64 [b], indices in the global batch of the clips of the input.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability: float = probability
        self.global_clips: int = 0
        self.register_buffer("clips", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.clips: Tensor

    def forward(self, rows: Tensor, clips: Tensor | None = None) -> Tensor:
        """Zero elements of rows [N, C] and scale the others by 1 / (1 - probability), in training.

        Args:
            rows: the same number of rows for each clip, in the order of the clips.
            clips: int64 [n], indices into `self.clips` of the clips that have rows; None: all of them.
        """
        if not self.training or self.probability == 0.0 or rows.size(0) == 0:
            return rows
        if self.global_clips == 0:
            kept = torch.rand(rows.size(), device=rows.device) >= self.probability
        else:
            clip_of_row = self.clips if clips is None else self.clips.index_select(0, clips)
            rows_per_clip = rows.size(0) // clip_of_row.size(0)
            uniform = torch.rand(self.global_clips, rows_per_clip, rows.size(1), device=rows.device)
            kept = (uniform >= self.probability).index_select(0, clip_of_row).view(rows.size())
        return rows * (kept.to(rows.dtype) / (1.0 - self.probability))


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))
