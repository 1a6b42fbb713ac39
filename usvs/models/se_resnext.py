"""Dilated SE-ResNeXt with timm's parameter names: the encoder of both streams (section 2.4).

ResNeXt: Xie et al., CVPR 2017. Squeeze-and-excitation: Hu et al., CVPR 2018. Dilation: Yu and Koltun, ICLR 2016.
Notation: N images, C channels, H and W height and width of the image, h and w those of a feature map.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.models.batch_norm_act import BatchNormAct
from usvs.models.channel_means import channel_means
from usvs.models.encoder import Encoder, expand_channels
from usvs.models.settings import EncoderSettings

EXPANSION = 4  # a block's output channels over its planes
REDUCTION_DIVISOR = 8  # timm rounds the squeezed channels to multiples of this


def squeezed_channels(channels: int, ratio: float) -> int:
    """Return the channels between the two layers of a squeeze-and-excitation gate, rounded as timm does."""
    rounded = int(channels * ratio + REDUCTION_DIVISOR / 2) // REDUCTION_DIVISOR * REDUCTION_DIVISOR
    return max(REDUCTION_DIVISOR, rounded)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: a gate per channel, computed from the means of all channels.

    The two layers are 1 x 1 convolutions with bias, as in timm, so that its weights load by name and shape.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1: nn.Conv2d = nn.Conv2d(channels, squeezed, 1)
        self.fc2: nn.Conv2d = nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Scale maps [N, C, h, w] by their gates."""
        means = channel_means(maps)[:, :, None, None]
        return maps * torch.sigmoid(self.fc2(F.relu(self.fc1(means))))

    def layers(self) -> list[Tensor]:
        """Return weight [S, C] and bias [S] of the first layer, weight [C, S] and bias [C] of the second."""
        bias1, bias2 = self.fc1.bias, self.fc2.bias
        assert bias1 is not None and bias2 is not None  # for TorchScript
        return [self.fc1.weight.flatten(1), bias1, self.fc2.weight.flatten(1), bias2]


class Bottleneck(nn.Module):
    """1 x 1, grouped 3 x 3 and 1 x 1 convolutions with a gate, added to a shortcut.

    Args:
        channels: input channels.
        planes: a quarter of the output channels.
        width: channels of the grouped convolution.
        cardinality: its groups.
        stride: its stride.
        dilation: its dilation.
        se_ratio: squeezed channels over output channels.
        downsample: whether the shortcut is a strided 1 x 1 convolution instead of the identity.

    Attributes:
        fuses: compute last norm, gate, sum and ReLU as one op in training; see `usvs.models.batch_norm_act`.
    """

    __constants__ = ["fuses"]  # noqa: RUF012 - read by TorchScript

    def __init__(
        self,
        channels: int,
        planes: int,
        width: int,
        cardinality: int,
        stride: int,
        dilation: int,
        se_ratio: float,
        downsample: bool,
    ) -> None:
        super().__init__()
        out = planes * EXPANSION
        self.conv1: nn.Conv2d = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1: BatchNormAct = BatchNormAct(width, relu=True)
        self.conv2: nn.Conv2d = nn.Conv2d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, groups=cardinality, bias=False
        )
        self.bn2: BatchNormAct = BatchNormAct(width, relu=True)
        self.conv3: nn.Conv2d = nn.Conv2d(width, out, 1, bias=False)
        self.bn3: BatchNormAct = BatchNormAct(out, relu=False)
        self.se: SqueezeExcite = SqueezeExcite(out, squeezed_channels(out, se_ratio))
        self.downsample: nn.Sequential | None = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), BatchNormAct(out, relu=False))
            if downsample
            else None
        )
        self.fuses: bool = False

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, 4 * planes, h / stride, w / stride]."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out = self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(maps)))))
        if self.fuses and (self.training or out.requires_grad):
            return self.bn3.fused(out, True, shortcut, self.se.layers())
        return F.relu(self.se(self.bn3(out)) + shortcut, inplace=True)


class SEResNeXt(Encoder):
    """A dilated SE-ResNeXt; the default settings give SE-ResNeXt-50 32x4d for one-channel images (section 2.4).

    Names and shapes of the parameters are those of timm's `seresnext50_32x4d` without `fc`, except for the input
    channels of the first layer. Small variants scale every stage with the stem: planes = stem_width * 2 ** stage,
    width = floor(planes * base_width / 64) * cardinality, output channels = 4 * planes. Where the stride reaches
    `output_stride`, later stages dilate instead; the first block of a stage keeps the dilation before it, so that
    weights of any stride load at any other.

    Args:
        settings: widths, depths, stride and input channels.

    Attributes:
        num_features: channels C of the feature maps.
        stride: side of the image over side of the feature map.
        settings: as given.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings.in_chans)
        self.settings = settings
        self.conv1: nn.Conv2d = nn.Conv2d(settings.in_chans, settings.stem_width, 7, stride=2, padding=3, bias=False)
        self.bn1: BatchNormAct = BatchNormAct(settings.stem_width, relu=True)
        self.maxpool: nn.MaxPool2d = nn.MaxPool2d(3, stride=2, padding=1)
        self.stride: int = 4
        channels, dilation = settings.stem_width, 1
        stages = []
        for stage, blocks in enumerate(settings.layers):
            stride, first_dilation = (1 if stage == 0 else 2), dilation
            if self.stride >= settings.output_stride:
                stride, dilation = 1, dilation * stride
            self.stride *= stride
            planes = settings.stem_width * 2**stage
            stages.append(_stage(settings, channels, planes, blocks, stride, first_dilation, dilation))
            channels = planes * EXPANSION
        self.layer1: nn.Sequential
        self.layer2: nn.Sequential
        self.layer3: nn.Sequential
        self.layer4: nn.Sequential
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = channels
        self.apply(_initialise)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images [N, 1 or in_chans, H, W] to feature maps [N, C, H / stride, W / stride] (rounded up)."""
        if self.in_chans > 1:
            images = expand_channels(images, self.in_chans)
        maps: Tensor = self.maxpool(self.bn1(self.conv1(images)))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return maps


def _stage(
    settings: EncoderSettings, channels: int, planes: int, blocks: int, stride: int, first_dilation: int, dilation: int
) -> nn.Sequential:
    width = math.floor(planes * settings.base_width / 64) * settings.cardinality
    stage = nn.Sequential()
    for block in range(blocks):
        first = block == 0
        stage.append(
            Bottleneck(
                channels=channels if first else planes * EXPANSION,
                planes=planes,
                width=width,
                cardinality=settings.cardinality,
                stride=stride if first else 1,
                dilation=first_dilation if first else dilation,
                se_ratio=settings.se_ratio,
                downsample=first and (stride != 1 or channels != planes * EXPANSION),
            )
        )
    return stage


def _initialise(module: nn.Module) -> None:
    """Draw the weights of a convolution as He et al. (ICCV 2015), fan out.

    The last batch-norm scale of a block starts at 1 and not at 0: with 0 the untrained network would be its shortcuts
    alone, and "Rand", which is evaluated frozen, must be the complete architecture.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
