"""Every video encoder there is, built from a few plain values, so that a stored detector can be built again."""

from typing import Any, TypeAlias

from usvs.config import check_settings
from usvs.errors import ConfigError, DataError
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.models.sononet import SonoNetEncoder

# Both have num_features, stride, forward_features and forward, over standardised frames [N, 1, P, P].
Encoder: TypeAlias = SEResNeXt | SonoNetEncoder


def describe_se_resnext(settings: EncoderSettings) -> dict[str, Any]:
    """Return what `build_encoder` makes the backbone of."""
    return {"kind": "se_resnext", "settings": settings.model_dump(mode="json")}


def describe_sononet(width: int, height: int, columns: int) -> dict[str, Any]:
    """Return what `build_encoder` makes SonoNet's feature layers of."""
    return {"kind": "sononet", "width": width, "height": height, "columns": columns}


def build_encoder(description: dict[str, Any]) -> Encoder:
    """Build an encoder with untrained weights.

    Raises:
        DataError: for a description of nothing known here.
    """
    try:
        if description["kind"] == "sononet":
            return SonoNetEncoder(*(int(description[name]) for name in ("width", "height", "columns")))
        if description["kind"] == "se_resnext":
            return SEResNeXt(check_settings(EncoderSettings, description["settings"]))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(f"description of an encoder: {error!r}") from None
    raise DataError(f"description of an encoder: expected kind se_resnext or sononet, got '{description['kind']}'")
