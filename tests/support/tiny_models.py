"""Settings of networks so small that a training step takes some ten milliseconds."""

from typing import Any

from usvs.models.settings import EncoderSettings, ModelSettings

HEADS = {
    "projection_hidden": 16,
    "projection_width": 8,
    "order_hidden": 8,
    "order_pair_hidden": 8,
    "order_dropout": 0.0,
}


def tiny_encoder(**changes: Any) -> EncoderSettings:
    """An SE-ResNeXt of four blocks."""
    return EncoderSettings(
        **{"layers": (1, 1, 1, 1), "cardinality": 2, "base_width": 16, "stem_width": 8, "se_ratio": 1 / 4, **changes}
    )


def tiny_model(encoder: EncoderSettings, **changes: Any) -> ModelSettings:
    """Both streams with this encoder, and narrow heads."""
    return ModelSettings(video=encoder, speech=encoder, frame_pixels=32, **{**HEADS, **changes})
