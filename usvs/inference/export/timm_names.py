"""Encoders and classifiers under timm's names, with the call that makes the same network in timm.

timm (github.com/huggingface/pytorch-image-models) builds networks with an `output_stride` of 32 by default. Weights of
any stride load into it, so with a forgotten argument the features would differ without an error: the folder therefore
holds the arguments as well, in the layout of a model on a hub, and the card shows the complete call.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from usvs.errors import ConfigError
from usvs.inference.export.source import ExportSource
from usvs.models.encoder import EncoderAdapter
from usvs.models.preprocessing import GRAY_MEAN, GRAY_SPREAD
from usvs.models.registry import TIMM
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.tasks.comparison import MODELS
from usvs.tasks.model_folder import WEIGHTS, write_tensors
from usvs.utils.atomic_files import write_text

ARCHITECTURE = "seresnext50_32x4d"
CONFIG = "config.json"  # the name that timm reads
HEAD = "head.classify."


class TimmModel(NamedTuple):
    """A network as timm has it.

    Attributes:
        architecture: timm's name.
        arguments: of `timm.create_model`, beside the name.
        tensors: parameters and buffers under timm's names.
        mean: what its input was normalised with, for levels in 0 .. 1.
        std: likewise.
    """

    architecture: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    mean: list[float]
    std: list[float]

    @property
    def call(self) -> str:
        """The call that makes the network."""
        arguments = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f'timm.create_model("{self.architecture}"{arguments})'


def as_timm(source: ExportSource) -> TimmModel:
    """Return a network with timm's names and arguments.

    Raises:
        ConfigError: for a network that timm cannot build, or several models.
    """
    if source.kind == "saliency":
        raise ConfigError("export: format timm: expected an encoder or a classifier, got a model of gaze saliency")
    if len(source.models) > 1:
        raise ConfigError(
            f"export: format timm: expected one model, got {len(source.models)} folds: name one of them, such as"
            f" '{_first_fold(source)}', or choose another format, which averages them"
        )
    encoder = source.encoder
    if isinstance(encoder, SEResNeXt):
        made = _se_resnext(encoder)
    elif isinstance(encoder, EncoderAdapter) and str((encoder.registry_config or {}).get("name")).startswith(TIMM):
        made = _timm_encoder(encoder)
    else:
        raise ConfigError(
            f"export: format timm: expected a network of timm, got {type(encoder).__name__}: choose another format"
        )
    return _with_head(made, source)


def write_timm(source: ExportSource, made: TimmModel, folder: Path) -> dict[str, Any]:
    """Write weights and ``config.json`` as timm reads them; return the content of the latter.

    Args:
        source: where the network came from.
        made: the network.
        folder: an existing one.
    """
    write_tensors(folder / WEIGHTS, made.tensors)
    pretrained: dict[str, Any] = {
        "input_size": list(source.input["input_size"]),
        "crop_pct": source.input["crop_fraction"],
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": made.mean,
        "std": made.std,
        "num_classes": made.arguments["num_classes"],
    }
    config: dict[str, Any] = {
        "architecture": made.architecture,
        "num_classes": made.arguments["num_classes"],
        "num_features": source.encoder.num_features,
        "model_args": {name: value for name, value in made.arguments.items() if name != "num_classes"},
        "pretrained_cfg": pretrained,
    }
    if source.classes:
        config["label_names"] = list(source.classes)
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    return config


def _se_resnext(encoder: SEResNeXt) -> TimmModel:
    settings, default = encoder.settings, EncoderSettings()
    for name in ("stem_width", "se_ratio"):
        if getattr(settings, name) != getattr(default, name):
            raise ConfigError(
                f"export: format timm: expected an SE-ResNeXt with {name} {getattr(default, name)}, the only one that"
                f" timm builds, got {getattr(settings, name)}: choose another format"
            )
    arguments: dict[str, Any] = {
        "in_chans": settings.in_chans,
        "num_classes": 0,
        "output_stride": settings.output_stride,
    }
    for name in ("layers", "cardinality", "base_width"):
        if getattr(settings, name) != getattr(default, name):
            arguments[name] = getattr(settings, name)
    tensors = dict(encoder.state_dict())
    own = encoder.pretrained_cfg
    return TimmModel(ARCHITECTURE, arguments, tensors, list(own["mean"]), list(own["std"]))


def _timm_encoder(encoder: EncoderAdapter) -> TimmModel:
    """Return a network that timm built, without the conversion of the input: its own normalisation is written."""
    made: Mapping[str, Any] = encoder.registry_config
    arguments = {"in_chans": encoder.in_chans, "num_classes": 0}
    if made["output_stride"] is not None:
        arguments["output_stride"] = made["output_stride"]
    std = GRAY_SPREAD / encoder.input_scale.flatten().double()
    mean = GRAY_MEAN - encoder.input_offset.flatten().double() * std
    tensors = {str(name): value for name, value in encoder.module.state_dict().items()}
    name = made["name"].removeprefix(TIMM)
    return TimmModel(name, {**arguments, **made["kwargs"]}, tensors, _rounded(mean), _rounded(std))


def _with_head(made: TimmModel, source: ExportSource) -> TimmModel:
    if not source.models:
        return made
    if not isinstance(source.encoder, SEResNeXt):
        raise ConfigError(
            f"export: format timm: a classifier of {made.architecture} has its own place for the head there: choose"
            " another format"
        )
    head = {
        f"fc.{name.removeprefix(HEAD)}": value
        for name, value in source.models[0].module.state_dict().items()
        if name.startswith(HEAD)
    }
    arguments = {**made.arguments, "num_classes": len(source.classes)}
    return made._replace(arguments=arguments, tensors={**made.tensors, **head})


def _first_fold(source: ExportSource) -> Path:
    found = sorted([*source.path.glob("fold_*"), *source.path.glob(f"{MODELS}/*/fold_*")])
    return found[0]


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
