"""Encoders of timm (github.com/huggingface/pytorch-image-models), imported where one is asked for."""

import difflib
from pathlib import Path
from typing import Any

from usvs.errors import ConfigError, MissingDependencyError
from usvs.models.encoder import EncoderAdapter
from usvs.models.preprocessing import GRAY_MEAN, GRAY_SPREAD
from usvs.models.settings import FRAME_PIXELS

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # names in a timm repository, preferred first


def create_timm_encoder(
    name: str, in_chans: int = 1, output_stride: int | None = None, pretrained: bool = False, **kwargs: Any
) -> EncoderAdapter:
    """Return a network of timm as an encoder, without its classifier.

    Its features are the means of its feature maps, whatever its own pooling is. A network that takes only one size of
    input keeps it; others get frames of `FRAME_PIXELS`, and `forward_features` takes any size.

    Args:
        name: of timm, with or without a tag of weights, such as ``resnet18.a1_in1k``.
        in_chans: C. Pretrained weights of three channels are used as they were trained with 3; with 1, timm sums the
            weights of the first layer over the colours.
        output_stride: input side over side of the feature map, for networks that have this argument.
        pretrained: load timm's weights from the cache of huggingface_hub on this machine; nothing is downloaded.
        **kwargs: further arguments of ``timm.create_model``.

    Raises:
        MissingDependencyError: where timm is not installed, or its weights are not on this machine.
        ConfigError: for a name that timm does not know or an argument that the network does not take.
    """
    timm = import_timm(f"encoder 'timm:{name}'")
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, **kwargs}
    if output_stride is not None:
        arguments["output_stride"] = output_stride
    if pretrained:
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(timm_weights_file(name))}}
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean 'timm:{near[0]}'?" if near else "see timm.list_models()"
        raise ConfigError(f"unknown encoder 'timm:{name}': {hint}")
    try:
        network = timm.create_model(name, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"encoder 'timm:{name}': {reason}") from None
    cfg = network.pretrained_cfg
    frame_pixels = int(cfg["input_size"][1]) if cfg.get("fixed_input_size") else FRAME_PIXELS
    frame_pixels = int(kwargs.get("img_size", frame_pixels))
    encoder = EncoderAdapter(network, in_chans, frame_pixels)
    if pretrained:
        encoder.set_normalisation(*timm_normalisation(cfg, in_chans))
    return encoder


def timm_normalisation(cfg: dict[str, Any], in_chans: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation that a network of timm was trained with, as timm adapts it to `in_chans`."""
    mean, std = [float(value) for value in cfg["mean"]], [float(value) for value in cfg["std"]]
    if in_chans == len(mean):
        return mean, std
    if in_chans == 1:
        return [sum(mean) / len(mean)], [sum(std) / len(std)]
    return [GRAY_MEAN] * in_chans, [GRAY_SPREAD] * in_chans


def timm_weights_file(name: str) -> Path:
    """Return the file of a timm network's weights in the cache of huggingface_hub; nothing is downloaded.

    Raises:
        MissingDependencyError: where timm is not installed or the file is not on this machine.
    """
    timm = import_timm(f"timm:{name}")
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name) else None
    repository = getattr(cfg, "hf_hub_id", None)
    file = cached_file(repository) if repository else None
    if file is None:
        raise MissingDependencyError(
            f"timm:{name}: no weights on this machine, and usvs downloads nothing; to download them:"
            f" python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
        )
    return file


def import_timm(what: str) -> Any:
    """Import timm.

    Raises:
        MissingDependencyError: naming `what` needs it, where it is not installed or does not load.
    """
    try:
        import timm  # type: ignore[import-not-found, unused-ignore]
    except (ImportError, OSError, RuntimeError) as error:  # torchvision of another torch raises a RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingDependencyError(
            f"{what} needs timm, which cannot be imported ({reason}): pip install timm, beside a"
            " torchvision of this torch's build"
        ) from None
    return timm


def cached_file(repository: str) -> Path | None:
    """Return the weights of a repository in the cache of huggingface_hub; None where it has none."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except (ImportError, OSError, RuntimeError):
        return None
    for file in WEIGHT_FILES:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    return None
