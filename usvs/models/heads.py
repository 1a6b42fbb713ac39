"""What stands on the backbones: projection, fusion, frame order, standard planes and gaze saliency.

Letters: N images, B clips, C features, d width of the embedding, h and w sides of a feature map, G of the order grid.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ORDER_CLASSES = 12  # 4! orders, forward and backward counted as one (section 2.3)
FRAME_PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))  # in OPN's order, so that its weights keep their meaning


class ProjectionHead(nn.Module):
    """The paper's h: a perceptron with one hidden layer, from features to the space of Eq. 2 (section 2.4).

    Args:
        features: C.
        hidden: width of the hidden layer.
        width: d.
        batch_norm: normalise after both layers. Features are means of what a ReLU lets through, all positive, so that
            the embeddings of untrained streams point one way; batch norm spreads them from the first step on. The last
            one has no scale and shift to be learnt, by which embeddings shrink to a point most easily: there Eq. 2 is
            at its chance and its gradient next to nothing. (Layers before it still can, down to its epsilon.)
    """

    def __init__(self, features: int, hidden: int, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.bn1 = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        self.fc2 = nn.Linear(hidden, width)
        self.bn2 = nn.BatchNorm1d(width, affine=False) if batch_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C] to [N, d]; nothing is normalised here."""
        embeddings: Tensor = self.bn2(self.fc2(F.relu(self.bn1(self.fc1(features)))))
        return embeddings


class CorrespondenceHead(nn.Module):
    """The paper's fusion f: both features concatenated, then a decision between two classes (section 2.1, Eq. 1).

    The paper names the concatenation and not what follows it. A linear layer alone cannot decide it: its logits are
    a sum of one number from the video and one from the speech, so over pairs that differ only in who belongs to whom
    it stays at ln 2. So one hidden layer follows by default; `hidden` 0 leaves it out.

    Args:
        video_features: C of the video stream.
        speech_features: C of the speech stream.
        hidden: width of the hidden layer, or 0 for none.
        batch_norm: normalise the concatenation first. Features are all positive and mostly alike; what differs between
            images is small beside what they share, and until it is not the hidden layer sees one input.
    """

    def __init__(self, video_features: int, speech_features: int, hidden: int, batch_norm: bool = False) -> None:
        super().__init__()
        width = video_features + speech_features
        self.normalise = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.fuse = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True)) if hidden > 0 else nn.Identity()
        self.decide = nn.Linear(hidden if hidden > 0 else width, 2)
        self.skips_empty: bool = True

    def forward(self, video: Tensor, speech: Tensor) -> Tensor:
        """Return logits [N, 2], class 1 = correspond, for video [N, C] and speech [N, C] features."""
        features = torch.cat((video, speech), dim=1)
        if features.size(0) > 0 or not self.skips_empty:  # an empty batch has no statistics of its own
            features = self.normalise(features)
        logits: Tensor = self.decide(self.fuse(features))
        return logits


class OrderHead(nn.Module):
    """The order prediction network: which of twelve orders four frames are shown in.

    Lee et al., ICCV 2017, figure 4, with the pair order of its code: every frame through a shared fc6, six pairs of
    frames through a shared fc7, all six together to the classes. It sees a coarse map and not its mean, for order is
    told by where things are.

    Args:
        features: C.
        grid: G, side of the map that fc6 sees.
        hidden: width of fc6.
        pair_hidden: width of fc7.
        dropout: after both, in training.
    """

    def __init__(self, features: int, grid: int, hidden: int, pair_hidden: int, dropout: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.fc6 = _dense(features * grid * grid, hidden)
        self.fc7 = _dense(2 * hidden, pair_hidden)
        self.drop6, self.drop7 = BatchDropout(dropout), BatchDropout(dropout)
        self.classify = nn.Linear(len(FRAME_PAIRS) * pair_hidden, ORDER_CLASSES)
        self.register_buffer("first", torch.tensor([pair[0] for pair in FRAME_PAIRS]), persistent=False)
        self.register_buffer("second", torch.tensor([pair[1] for pair in FRAME_PAIRS]), persistent=False)

    def forward(self, maps: Tensor, clips: Tensor | None = None) -> Tensor:
        """Return logits [B, 12] for the feature maps [B, 4, C, h, w] of frames in the order shown.

        Args:
            maps: of B clips.
            clips: as of `BatchDropout`.
        """
        count, shown = maps.size(0), maps.size(1)
        frames = self.drop6(self.fc6(self.pool(maps.flatten(0, 1)).flatten(1)), clips)
        frames = frames.view(count, shown, frames.size(1))  # no -1 in it, which B = 0 leaves open
        pairs = torch.cat((frames.index_select(1, self.first), frames.index_select(1, self.second)), dim=2)
        hidden = self.drop7(self.fc7(pairs.flatten(0, 1)), clips)
        logits: Tensor = self.classify(hidden.view(count, pairs.size(1) * hidden.size(1)))
        return logits


class PlaneHead(nn.Module):
    """Standard planes from a stream's features: one linear layer (section 3.2).

    Args:
        features: C.
        planes: number of classes.
    """

    def __init__(self, features: int, planes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(features, planes)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C] to logits [N, planes]."""
        logits: Tensor = self.classify(features)
        return logits


class SaliencyHead(nn.Module):
    """Where people look, from a backbone's feature maps: "only the last layers modified" (section 3.3).

    The paper says no more. Here: a 3 x 3 convolution to fewer channels, twice the size, another, and one channel out,
    interpolated to the size asked for.

    Args:
        features: C.
        width: channels between.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.reduce = _convolution(features, width)
        self.refine = _convolution(width, width)
        self.score = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Map feature maps [N, C, h, w] to scores [N, height, width]; a softmax over pixels makes them a density."""
        coarse = F.interpolate(self.reduce(maps), scale_factor=2.0, mode="bilinear", align_corners=False)
        scores = self.score(self.refine(coarse))
        return F.interpolate(scores, size=[height, width], mode="bilinear", align_corners=False).squeeze(1)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class BatchDropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, so that a part of it computed elsewhere is dropped alike.

    Set both before a forward; left as they are, the input is all of the batch.

    Attributes:
        whole_clips: clips of the whole batch; 0 where the input is all of it.
        clips: int64 [b], which of them are here.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share: float = share
        self.whole_clips: int = 0
        self.register_buffer("clips", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.clips: Tensor

    def forward(self, rows: Tensor, clips: Tensor | None = None) -> Tensor:
        """Zero a share of the rows [N, C] and scale the rest, in training.

        Args:
            rows: the same number of them for each clip, clip by clip.
            clips: int64 [n], whose they are of the clips that are here; None: all of theirs.
        """
        if not self.training or self.share == 0.0 or rows.size(0) == 0:
            return rows
        if self.whole_clips == 0:
            kept = torch.rand(rows.size(), device=rows.device) >= self.share
        else:
            owners = self.clips if clips is None else self.clips.index_select(0, clips)
            each = rows.size(0) // owners.size(0)
            drawn = torch.rand(self.whole_clips, each, rows.size(1), device=rows.device)
            kept = (drawn >= self.share).index_select(0, owners).view(rows.size())
        return rows * (kept.to(rows.dtype) / (1.0 - self.share))


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))
