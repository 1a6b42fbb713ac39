"""Weights from elsewhere into an encoder, saying what was loaded and what was not."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from usvs.errors import DataError
from usvs.models.resnext_se import SEResNeXt

SHOWN_NAMES = 3


class LoadReport(NamedTuple):
    """Names of tensors: taken over, left as they were for want of a value, and offered but not known."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_encoder_weights(encoder: SEResNeXt, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Copy the tensors whose names the encoder knows; names are timm's `seresnext50_32x4d`.

    Args:
        encoder: changed in place.
        state_dict: for example a usvs checkpoint's video stream or a timm model's `state_dict()`.

    Raises:
        DataError: when no name fits, or a tensor has another shape than the encoder's; nothing is changed then.
    """
    own = encoder.state_dict()
    report = LoadReport(
        loaded=tuple(name for name in own if name in state_dict),
        missing=tuple(name for name in own if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in own),
    )
    if not report.loaded:
        raise DataError(
            f"weights for the encoder: wanted names such as {_some(list(own))}; got {_some(list(state_dict))}"
        )
    for name in report.loaded:
        if own[name].shape != state_dict[name].shape:
            raise DataError(
                f"weights for the encoder: '{name}' wanted shape {list(own[name].shape)},"
                f" got {list(state_dict[name].shape)}"
            )
    encoder.load_state_dict({name: state_dict[name] for name in report.loaded}, strict=False)
    return report


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) or "nothing"
