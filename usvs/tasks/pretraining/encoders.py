"""The video encoder of a run: its choice, its initial weights, and the description from which it is built again."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from usvs.errors import ConfigError, DataError
from usvs.models.encoder import Encoder, as_encoder, update_pretrained_cfg
from usvs.models.registry import build_encoder, create_encoder, encoder_config
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.trained_patients import TrainedScans
from usvs.training.random_state import seeded

DEFAULT = {"kind": "settings"}  # the encoder that `model.video` describes
OWN_MODULE = "module"  # kind of an encoder that usvs cannot build: it must be given when its weights are loaded


class VideoEncoder(NamedTuple):
    """A run's video encoder.

    Attributes:
        module: None for the one that the settings describe.
        description: JSON values from which `rebuild_encoder` makes its architecture again.
        init: JSON values that identify the initial weights; None for random ones.
        patients: keyed hashes of those that the initial weights were pretrained on, by store id.
        scans: those of these patients, by store id.
    """

    module: Encoder | None = None
    description: dict[str, Any] = DEFAULT
    init: dict[str, Any] | None = None
    patients: Mapping[str, frozenset[str]] = MappingProxyType({})
    scans: Mapping[str, TrainedScans] = MappingProxyType({})


def choose_encoder(
    encoder: nn.Module | str | None, init: str | Path | None, settings: PretrainSettings
) -> VideoEncoder:
    """Return the video encoder that the arguments of `usvs.pretrain` name.

    Args:
        encoder: a module, a name for `usvs.create_encoder`, or None.
        init: where its weights come from; see `usvs.pretrain`.
        settings: of the run.

    Raises:
        ConfigError: for a module without the required interface, or with an `init` that has an architecture of its own.
        DataError: for an `init` without fitting weights.
    """
    if init is not None:
        return _initial(encoder, init, settings)
    if encoder is None:
        return VideoEncoder()
    if isinstance(encoder, str):
        with seeded(settings.run.seed):
            module = create_encoder(encoder)
    else:
        module = as_encoder(encoder)
    return VideoEncoder(module, describe_encoder(module))


def rebuild_encoder(
    description: dict[str, Any], settings: PretrainSettings, given: nn.Module | None, source: Path
) -> Encoder:
    """Return an encoder of the architecture that a run recorded; its weights are still to be loaded.

    Args:
        description: as of `VideoEncoder`.
        settings: of the run; its frame size and crop are those of `preprocess`.
        given: the encoder that the caller passed, which is used where there is one.
        source: of the description, for messages.

    Raises:
        ConfigError: for a run with an own encoder where none is given.
        DataError: for a description that this usvs cannot use.
    """
    with seeded(settings.run.seed):  # the weights are replaced; the caller's generator is left as it is
        if given is None and description == DEFAULT:
            encoder: Encoder = SEResNeXt(settings.model.video)
        else:
            encoder = described_encoder(description, given, source)
    pixels = settings.model.frame_pixels
    size = {"input_size": (encoder.in_chans, pixels, pixels), "crop_fraction": settings.augment.crop_fraction}
    update_pretrained_cfg(encoder, size)
    return encoder


def describe_encoder(encoder: nn.Module) -> dict[str, Any]:
    """Return JSON values from which `described_encoder` makes an encoder again, or that identify an own module."""
    own = as_encoder(encoder)
    try:
        return dict(encoder_config(own))
    except ConfigError:  # a module without a registered name
        return describe_module(getattr(own, "module", own))


def described_encoder(description: Mapping[str, Any], given: nn.Module | None, source: Path) -> Encoder:
    """Return the encoder that `describe_encoder` described; its weights are still to be loaded.

    Args:
        description: what `describe_encoder` returned.
        given: a module of the same class, which is used itself; needed for one without a registered name.
        source: of the description, for messages.

    Raises:
        ConfigError: for an own module where none is given.
        DataError: for a description that cannot be used.
    """
    if given is not None:
        return as_encoder(given)
    if description.get("kind") == OWN_MODULE:
        raise ConfigError(
            f"'{source}' was trained with an own encoder, {description.get('class')}: expected encoder=MODULE of the"
            " same architecture, got none; encoders registered by usvs.register_encoder are built by name"
        )
    try:
        return build_encoder(description)
    except DataError as error:
        raise DataError(f"'{source}', {error}") from None


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return what identifies a module that only its owner can build: its class and the number of its parameters."""
    kind = type(module)
    return {
        "kind": OWN_MODULE,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _initial(encoder: nn.Module | str | None, init: str | Path, settings: PretrainSettings) -> VideoEncoder:
    """Return an encoder with weights from elsewhere."""
    # Imported here, since that module reads runs and so imports this package.
    from usvs.tasks.initial_encoder import encoder_sha256, initial_encoder, parse_init
    from usvs.tasks.pretraining.load import load_encoder, read_description
    from usvs.tasks.settings import FinetuneSettings
    from usvs.tasks.trained_patients import trained_patients, trained_scans

    start = parse_init(init)
    if start.kind == "random":
        return choose_encoder(encoder, None, settings)
    if start.kind == "run":
        if isinstance(encoder, str):
            raise ConfigError(f"encoder '{encoder}' and init '{init}': expected no encoder, since the run has its own")
        module, description = load_encoder(start.path, encoder), read_description(start.path)
        if description == DEFAULT:
            module = _with_settings(module, settings, init)
        patients = trained_patients(start.path) or {}
        record = {
            "kind": "run",
            "name": start.path.resolve().name,
            "sha256": encoder_sha256(module),
            "stores": sorted(patients),
        }
        return VideoEncoder(module.train(), description, record, patients, trained_scans(start.path))
    if encoder is not None:
        raise ConfigError(f"encoder and init '{init}': expected one of them, since this init has an encoder of its own")
    as_finetuning = FinetuneSettings(model=settings.model, augment=settings.augment, run=settings.run)
    module = initial_encoder(init, as_finetuning)
    record = {"kind": start.kind, "name": start.path.name, "sha256": encoder_sha256(module)}
    return VideoEncoder(module.train(), describe_encoder(module), record)


def _with_settings(encoder: nn.Module, settings: PretrainSettings, init: str | Path) -> Encoder:
    """Return the encoder that the settings describe, with another one's weights; the output stride may differ."""
    with seeded(settings.run.seed):
        result = SEResNeXt(settings.model.video)
    try:
        result.load_state_dict(encoder.state_dict())
    except RuntimeError:
        raise DataError(
            f"init '{init}': its video encoder is not the one that setting 'model.video' describes: use the profile and"
            " the model settings of its pretraining"
        ) from None
    return result
