"""Weights from elsewhere into an encoder, saying what was loaded and what was not."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from usvs.errors import DataError
from usvs.models.se_resnext import SEResNeXt

SHOWN_NAMES = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in 0 .. 1, as timm and torchvision train
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
GATE = 0.5  # of a squeeze-and-excitation whose last layer is zero


class LoadReport(NamedTuple):
    """Names of tensors: taken over, left as they were for want of a value, and offered but not known."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line: how many were taken, and which were not."""
        total = len(self.loaded) + len(self.missing)
        line = f"{len(self.loaded)} of {total} tensors loaded"
        if self.missing:
            line += f"; left as they were, {len(self.missing)}: {_some(list(self.missing))}"
        if self.unexpected:
            line += f"; in the file and not used, {len(self.unexpected)}: {_some(list(self.unexpected))}"
        return line


def load_imagenet_weights(
    encoder: SEResNeXt, state_dict: Mapping[str, Tensor], gray_mean: float, gray_spread: float
) -> LoadReport:
    """Copy ImageNet weights with timm's or torchvision's names into an encoder of one gray channel.

    The stem is folded, not averaged: on a gray image shown to all three channels the original computes
    sum_c w_c * (g - m_c) / s_c, and the encoder, whose input is (g - gray_mean) / gray_spread, computes the same away
    from the zero-padded border. Weights without squeeze-and-excitation (torchvision's `resnext50_32x4d`) leave every
    gate at one half and double the scale before it: the network begins as the one that was trained.

    Args:
        encoder: changed in place; SE-ResNeXt-50 32x4d for the published weights.
        state_dict: of `seresnext50_32x4d` (timm) or `resnext50_32x4d` (torchvision, timm).
        gray_mean: what the encoder's input has had subtracted, of a gray level in 0 .. 1.
        gray_spread: what it has been divided by.

    Raises:
        DataError: as `load_encoder_weights`.
    """
    state = dict(state_dict)
    stem, mean = state.get("conv1.weight"), state.get("bn1.running_mean")
    if stem is not None and mean is not None and stem.ndim == 4 and stem.size(1) == 3:
        mean_of, deviation = (
            torch.tensor(colours, dtype=torch.float64).view(1, 3, 1, 1)
            for colours in (IMAGENET_MEAN, IMAGENET_DEVIATION)
        )
        scaled = stem.double() / deviation
        offset = (scaled * (gray_mean - mean_of)).sum(dim=(1, 2, 3))
        state["conv1.weight"] = (gray_spread * scaled.sum(dim=1, keepdim=True)).to(stem.dtype)
        state["bn1.running_mean"] = (mean.double() - offset).to(mean.dtype)
    gated = any(".se." in name for name in state)
    if not gated:
        for name in [name for name in state if name.endswith((".bn3.weight", ".bn3.bias"))]:
            state[name] = state[name] / GATE
    report = load_encoder_weights(encoder, state)
    if not gated:
        with torch.no_grad():
            for name, value in encoder.named_parameters():
                if ".se.fc2." in name:
                    value.zero_()
    return report


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
            f"weights for the encoder: expected names such as {_some(list(own))}; got {_some(list(state_dict))}"
        )
    for name in report.loaded:
        if own[name].shape != state_dict[name].shape:
            raise DataError(
                f"weights for the encoder: '{name}' expected shape {list(own[name].shape)},"
                f" got {list(state_dict[name].shape)}"
            )
    encoder.load_state_dict({name: state_dict[name] for name in report.loaded}, strict=False)
    return report


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) or "nothing"
