"""SonoNet: the detector of fetal standard planes that the paper compares with, for prediction and as an encoder.

Baumgartner et al., IEEE TMI 2017, doi:10.1109/TMI.2017.2712367. Its published weights were trained on images of height
224 and width 288, each standardised and multiplied by 255: see `sononet_images`. The logits are before softmax, in the
network's own order of classes, `SONONET_CLASSES`.

Notation: N images, C channels, H and W height and width of the image, h and w a sixteenth of them.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.errors import DataError
from usvs.models.batch_norm_act import BatchNormAct
from usvs.models.channel_means import channel_means
from usvs.models.encoder import Encoder

# In the network's order and the paper's names: its 3VV is the paper's 3VT, its Brain (Cb.) is BrainTc.
SONONET_CLASSES = (
    "3VT",
    "4CH",
    "abdomen",
    "background",
    "brain_tc",
    "brain_tv",
    "femur",
    "kidneys",
    "lips",
    "LVOT",
    "profile",
    "RVOT",
    "spine_cor",
    "spine_sag",
)
SONONET_HEIGHT, SONONET_WIDTH = 224, 288
SONONET_SCALE = 255.0  # "arbitrary, but the network was trained like this" (comment in the authors' code)
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # channels over the network's width, convolutions
FEATURES_OVER_WIDTH = STAGES[-1][0]
STRIDE = 16  # four poolings
# The Lasagne weights hold 1 / sqrt(variance + 1e-4). One port of them uses 1e-5 in its last layers; here it is 1e-4 in
# all, so that every layout of the weights gives the same logits.
EPSILON = 1e-4


class SonoNet(nn.Module):
    """The complete network; parameters are named as in the PyTorch port of its authors' weights.

    Args:
        width: 16, 32 or 64 channels in the first stage.
        classes: number of logits.

    Attributes:
        num_features: channels of the last feature map.
    """

    def __init__(self, width: int, classes: int = len(SONONET_CLASSES)) -> None:
        super().__init__()
        self.features: nn.Sequential = _feature_stages(width)
        self.num_features: int = width * FEATURES_OVER_WIDTH
        hidden = self.num_features // 2
        self.adaption: nn.Sequential = nn.Sequential(  # the spelling of the published weights
            nn.Conv2d(self.num_features, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden, eps=EPSILON),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, classes, 1, bias=False),
            nn.BatchNorm2d(classes, eps=EPSILON),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 1, H, W], as `sononet_images` makes them, to logits [N, classes]."""
        logits: Tensor = channel_means(self.adaption(self.features(images)))
        return logits


class SonoNetEncoder(Encoder):
    """SonoNet's feature layers as an encoder, which converts frames standardised as usvs's to SonoNet's input.

    Args:
        width: 16, 32 or 64 channels in the first stage.
        height: rows that frames are resized to.
        columns: columns that frames are resized to.

    Attributes:
        num_features: channels C of the feature maps.
        stride: side of the resized image over side of the feature map.
    """

    def __init__(self, width: int, height: int = SONONET_HEIGHT, columns: int = SONONET_WIDTH) -> None:
        super().__init__()
        self.features: nn.Sequential = _feature_stages(width)
        self.num_features: int = width * FEATURES_OVER_WIDTH
        self.stride: int = STRIDE
        self.height: int = height
        self.columns: int = columns

    def forward_features(self, images: Tensor) -> Tensor:
        """Map frames [N, 1, P, P] of any scale and offset to feature maps [N, C, height / 16, columns / 16]."""
        resized = F.interpolate(images, size=(self.height, self.columns), mode="bilinear", align_corners=False)
        maps: Tensor = self.features(standardised(resized))
        return maps


def sononet_images(gray: Tensor) -> Tensor:
    """Return the input of `SonoNet`: resized to 224 x 288 (height x width), each standardised and multiplied by 255.

    The authors' order is (height, width). One port passes the same pair to a library that takes (width, height), which
    gives the network images of the wrong aspect.

    Args:
        gray: float [N, 1, H, W], gray levels (means of the colours) of complete sectors, on any scale.

    Returns:
        float32 [N, 1, 224, 288].
    """
    size = (SONONET_HEIGHT, SONONET_WIDTH)
    resized = F.interpolate(gray.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return standardised(resized)


def standardised(images: Tensor, scale: float = SONONET_SCALE) -> Tensor:
    """Return (image - mean) / standard deviation * `scale` of each image [N, 1, H, W]; zeros for a constant one."""
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return torch.where(deviation > 1e-6, scale * centred / deviation.clamp(min=1e-6), torch.zeros_like(centred))


def sononet_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of any public layout under the names of `SonoNet`.

    Layouts: the authors' Lasagne file, `arr_0` .. `arr_74` with [weight, beta, gamma, mean, 1 / deviation] per layer;
    the port with `features.STAGE.LAYER.*` and `adaption.*`; the port with `_features.LAYER.*` and `_adaptation.*`.

    Args:
        state: as of `usvs.models.weight_files.read_weights`.

    Raises:
        DataError: for names of another layout, or missing ones.
    """
    names = _layer_names()
    if "arr_0" in state:
        renamed = _from_lasagne(state, names)
    else:
        flat = dict(zip(_flat_names(), names, strict=True))
        renamed = {}
        for key, value in state.items():
            layer, _, quantity = key.rpartition(".")
            renamed[f"{flat.get(layer, layer)}.{quantity}"] = value
    expected = [f"{conv}.weight" for conv, _ in _pairs(names)] + [
        f"{norm}.{quantity}" for _, norm in _pairs(names) for quantity in BATCH_NORM
    ]
    missing = [name for name in expected if name not in renamed]
    if missing:
        shown = ", ".join(list(state)[:3])
        raise DataError(f"SonoNet weights: '{missing[0]}' and {len(missing) - 1} others are missing; got {shown} ...")
    return {name: renamed[name] for name in expected}


BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def make_sononet(state: dict[str, Tensor]) -> SonoNet:
    """Return the network of weights of any public layout, with these weights and in evaluation mode.

    Args:
        state: as of `usvs.models.weight_files.read_weights`.

    Raises:
        DataError: for weights that are not SonoNet's.
    """
    renamed = sononet_state(state)
    first, last = renamed["features.0.0.0.weight"], renamed["adaption.3.weight"]
    network = SonoNet(first.size(0), last.size(0))
    own = network.state_dict()
    for name, value in renamed.items():
        if own[name].shape != value.shape:
            raise DataError(
                f"SonoNet weights: '{name}' expected shape {list(own[name].shape)}, got {list(value.shape)}"
            )
    network.load_state_dict(renamed, strict=False)  # no public file has `num_batches_tracked`
    return network.eval()


def _feature_stages(width: int) -> nn.Sequential:
    stages, channels = nn.Sequential(), 1
    for stage, (factor, convolutions) in enumerate(STAGES):
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            out = width * factor
            convolution = nn.Conv2d(channels, out, 3, padding=1, bias=False)
            layers.append(nn.Sequential(convolution, BatchNormAct(out, relu=True, eps=EPSILON)))
            channels = out
        if stage < len(STAGES) - 1:
            layers.append(nn.MaxPool2d(2))
        stages.append(nn.Sequential(*layers))
    return stages


def _layer_names() -> list[str]:
    """Return the names of convolutions and batch norms, alternating, in the order of the network."""
    stages = [f"features.{stage}.{layer}" for stage, (_, count) in enumerate(STAGES) for layer in range(count)]
    return [f"{layer}.{part}" for layer in stages for part in (0, 1)] + [f"adaption.{part}" for part in (0, 1, 3, 4)]


def _flat_names() -> list[str]:
    names, index = [], 0
    for _, count in STAGES:
        for _ in range(count):
            names += [f"_features.{index}.{part}" for part in (0, 1)]
            index += 1
        index += 1  # the pooling layer
    return names + [f"_adaptation.{part}" for part in (0, 1, 3, 4)]


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    return list(zip(names[::2], names[1::2], strict=True))


def _from_lasagne(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    expected = 5 * len(_pairs(names))
    if set(state) != {f"arr_{number}" for number in range(expected)}:
        raise DataError(
            f"SonoNet weights: expected {expected} arrays 'arr_0' to 'arr_{expected - 1}', got {len(state)}"
        )
    renamed = {}
    for layer, (conv, norm) in enumerate(_pairs(names)):
        weight, beta, gamma, mean, inverse = (state[f"arr_{5 * layer + part}"] for part in range(5))
        # Lasagne convolves and torch correlates; the published files hold the weights for correlation.
        renamed[f"{conv}.weight"] = weight
        variance = (inverse.double() ** -2 - EPSILON).to(inverse.dtype)
        for quantity, value in zip(BATCH_NORM, (gamma, beta, mean, variance), strict=True):
            renamed[f"{norm}.{quantity}"] = value
    return renamed
