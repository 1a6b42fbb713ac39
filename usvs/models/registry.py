"""Encoders by name: made, registered, listed, and made again from a stored description."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

from torch import nn

from usvs.config import check_settings
from usvs.errors import ConfigError, DataError
from usvs.models.encoder import Encoder, PretrainedCfg, as_encoder, update_pretrained_cfg
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import QUICK_ENCODER, QUICK_MODEL, EncoderSettings
from usvs.models.sononet import FEATURES_OVER_WIDTH, STRIDE, SonoNetEncoder
from usvs.models.timm_encoder import create_timm_encoder

TIMM = "timm:"
SE_RESNEXT = "se_resnext"  # any SE-ResNeXt; its settings are keyword arguments
SE_RESNEXT_PRESETS = {"se_resnext50_32x4d": EncoderSettings(), "se_resnext_quick": QUICK_ENCODER}
SONONET_WIDTHS = {"sononet16": 16, "sononet32": 32, "sononet64": 64}
BUILT_IN = (SE_RESNEXT, *SE_RESNEXT_PRESETS, *SONONET_WIDTHS)

Factory = Callable[..., nn.Module]
FactoryT = TypeVar("FactoryT", bound=Factory)
_registered: dict[str, Factory] = {}


class EncoderConfig(TypedDict):
    """What `create_encoder` was called with, as plain values for JSON; `build_encoder` makes the encoder again."""

    name: str
    in_chans: int
    output_stride: int | None
    pretrained_cfg: PretrainedCfg
    kwargs: dict[str, Any]


def create_encoder(
    name: str,
    *,
    in_chans: int = 1,
    output_stride: int | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Encoder:
    """Return a new encoder with untrained weights, drawn from torch's global generator.

    Args:
        name: ``se_resnext50_32x4d`` (the paper's), ``se_resnext_quick`` (the small one of the quick profile),
            ``sononet16``, ``sononet32``, ``sononet64``, ``timm:<name>`` for any network of timm, or one registered by
            `register_encoder`; see `list_encoders`.
        in_chans: C, channels of the input; gray frames are repeated over them.
        output_stride: side of the input over side of the feature map, 8, 16 or 32; None: the encoder's own.
        pretrained_cfg: fields of `usvs.models.PretrainedCfg` to change, such as
            ``{"input_size": (1, 128, 128), "crop_fraction": 1.0}``.
        **kwargs: of the encoder: fields of `EncoderSettings` for SE-ResNeXt; ``height`` and ``columns`` for SonoNet;
            arguments of ``timm.create_model``, with ``pretrained=True`` for weights that are on this machine.

    Returns:
        An `Encoder`: `forward_features(x)` gives [N, D, h, w], calling it [N, D], `preprocess(images)` makes x.

    Raises:
        ConfigError: for an unknown name or argument.
        MissingDependencyError: where timm is needed and not installed.
    """
    if name.startswith(TIMM):
        encoder: Encoder = create_timm_encoder(name.removeprefix(TIMM), in_chans, output_stride, **kwargs)
    elif name == SE_RESNEXT or name in SE_RESNEXT_PRESETS:
        encoder = _create_se_resnext(name, in_chans, output_stride, kwargs)
    elif name in SONONET_WIDTHS:
        encoder = _create_sononet(name, in_chans, output_stride, kwargs)
    elif name in _registered:
        encoder = as_encoder(_call_factory(name, in_chans, output_stride, kwargs), in_chans)
    else:
        raise ConfigError(_unknown(name))
    if pretrained_cfg is not None:
        update_pretrained_cfg(encoder, pretrained_cfg)
    stored = {key: value for key, value in kwargs.items() if key != "pretrained"}
    encoder.registry_config = {"name": name, "output_stride": output_stride, "kwargs": stored}
    return encoder


def register_encoder(name: str) -> Callable[[FactoryT], FactoryT]:
    """Register a class or a function under a name, for `create_encoder` and for runs that are stored with it.

    The factory is called with the keyword arguments of `create_encoder`, `in_chans` and `output_stride` among them
    where it takes them, and returns a module with `forward_features` and `num_features`. Registering a name again
    replaces it::

        @usvs.register_encoder("tiny")
        class Tiny(torch.nn.Module):
            num_features = 8

            def __init__(self, in_chans: int = 1) -> None:
                super().__init__()
                self.conv = torch.nn.Conv2d(in_chans, 8, 3, stride=4)

            def forward_features(self, images: torch.Tensor) -> torch.Tensor:
                return self.conv(images).relu()

        encoder = usvs.create_encoder("tiny")

    Raises:
        ConfigError: for a name that is usvs's own or begins with ``timm:``.
    """
    if name in BUILT_IN or name.startswith(TIMM):
        raise ConfigError(f"register_encoder: expected a name that usvs does not use, got '{name}'")

    def register(factory: FactoryT) -> FactoryT:
        _registered[name] = factory
        return factory

    return register


def list_encoders() -> list[str]:
    """Return the names that `create_encoder` accepts, sorted; ``timm:<name>`` is possible for every network of timm."""
    return sorted((*BUILT_IN, *_registered))


def encoder_config(encoder: Encoder) -> EncoderConfig:
    """Return the plain values from which `build_encoder` makes an encoder again; weights are not among them.

    Raises:
        ConfigError: for an encoder that was not made by name, such as one of `as_encoder`.
    """
    if isinstance(encoder, SEResNeXt):
        made = _se_resnext_config(encoder.settings)
    elif isinstance(encoder, SonoNetEncoder):
        made = _sononet_config(encoder)
    elif encoder.registry_config is not None:
        made = dict(encoder.registry_config)
    else:
        inner = type(getattr(encoder, "module", encoder)).__name__
        raise ConfigError(
            f"encoder {inner}: it cannot be stored, since it has no name; register its class with"
            " @usvs.register_encoder('NAME') and make it by usvs.create_encoder('NAME')"
        )
    return EncoderConfig(
        name=made["name"],
        in_chans=encoder.in_chans,
        output_stride=made["output_stride"],
        pretrained_cfg=encoder.pretrained_cfg,
        kwargs=made["kwargs"],
    )


def build_encoder(config: Mapping[str, Any]) -> Encoder:
    """Return the encoder that `encoder_config` described, with untrained weights.

    Args:
        config: an `EncoderConfig`, also as read from JSON; all but `name` may be absent, other keys are ignored.

    Raises:
        DataError: where it names no known encoder or its arguments do not fit.
    """
    if not isinstance(config.get("name"), str):
        raise DataError(f"stored encoder: expected a name, got {config.get('name')!r}")
    try:
        return create_encoder(
            config["name"],
            in_chans=config.get("in_chans", 1),
            output_stride=config.get("output_stride"),
            pretrained_cfg=config.get("pretrained_cfg"),
            **config.get("kwargs", {}),
        )
    except (TypeError, ValueError, AttributeError, ConfigError) as error:
        raise DataError(f"stored encoder: {error}") from None


def _create_se_resnext(name: str, in_chans: int, output_stride: int | None, kwargs: Mapping[str, Any]) -> SEResNeXt:
    values = {**SE_RESNEXT_PRESETS.get(name, EncoderSettings()).model_dump(), **kwargs, "in_chans": in_chans}
    if output_stride is not None:
        values["output_stride"] = output_stride
    encoder = SEResNeXt(check_settings(EncoderSettings, values))
    if name == "se_resnext_quick":
        side = QUICK_MODEL.frame_pixels
        update_pretrained_cfg(encoder, {"input_size": (in_chans, side, side)})
    return encoder


def _se_resnext_config(settings: EncoderSettings) -> dict[str, Any]:
    for name, preset in SE_RESNEXT_PRESETS.items():
        if settings == preset.model_copy(update=settings.model_dump(include={"in_chans", "output_stride"})):
            return {"name": name, "output_stride": settings.output_stride, "kwargs": {}}
    kwargs = settings.model_dump(mode="json", exclude={"in_chans", "output_stride"})
    return {"name": SE_RESNEXT, "output_stride": settings.output_stride, "kwargs": kwargs}


def _create_sononet(name: str, in_chans: int, output_stride: int | None, kwargs: Mapping[str, Any]) -> SonoNetEncoder:
    unknown = sorted(set(kwargs) - {"height", "columns"})
    if unknown:
        raise ConfigError(f"encoder '{name}': unknown argument '{unknown[0]}', expected height or columns")
    if in_chans != 1 or output_stride not in (None, STRIDE):
        raise ConfigError(
            f"encoder '{name}': expected in_chans 1 and output_stride {STRIDE}, got {in_chans} and {output_stride}"
        )
    return SonoNetEncoder(SONONET_WIDTHS[name], **kwargs)


def _sononet_config(encoder: SonoNetEncoder) -> dict[str, Any]:
    width = encoder.num_features // FEATURES_OVER_WIDTH
    kwargs = {"height": encoder.height, "columns": encoder.columns}
    return {"name": f"sononet{width}", "output_stride": None, "kwargs": kwargs}


def _call_factory(name: str, in_chans: int, output_stride: int | None, kwargs: Mapping[str, Any]) -> nn.Module:
    factory = _registered[name]
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = dict(kwargs)
    for key, value, default in (("in_chans", in_chans, 1), ("output_stride", output_stride, None)):
        if key in parameters or (takes_any and value != default):
            if value is not None:
                arguments[key] = value
        elif value != default:
            raise ConfigError(f"encoder '{name}': it takes no {key}, got {key}={value}")
    unknown = sorted(set(arguments) - set(parameters))
    if unknown and not takes_any:
        raise ConfigError(
            f"encoder '{name}': unknown argument '{unknown[0]}', expected some of {', '.join(parameters) or 'none'}"
        )
    return factory(**arguments)


def _unknown(name: str) -> str:
    known = list_encoders()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(known)} or timm:<name>"
    return f"unknown encoder '{name}': {hint} (an own encoder is known after its @usvs.register_encoder has run)"
