"""Loading published weights into an encoder, with a report of what was loaded and what was not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.models.encoder import Encoder, EncoderAdapter
from usvs.models.preprocessing import GRAY_MEAN, GRAY_SPREAD
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.models.sononet import (
    FEATURES_OVER_WIDTH,
    SONONET_HEIGHT,
    SONONET_WIDTH,
    SonoNetEncoder,
    make_sononet,
)
from usvs.models.timm_encoder import cached_file, create_timm_encoder, timm_weights_file
from usvs.models.weight_files import read_weights

SHOWN_NAMES = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in 0 .. 1, in the training of timm and torchvision
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
GATE = 0.5  # output of a squeeze-and-excitation gate whose last layer is zero
SOURCES = "imagenet:FILE, imagenet:timm, imagenet:torchvision, sononet:FILE or timm:NAME"


class LoadReport(NamedTuple):
    """Result of loading weights.

    Attributes:
        loaded: names of the encoder's tensors that were set.
        missing: names of those that kept their values, since the file has none.
        unexpected: names in the file that the encoder does not have.
        notes: conversions that were made.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line: the number of tensors loaded and the names of those that were not."""
        parts = [f"{len(self.loaded)} of {len(self.loaded) + len(self.missing)} tensors loaded"]
        if self.missing:
            parts.append(f"left as they were, {len(self.missing)}: {_some(list(self.missing))}")
        if self.unexpected:
            parts.append(f"in the file and not used, {len(self.unexpected)}: {_some(list(self.unexpected))}")
        return "; ".join((*parts, *self.notes))


def load_weights(encoder: Encoder, source: str) -> LoadReport:
    """Load published weights into an encoder, in place; no file is downloaded.

    Args:
        encoder: of the network that the weights are of: SE-ResNeXt-50 32x4d for ``imagenet:``, SonoNet of the same
            width for ``sononet:``, and for ``timm:`` the network of that name or SE-ResNeXt-50 32x4d.
        source: ``imagenet:FILE`` with timm's or torchvision's names; ``imagenet:timm`` and ``imagenet:torchvision``,
            the file that the library keeps on this machine; ``sononet:FILE`` in any public layout; ``timm:NAME``.

    Raises:
        ConfigError: for a source of another form, or an encoder of another kind than its weights.
        DataError: for a file that is missing, damaged or of other weights; the encoder is unchanged then.
        MissingDependencyError: where weights of a library are not on this machine.
    """
    kind, _, rest = source.partition(":")
    if kind not in ("imagenet", "sononet", "timm") or not rest:
        raise ConfigError(f"weights '{source}': expected {SOURCES}")
    if kind == "timm" and isinstance(encoder, EncoderAdapter):
        return _load_timm_weights(encoder, rest)
    if kind == "sononet" and isinstance(encoder, SonoNetEncoder):
        return load_encoder_weights(encoder, make_sononet(read_weights(Path(rest))).state_dict())
    if kind != "sononet" and isinstance(encoder, SEResNeXt):
        file = timm_weights_file(rest) if kind == "timm" else imagenet_file(rest)
        return load_imagenet_weights(encoder, read_weights(file))
    raise ConfigError(f"weights '{source}': an encoder of class {type(encoder).__name__} cannot load them")


def create_encoder_from_weights(
    source: str, output_stride: int | None = None, height: int = SONONET_HEIGHT, columns: int = SONONET_WIDTH
) -> tuple[Encoder, LoadReport]:
    """Return the encoder that published weights are of, with these weights.

    Args:
        source: as of `load_weights`.
        output_stride: of SE-ResNeXt, 8, 16 or 32, and of networks of timm that have it; None: their default.
        height: rows that SonoNet resizes frames to.
        columns: columns that SonoNet resizes frames to.

    Raises:
        ConfigError: as `load_weights`.
        DataError: as `load_weights`.
        MissingDependencyError: as `load_weights`.
    """
    kind, _, rest = source.partition(":")
    encoder: Encoder
    if kind == "timm" and rest:
        encoder = create_timm_encoder(rest, output_stride=output_stride)
        encoder.registry_config = {"name": source, "output_stride": output_stride, "kwargs": {}}
    elif kind == "sononet" and rest:
        width = make_sononet(read_weights(Path(rest))).num_features // FEATURES_OVER_WIDTH
        encoder = SonoNetEncoder(width, height, columns)
    else:
        values = {} if output_stride is None else {"output_stride": output_stride}
        encoder = SEResNeXt(EncoderSettings.model_validate(values))
    return encoder, load_weights(encoder, source)


def imagenet_file(name: str) -> Path:
    """Return the file of ImageNet weights that ``imagenet:NAME`` means.

    Args:
        name: a path; or ``timm`` or ``torchvision``: the file that the library keeps on this machine.

    Raises:
        MissingDependencyError: where the library keeps no such file.
    """
    files: Sequence[Path | None]
    if name == "timm":
        files = [cached_file(f"timm/seresnext50_32x4d.{tag}") for tag in ("racm_in1k", "gluon_in1k")]
    elif name == "torchvision":
        files = sorted((Path(torch.hub.get_dir()) / "checkpoints").glob("resnext50_32x4d-*.pth"), reverse=True)
    else:
        files = [Path(name)]
    for file in files:
        if file is not None:
            return file
    raise MissingDependencyError(
        f"imagenet:{name}: no weights of {name} on this machine, and usvs downloads nothing; name a file: imagenet:FILE"
    )


def load_imagenet_weights(
    encoder: SEResNeXt,
    state_dict: Mapping[str, Tensor],
    gray_mean: float = GRAY_MEAN,
    gray_spread: float = GRAY_SPREAD,
) -> LoadReport:
    """Load ImageNet weights with timm's or torchvision's names into an SE-ResNeXt for gray frames.

    The first layer is folded, not averaged: on a gray image repeated over three channels the original computes
    sum_c w_c * (g - m_c) / s_c; the encoder, whose input is (g - gray_mean) / gray_spread, computes the same away from
    the zero-padded border. For weights without squeeze-and-excitation (torchvision's `resnext50_32x4d`) every gate is
    set to one half and the scale before it is doubled, so that the network initially computes what the original does.

    Args:
        encoder: changed in place; SE-ResNeXt-50 32x4d for the published weights, with one or three input channels.
        state_dict: of `seresnext50_32x4d` (timm) or `resnext50_32x4d` (torchvision, timm).
        gray_mean: what is subtracted from gray levels in 0 .. 1 in the encoder's input.
        gray_spread: what the difference is divided by.

    Raises:
        DataError: as `load_encoder_weights`.
    """
    state, notes = dict(state_dict), []
    stem, mean = state.get("conv1.weight"), state.get("bn1.running_mean")
    if stem is not None and mean is not None and stem.ndim == 4 and stem.size(1) == 3:
        mean_of, deviation = (
            torch.tensor(colours, dtype=torch.float64).view(1, 3, 1, 1)
            for colours in (IMAGENET_MEAN, IMAGENET_DEVIATION)
        )
        scaled = stem.double() / deviation
        offset = (scaled * (gray_mean - mean_of)).sum(dim=(1, 2, 3))
        folded = scaled.sum(dim=1, keepdim=True) if encoder.in_chans == 1 else scaled
        state["conv1.weight"] = (gray_spread * folded).to(stem.dtype)
        state["bn1.running_mean"] = (mean.double() - offset).to(mean.dtype)
        notes.append(f"first layer folded from RGB to {encoder.in_chans} gray channel(s)")
    gated = any(".se." in name for name in state)
    if not gated:
        for name in [name for name in state if name.endswith((".bn3.weight", ".bn3.bias"))]:
            state[name] = state[name] / GATE
        notes.append("weights without squeeze-and-excitation: gates initialised to the identity")
    report = load_encoder_weights(encoder, state)
    if not gated:
        with torch.no_grad():
            for name, value in encoder.named_parameters():
                if ".se.fc2." in name:
                    value.zero_()
    return report._replace(notes=tuple(notes))


def load_encoder_weights(encoder: nn.Module, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Load the tensors whose names the encoder has.

    Args:
        encoder: changed in place.
        state_dict: under the encoder's own names; for SE-ResNeXt those of timm's `seresnext50_32x4d`, for example the
            video stream of a usvs checkpoint or a timm model's `state_dict()`.

    Raises:
        DataError: where no name is the encoder's, or a tensor has another shape; the encoder is unchanged then.
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


def _load_timm_weights(encoder: EncoderAdapter, name: str) -> LoadReport:
    made = encoder.registry_config
    if made is None or made["name"].removeprefix("timm:").partition(".")[0] != name.partition(".")[0]:
        raise ConfigError(f"weights 'timm:{name}': expected an encoder made by create_encoder('timm:{name}')")
    trained = create_timm_encoder(name, encoder.in_chans, made["output_stride"], pretrained=True, **made["kwargs"])
    return load_encoder_weights(encoder, trained.state_dict())


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) or "nothing"
