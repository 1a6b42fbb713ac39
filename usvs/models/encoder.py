"""What a video encoder is, and the adapter that makes one of any module with `forward_features` and `num_features`.

Notation: N images, C channels of the input, D features, H and W sides of the input, h and w of the feature map.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults in them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError
from usvs.models.channel_means import channel_means
from usvs.models.preprocessing import CROP_FRACTION, GRAY_MEAN, GRAY_SPREAD, Images, preprocess_images
from usvs.models.settings import FRAME_PIXELS

INPUT = (
    "uint8 gray level / 255; central square crop of crop_fraction of the side; resized to H x W; (gray - mean) / std;"
    " repeated over the C channels"
)


class PretrainedCfg(TypedDict):
    """How images become an encoder's input; named after timm's `pretrained_cfg`.

    Attributes:
        input_size: (C, H, W), H = W.
        crop_fraction: side of the central crop over the side of the image.
        mean: of each channel, subtracted from gray levels in 0 .. 1.
        std: of each channel, which the difference is divided by.
        input: the steps in words.
    """

    input_size: tuple[int, int, int]
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input: str


@runtime_checkable
class FeatureModule(Protocol):
    """What a module needs to be used as an encoder; see `as_encoder`.

    Attributes:
        num_features: D, channels of the feature maps.
    """

    num_features: int

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to feature maps [N, D, h, w]."""
        ...


class Encoder(nn.Module):
    """Base class of video encoders: a module from frames to features that knows how its input is made.

    A class and no typing.Protocol, since an encoder is trained, scripted and saved as a `torch.nn.Module`. Subclasses
    set `num_features` and define `forward_features`; a module of another class is wrapped by `as_encoder`.

    Every encoder takes frames standardised in the same way (`pretrained_cfg`), so that all can be trained on the same
    datasets. A network that was trained with another normalisation converts its input inside of `forward_features`.

    Args:
        in_chans: C.
        frame_pixels: side of the input that `preprocess` makes.

    Attributes:
        num_features: D, channels of the feature maps and length of the features.
        in_chans: C; one-channel input is repeated over the channels.
        pretrained_cfg: how images become the input, as `preprocess` does it.
        registry_config: what `usvs.models.build_encoder` makes it of again; None where it was not made by name.
    """

    def __init__(self, in_chans: int = 1, frame_pixels: int = FRAME_PIXELS) -> None:
        super().__init__()
        self.num_features: int = 0
        self.in_chans: int = in_chans
        self.pretrained_cfg: PretrainedCfg = make_pretrained_cfg(in_chans, frame_pixels)
        self.registry_config: Any = None

    def forward_features(self, images: Tensor) -> Tensor:
        """Map standardised images [N, C, H, W] or [N, 1, H, W] to feature maps [N, D, h, w]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Map standardised images [N, C, H, W] or [N, 1, H, W] to features [N, D], the means of the feature maps."""
        return channel_means(self.forward_features(images))

    @torch.jit.unused
    def preprocess(self, images: Images) -> Tensor:
        """Return the input of this encoder for images of any size, as `pretrained_cfg` says.

        Args:
            images: as of `usvs.models.preprocessing.preprocess_images`: uint8 arrays or tensors, gray or RGB, PIL
                images, or a list of them. Of an image that is not square the central square is used.

        Returns:
            float32 [n, C, P, P] on the device of the encoder, P = `pretrained_cfg["input_size"][1]`.

        Raises:
            DataError: for another dtype or shape, and where there is no image.
        """
        frames = preprocess_images(images, self.pretrained_cfg["input_size"][1], self.pretrained_cfg["crop_fraction"])
        parameter = next(self.parameters(), None)
        frames = frames if parameter is None else frames.to(parameter.device)
        return expand_channels(frames, self.in_chans).contiguous()


class EncoderAdapter(Encoder):
    """A module with `forward_features` and `num_features`, as an encoder.

    Its parameters keep their names after ``module.``. The conversion from the input of usvs to that of the module is
    held in two buffers, so that it is saved with the weights.

    Args:
        module: a `FeatureModule`. Its feature maps are [N, D, h, w], or [N, h, w, D] where its attribute `output_fmt`
            is "NHWC", or tokens [N, L, D] after `num_prefix_tokens` others; both attributes are timm's.
        in_chans: C, channels that the module takes.
        frame_pixels: side of the input that `preprocess` makes.
        mean: C numbers that the module's own input was normalised with; None: `GRAY_MEAN`.
        std: C numbers likewise; None: `GRAY_SPREAD`.
    """

    def __init__(
        self,
        module: nn.Module,
        in_chans: int = 1,
        frame_pixels: int = FRAME_PIXELS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(in_chans, frame_pixels)
        self.module: Any = module
        self.num_features: int = int(getattr(module, "num_features"))  # noqa: B009 - typed as a submodule otherwise
        self.prefix_tokens: int = int(getattr(module, "num_prefix_tokens", 0))
        self.features_last: bool = str(getattr(module, "output_fmt", "NCHW")) == "NHWC"
        self.register_buffer("input_scale", torch.ones(1, in_chans, 1, 1))
        self.register_buffer("input_offset", torch.zeros(1, in_chans, 1, 1))
        self.input_scale: Tensor
        self.input_offset: Tensor
        self.set_normalisation(mean or (GRAY_MEAN,) * in_chans, std or (GRAY_SPREAD,) * in_chans)

    @torch.jit.unused
    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set what the module's own input was normalised with, C numbers each for gray levels in 0 .. 1.

        Raises:
            ConfigError: for another number of channels.
        """
        if len(mean) != self.in_chans or len(std) != self.in_chans:
            raise ConfigError(
                f"mean and std of an encoder: expected {self.in_chans} numbers each, got {list(mean)} and {list(std)}"
            )
        means, deviations = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
        with torch.no_grad():
            self.input_scale.copy_(GRAY_SPREAD / deviations)
            self.input_offset.copy_((GRAY_MEAN - means) / deviations)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map standardised images [N, C, H, W] or [N, 1, H, W] to feature maps [N, D, h, w]."""
        inputs = expand_channels(images, self.in_chans) * self.input_scale + self.input_offset
        maps: Tensor = self.module.forward_features(inputs)
        if maps.dim() == 3:
            maps = _tokens_to_maps(maps[:, self.prefix_tokens :], images.size(2) / images.size(3))
        elif self.features_last:
            maps = maps.permute(0, 3, 1, 2)
        if maps.dim() != 4 or maps.size(1) != self.num_features:
            raise RuntimeError(
                f"forward_features of an encoder: expected [N, {self.num_features}, h, w], got {list(maps.shape)}"
            )
        return maps


def as_encoder(
    module: nn.Module,
    in_chans: int = 1,
    frame_pixels: int = FRAME_PIXELS,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Encoder:
    """Return a module as an encoder: itself if it is one, otherwise wrapped in an `EncoderAdapter`.

    Args:
        module: with `forward_features`, from images [N, C, H, W] to feature maps [N, D, h, w], and `num_features`, D.
        in_chans: C, channels that the module takes; gray frames are repeated over them.
        frame_pixels: side of the input that `preprocess` makes.
        mean: C numbers that the module's own input was normalised with, for levels in 0 .. 1; None: usvs's.
        std: C numbers likewise; None: usvs's.

    Raises:
        ConfigError: for a module without `forward_features` or `num_features`.
    """
    if isinstance(module, Encoder):
        return module
    missing = [name for name in ("forward_features", "num_features") if not hasattr(module, name)]
    if missing or not isinstance(module, nn.Module):
        lacks = " and ".join(f"'{name}'" for name in missing) or "being a torch.nn.Module"
        raise ConfigError(
            f"encoder: expected a torch.nn.Module with 'forward_features' and 'num_features',"
            f" got a {type(module).__name__} without {lacks}"
        )
    return EncoderAdapter(module, in_chans, frame_pixels, mean, std)


def make_pretrained_cfg(
    in_chans: int = 1, frame_pixels: int = FRAME_PIXELS, crop_fraction: float = CROP_FRACTION
) -> PretrainedCfg:
    """Return the `PretrainedCfg` of an encoder of usvs.

    Args:
        in_chans: C.
        frame_pixels: H and W.
        crop_fraction: side of the central crop over the side of the image.
    """
    return PretrainedCfg(
        input_size=(in_chans, frame_pixels, frame_pixels),
        crop_fraction=crop_fraction,
        mean=(GRAY_MEAN,) * in_chans,
        std=(GRAY_SPREAD,) * in_chans,
        input=INPUT,
    )


def update_pretrained_cfg(encoder: Encoder, values: Mapping[str, Any]) -> None:
    """Change the input size and crop of an encoder's `pretrained_cfg`, in place.

    Args:
        encoder: whose `preprocess` follows the change.
        values: any of the fields of `PretrainedCfg`, also as read from JSON; `mean`, `std` and `input` may be given,
            but not with other values: an own normalisation is an argument of `as_encoder`.

    Raises:
        ConfigError: for an unknown field or a value that the encoder cannot have.
    """
    cfg = encoder.pretrained_cfg
    unknown = sorted(set(values) - set(cfg))
    if unknown:
        raise ConfigError(f"pretrained_cfg: unknown field '{unknown[0]}', expected some of {', '.join(cfg)}")
    channels, height, width = values.get("input_size", cfg["input_size"])
    crop_fraction = float(values.get("crop_fraction", cfg["crop_fraction"]))
    if channels != encoder.in_chans or height != width or height < 1:
        raise ConfigError(
            f"pretrained_cfg: expected input_size ({encoder.in_chans}, P, P), got ({channels}, {height}, {width})"
        )
    if not 0 < crop_fraction <= 1:
        raise ConfigError(f"pretrained_cfg: expected crop_fraction above 0 and at most 1, got {crop_fraction}")
    for name, own in (("mean", cfg["mean"]), ("std", cfg["std"])):
        if tuple(values.get(name, own)) != own:
            raise ConfigError(
                f"pretrained_cfg: expected {name} {list(own)}, got {list(values[name])}; give the normalisation of an"
                " own network to usvs.models.as_encoder"
            )
    encoder.pretrained_cfg = make_pretrained_cfg(int(channels), int(height), crop_fraction)


def expand_channels(images: Tensor, channels: int) -> Tensor:
    """Return images [N, 1, H, W] repeated over channels, as a view; images of more channels as they are."""
    return images.expand(-1, channels, -1, -1) if images.size(1) == 1 else images


def _tokens_to_maps(tokens: Tensor, aspect: float) -> Tensor:
    """Return tokens [N, h * w, D] as feature maps [N, D, h, w]; `aspect` is height over width of the images."""
    rows = int(math.sqrt(tokens.size(1) * aspect) + 0.5)
    columns = tokens.size(1) // rows
    return tokens.transpose(1, 2).reshape(tokens.size(0), tokens.size(2), rows, columns)
