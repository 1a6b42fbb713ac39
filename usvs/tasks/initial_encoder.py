"""Initial encoders of the downstream tasks (``--init``): random, a pretraining run, ImageNet or SonoNet."""

import copy
import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import nn

from usvs.errors import ConfigError
from usvs.losses.settings import ObjectiveSettings
from usvs.models.encoder import Encoder, as_encoder, update_pretrained_cfg
from usvs.models.pretrained import create_encoder_from_weights
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.init_names import INIT_HELP, INIT_PREFIXES
from usvs.tasks.key_purpose import KeyPurpose
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.load import load_encoder
from usvs.tasks.pretraining.settings import read_settings
from usvs.tasks.settings import FinetuneSettings
from usvs.training.run_folder import CONFIG
from usvs.utils.permutation import derive_key
from usvs.utils.regular_files import read_regular_text

logger: logging.Logger = logging.getLogger(__name__)

Kind = Literal["random", "run", "imagenet", "sononet", "timm", "module"]
# ``random``; a run's folder, plain or as ``video:RUN`` or ``usvs:RUN``; weights of `usvs.models.load_weights`; or a
# module with `num_features` and `forward_features`.
Init: TypeAlias = str | Path | nn.Module


class ParsedInit(NamedTuple):
    """An init in parts.

    Attributes:
        kind: where the weights come from.
        path: of the weights.
        required_source: what a run must have learnt from.
    """

    kind: Kind
    path: Path
    required_source: Literal["video", "usvs"] | None = None

    @property
    def is_external(self) -> bool:
        """Whether its weights were not trained on this archive, as far as usvs can know."""
        return self.kind in ("imagenet", "sononet", "timm", "module")


def parse_init(init: Init) -> ParsedInit:
    """Parse an init; what has no known prefix is a run's folder.

    Raises:
        ConfigError: for a prefix without a path.
    """
    if isinstance(init, nn.Module):
        return ParsedInit("module", Path(type(init).__name__.lower()))
    if isinstance(init, Path):
        return ParsedInit("run", init)
    if init == "random":
        return ParsedInit("random", Path())
    prefix, colon, path = init.partition(":")
    if not colon or prefix not in INIT_PREFIXES:
        return ParsedInit("run", Path(init))
    if not path:
        raise ConfigError(f"init '{init}': expected {INIT_HELP}")
    inits: dict[str, ParsedInit] = {
        "video": ParsedInit("run", Path(path), "video"),
        "usvs": ParsedInit("run", Path(path), "usvs"),
        "imagenet": ParsedInit("imagenet", Path(path)),
        "sononet": ParsedInit("sononet", Path(path)),
        "timm": ParsedInit("timm", Path(path)),
    }
    return inits[prefix]


def is_random(init: Init) -> bool:
    """Return whether an init is the untrained encoder."""
    return parse_init(init).kind == "random"


def initial_encoder(init: Init, settings: FinetuneSettings) -> Encoder:
    """Return the video encoder of an init; the untrained one depends on the seed alone, not on the fold.

    Published weights bring their own network, whatever `model.video` says. Which tensors were loaded and which not is
    logged the first time. A module is copied, so that it is not trained itself.

    Args:
        init: see `Init`.
        settings: `video_encoder` describes the network; the seed decides the weights of the random one.

    Raises:
        ConfigError: where a run's encoder is not the one the settings describe: unlike networks cannot be compared.
        DataError: for a run or a file without fitting weights.
        MissingDependencyError: where weights of a library are not on this machine.
    """
    encoder = _build_encoder(init, settings)
    shape = {"input_size": (encoder.in_chans, settings.model.frame_pixels, settings.model.frame_pixels)}
    update_pretrained_cfg(encoder, {**shape, "crop_fraction": settings.augment.crop_fraction})
    return encoder


def _build_encoder(init: Init, settings: FinetuneSettings) -> Encoder:
    if isinstance(init, nn.Module):
        return copy.deepcopy(as_encoder(init))
    parsed = parse_init(init)
    if parsed.is_external:
        stamp = parsed.path.stat().st_mtime_ns if parsed.path.is_file() else 0
        stride = settings.video_encoder.output_stride
        return copy.deepcopy(_external(f"{parsed.kind}:{parsed.path}", stamp, stride, *settings.sononet_pixels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, KeyPurpose.ENCODER) >> 1)
        untrained = SEResNeXt(settings.video_encoder)
    if parsed.kind == "random":
        return untrained
    if parsed.required_source is not None:
        _check_source(parsed)
    encoder = as_encoder(load_encoder(parsed.path))
    if not isinstance(encoder, SEResNeXt):  # another architecture than the settings can describe
        return encoder
    if _shapes(encoder) != _shapes(untrained):
        raise ConfigError(
            f"init '{init}': its video encoder is not that of setting 'model.video'; use the profile of its pretraining"
        )
    if encoder.stride != untrained.stride:  # dilation has no weights, so those of any stride load at any other
        untrained.load_state_dict(encoder.state_dict())
        return untrained
    return encoder


def init_names(inits: Sequence[Init]) -> list[str]:
    """Return a short name for each init, a run's own folder name, numbered where two are the same."""
    parsed = [parse_init(init) for init in inits]
    names = [
        one.path.resolve().name if one.kind == "run" else one.path.name if one.kind in ("module", "timm") else one.kind
        for one in parsed
    ]
    return [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]


def encoder_sha256(encoder: torch.nn.Module) -> str:
    """Return the SHA-256 of an encoder's parameters and buffers, in their order."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _external(source: str, stamp: int, stride: int, height: int, columns: int) -> Encoder:
    """Read published weights once and log which tensors were loaded; `stamp` changes with the file."""
    with torch.random.fork_rng(devices=[]):
        encoder, report = create_encoder_from_weights(source, stride, height, columns)
    network = {"imagenet": "SE-ResNeXt-50 32x4d", "sononet": f"SonoNet, frames resized to {height} x {columns}"}
    kind, _, name = source.partition(":")
    logger.info(f"{kind}: {network.get(kind, name)}: {report}")
    return encoder


def _check_source(parsed: ParsedInit) -> None:
    """Refuse ``video:RUN`` for a run that learnt from speech, and ``usvs:RUN`` for one that did not."""
    config = parsed.path / CONFIG
    if not config.is_file():
        raise ConfigError(f"init '{parsed.required_source}:{parsed.path.name}': expected a run folder with {CONFIG}")
    objective: ObjectiveSettings = read_settings(read_regular_text(config), config).objective
    learnt = "usvs" if uses_pairs(objective) else "video"
    if learnt != parsed.required_source:
        source = "speech and video" if learnt == "usvs" else "video alone"
        raise ConfigError(
            f"init '{parsed.required_source}:{parsed.path.name}': that run learnt from {source}; type '{learnt}:RUN'"
        )


def _shapes(encoder: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}
