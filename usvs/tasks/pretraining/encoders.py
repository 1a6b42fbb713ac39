"""The video encoder of a run: its choice, its initial weights, and the description from which it is built again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from usvs.errors import ConfigError, DataError
from usvs.models.registry import build_encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.random_state import seeded

DEFAULT = {"kind": "settings"}  # the encoder that `model.video` describes


class VideoEncoder(NamedTuple):
    """A run's video encoder.

    Attributes:
        module: None for the one that the settings describe.
        description: JSON values from which `rebuild_encoder` makes its architecture again.
        init: JSON values that identify the initial weights; None for random ones.
        patients: keyed hashes of those that the initial weights were pretrained on.
    """

    module: nn.Module | None = None
    description: dict[str, Any] = DEFAULT
    init: dict[str, Any] | None = None
    patients: frozenset[str] = frozenset()


def choose_encoder(
    encoder: nn.Module | str | None, init: str | Path | None, settings: PretrainSettings
) -> VideoEncoder:
    """Return the video encoder that the arguments of `usvs.pretrain` name.

    Args:
        encoder: a module, the name of a registered encoder, or None.
        init: where its weights come from; see `usvs.pretrain`.
        settings: of the run.

    Raises:
        ConfigError: for a module without the required interface, or with an `init` that has an architecture of its own.
    """
    if init is not None:
        return _initial(encoder, init, settings)
    if encoder is None:
        return VideoEncoder()
    if isinstance(encoder, str):
        with seeded(settings.run.seed):
            module, description = _registered(encoder, settings)
        return VideoEncoder(module, description)
    return VideoEncoder(check_encoder(encoder), describe_module(encoder))


def rebuild_encoder(
    description: dict[str, Any], settings: PretrainSettings, given: nn.Module | None, source: Path
) -> nn.Module:
    """Return an encoder of the architecture that a run recorded; its weights are still to be loaded.

    Args:
        description: as of `VideoEncoder`.
        settings: of the run.
        given: the encoder that the caller passed, which is used where there is one.
        source: of the description, for messages.

    Raises:
        ConfigError: for a run with an own encoder where none is given.
    """
    if given is not None:
        return check_encoder(given)
    if description["kind"] == "module":
        name = description["class"]
        raise ConfigError(
            f"'{source}' was pretrained with an own encoder, {name}: expected encoder=MODULE of the same architecture,"
            " got none; encoders registered by usvs.register_encoder are rebuilt by name"
        )
    with seeded(settings.run.seed):  # the weights are overwritten; the caller's generator is not to be used
        if description["kind"] == "settings":
            return SEResNeXt(settings.model.video)
        return build_encoder(description)


def check_encoder(encoder: Any) -> nn.Module:
    """Return a module after checking that it can be the video stream.

    Raises:
        ConfigError: where it is not a module with ``forward_features`` and ``num_features``.
    """
    missing = [name for name in ("forward_features", "num_features") if not hasattr(encoder, name)]
    if not isinstance(encoder, nn.Module) or missing:
        without = f" without {' and '.join(missing)}" if missing else ""
        raise ConfigError(
            "encoder: expected a torch.nn.Module with forward_features ([N, 1, P, P] to [N, C, h, w]) and num_features"
            f" (C), or the name of a registered encoder, got {type(encoder).__name__}{without}"
        )
    return encoder


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return what identifies a module that only its owner can build: its class and the number of its parameters."""
    kind = type(module)
    return {
        "kind": "module",
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _registered(name: str, settings: PretrainSettings) -> tuple[nn.Module, dict[str, Any]]:
    import usvs.models.registry as registry

    create: Callable[..., nn.Module] = registry.create_encoder
    options = {"in_chans": 1, "output_stride": settings.model.video.output_stride}
    return check_encoder(create(name, **options)), {"kind": "registered", "name": name, **options}


def _initial(encoder: nn.Module | str | None, init: str | Path, settings: PretrainSettings) -> VideoEncoder:
    """Return an encoder with weights from elsewhere."""
    # Not at the top: that module reads runs, so it imports this package.
    from usvs.tasks.initial_encoder import encoder_description, encoder_sha256, initial_encoder, parse_init
    from usvs.tasks.overlap import trained_patients
    from usvs.tasks.pretraining.load import load_encoder, read_description
    from usvs.tasks.settings import FinetuneSettings

    if isinstance(init, str) and init.startswith("timm:"):
        if encoder is not None:
            raise ConfigError(f"encoder and init '{init}': expected one of them, since this init names the encoder too")
        module, description = _registered(init, settings)
        return VideoEncoder(module, description, {"kind": "timm", "sha256": encoder_sha256(module)})
    start = parse_init(init)
    if start.kind == "random":
        return choose_encoder(encoder, None, settings)
    if start.kind == "run":
        given = encoder if isinstance(encoder, nn.Module) else None
        module, description = load_encoder(start.path, given), read_description(start.path)
        if description == DEFAULT:
            module = _with_settings(module, settings, init)
        patients = trained_patients(start.path) or frozenset()
        record = {"kind": "run", "name": start.path.resolve().name, "sha256": encoder_sha256(module)}
        return VideoEncoder(module.train(), description, record, patients)
    if encoder is not None:
        raise ConfigError(f"encoder and init '{init}': expected one of them, since this init has an encoder of its own")
    as_finetuning = FinetuneSettings(model=settings.model, run=settings.run)
    module = initial_encoder(init, as_finetuning)
    record = {"kind": start.kind, "name": start.path.name, "sha256": encoder_sha256(module)}
    return VideoEncoder(module, encoder_description(module), record)


def _with_settings(encoder: nn.Module, settings: PretrainSettings, init: str | Path) -> nn.Module:
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
