"""Encoders, their heads, the two-stream model of pretraining, and loading weights; no data sets and no losses.

`create_encoder` makes an encoder by name, `as_encoder` makes one of any module with `forward_features` and
`num_features`, `register_encoder` adds a name, `load_weights` fills an encoder with published weights.
"""

from usvs.models.encoder import Encoder, FeatureModule, PretrainedCfg, as_encoder, update_pretrained_cfg
from usvs.models.pretrained import LoadReport, load_weights
from usvs.models.registry import (
    EncoderConfig,
    build_encoder,
    create_encoder,
    encoder_config,
    list_encoders,
    register_encoder,
)

__all__ = [
    "Encoder",
    "EncoderConfig",
    "FeatureModule",
    "LoadReport",
    "PretrainedCfg",
    "as_encoder",
    "build_encoder",
    "create_encoder",
    "encoder_config",
    "list_encoders",
    "load_weights",
    "register_encoder",
    "update_pretrained_cfg",
]
