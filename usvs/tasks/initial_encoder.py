"""Initial encoders of the downstream tasks (``--init``): random, a pretraining run, ImageNet or SonoNet."""

import copy
import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from usvs.data.transforms import GRAY_MEAN, GRAY_SPREAD
from usvs.errors import ConfigError, MissingDependencyError
from usvs.losses.settings import ObjectiveSettings
from usvs.models.pretrained import load_imagenet_weights
from usvs.models.registry import Encoder, build_encoder, describe_se_resnext, describe_sononet
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.models.sononet import FEATURES_OVER_WIDTH, SonoNetEncoder, make_sononet
from usvs.models.weight_files import read_weights
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.encoders import check_encoder, describe_module
from usvs.tasks.pretraining.load import load_encoder, read_description
from usvs.tasks.pretraining.settings import read_settings
from usvs.tasks.settings import FinetuneSettings
from usvs.training.run_folder import CONFIG
from usvs.utils.permutation import derive_key

logger = logging.getLogger(__name__)

Kind = Literal["random", "run", "imagenet", "sononet", "module"]
# ``random``; a run's folder, plain or as ``video:RUN`` or ``usvs:RUN``; ``imagenet:FILE``; ``sononet:FILE``; or a
# module with `num_features`, `forward_features` and `forward`.
Init: TypeAlias = str | Path | nn.Module
INIT_HELP = "random, RUN, video:RUN, usvs:RUN, imagenet:FILE|timm|torchvision or sononet:FILE"
OWN_MODULE = "module"  # kind of an encoder that usvs cannot build: whoever loads the model must give it
PREFIXES = ("video", "usvs", "imagenet", "sononet")
ENCODER = 100  # what the key of an untrained encoder's weights is for


class ParsedInit(NamedTuple):
    """An init in parts.

    Attributes:
        kind: where the weights come from.
        path: of the weights.
        claimed: what a run must have learnt from.
    """

    kind: Kind
    path: Path
    claimed: Literal["video", "usvs"] | None = None

    @property
    def is_external(self) -> bool:
        """Whether its weights were not trained on this archive, as far as usvs can know."""
        return self.kind in ("imagenet", "sononet", "module")


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
    if not colon or prefix not in PREFIXES:
        return ParsedInit("run", Path(init))
    if not path:
        raise ConfigError(f"init '{init}': expected {INIT_HELP}")
    inits: dict[str, ParsedInit] = {
        "video": ParsedInit("run", Path(path), "video"),
        "usvs": ParsedInit("run", Path(path), "usvs"),
        "imagenet": ParsedInit("imagenet", Path(path)),
        "sononet": ParsedInit("sononet", Path(path)),
    }
    return inits[prefix]


def is_random(init: Init) -> bool:
    """Return whether an init is the untrained encoder."""
    return parse_init(init).kind == "random"


def initial_encoder(init: Init, settings: FinetuneSettings) -> Encoder:
    """Return the video encoder of an init; the untrained one depends on the seed alone, not on the fold.

    ImageNet's weights are of SE-ResNeXt-50 32x4d and SonoNet's of SonoNet, whatever `model.video` says. Which tensors
    were loaded and which not is logged the first time. A module is copied, so that it is not trained itself.

    Args:
        init: see `Init`.
        settings: `video_encoder` describes the network; the seed decides the weights of the random one.

    Raises:
        ConfigError: where a run's encoder is not the one the settings describe: unlike networks cannot be compared.
        DataError: for a run or a file without fitting weights.
    """
    if isinstance(init, nn.Module):
        own: Any = copy.deepcopy(check_encoder(init))
        return own  # type: ignore[no-any-return]
    start = parse_init(init)
    if start.is_external:
        path = _library_file(start.path) if start.kind == "imagenet" else start.path
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        stride = settings.video_encoder.output_stride
        state, description = _external(start.kind, path, stamp, stride, *settings.sononet_pixels)
        encoder = build_encoder(description)
        encoder.load_state_dict(state)
        return encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, ENCODER) >> 1)
        untrained = SEResNeXt(settings.video_encoder)
    if start.kind == "random":
        return untrained
    if start.claimed is not None:
        _check_claim(start)
    encoder = load_encoder(start.path)
    if not isinstance(encoder, SEResNeXt):  # of another architecture than the settings can describe
        return encoder
    if _shapes(encoder) != _shapes(untrained):
        raise ConfigError(
            f"init '{init}': its video encoder is not that of setting 'model.video'; use the profile of its pretraining"
        )
    if encoder.stride != untrained.stride:  # dilation has no weights, so those of any stride load at any other
        untrained.load_state_dict(encoder.state_dict())
        return untrained
    return encoder


def encoder_description(init: Init, encoder: Encoder, settings: FinetuneSettings) -> dict[str, Any]:
    """Return the plain values from which `build_encoder` makes the init's network again."""
    kind, own = parse_init(init).kind, not isinstance(encoder, SEResNeXt)
    if isinstance(encoder, SonoNetEncoder):
        return describe_sononet(encoder.num_features // FEATURES_OVER_WIDTH, encoder.height, encoder.columns)
    if kind == "run" and own:
        return read_description(parse_init(init).path)
    if kind == "module" and own:
        return describe_module(encoder)
    if kind == "imagenet":
        return describe_se_resnext(EncoderSettings(output_stride=settings.video_encoder.output_stride))
    return describe_se_resnext(settings.video_encoder)


def init_names(inits: Sequence[Init]) -> list[str]:
    """Return a short name for each init, a run's own folder name, numbered where two are the same."""
    parsed = [parse_init(init) for init in inits]
    names = [
        one.path.resolve().name if one.kind == "run" else one.path.name if one.kind == "module" else one.kind
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
def _external(
    kind: Kind, path: Path, stamp: int, stride: Literal[8, 16, 32], height: int, columns: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read external weights once, log which tensors were loaded, and return them as the state of an encoder."""
    weights = read_weights(path)
    if kind == "sononet":
        network = make_sononet(weights)
        width = network.num_features // FEATURES_OVER_WIDTH
        logger.info(
            f"sononet: SonoNet-{width}, all {len(network.features.state_dict())} tensors of its feature layers loaded, "
            f"the {len(network.adaption.state_dict())} after them not used; frames are resized to {height} x {columns}"
        )
        features = {f"features.{name}": value for name, value in network.features.state_dict().items()}
        return features, describe_sononet(width, height, columns)
    description = describe_se_resnext(EncoderSettings(output_stride=stride))
    encoder = build_encoder(description)
    assert isinstance(encoder, SEResNeXt)
    report = load_imagenet_weights(encoder, weights, GRAY_MEAN, GRAY_SPREAD)
    gated = any(".se." in name for name in weights)
    gates = "" if gated else "; every squeeze-and-excitation begins as the identity"
    logger.info(f"imagenet: SE-ResNeXt-50 32x4d, {report}; the stem's three colours folded to one channel{gates}")
    return encoder.state_dict(), description


def _check_claim(start: ParsedInit) -> None:
    """Refuse ``video:RUN`` for a run that learnt from speech, and ``usvs:RUN`` for one that did not."""
    config = start.path / CONFIG
    if not config.is_file():
        raise ConfigError(f"init '{start.claimed}:{start.path.name}': expected a run folder with {CONFIG}")
    objective: ObjectiveSettings = read_settings(config.read_text(encoding="utf-8"), config).objective
    learnt = "usvs" if uses_pairs(objective) else "video"
    if learnt != start.claimed:
        source = "speech and video" if learnt == "usvs" else "video alone"
        raise ConfigError(
            f"init '{start.claimed}:{start.path.name}': that run learnt from {source}; type '{learnt}:RUN'"
        )


def _library_file(path: Path) -> Path:
    """Return the file of weights that an installed library keeps on this machine; nothing is downloaded here.

    Raises:
        MissingDependencyError: where the library is not installed or has no such file.
    """
    if str(path) == "timm":
        try:
            from huggingface_hub import try_to_load_from_cache
        except (ImportError, OSError, RuntimeError):
            raise MissingDependencyError("imagenet:timm: its store of weights is not installed; name a file") from None
        for tag in ("racm_in1k", "gluon_in1k"):
            found = try_to_load_from_cache(f"timm/seresnext50_32x4d.{tag}", "model.safetensors")
            if isinstance(found, str):
                return Path(found)
    elif str(path) == "torchvision":
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        files = sorted(folder.glob("resnext50_32x4d-*.pth"))
        if files:
            return files[-1]
    else:
        return path
    raise MissingDependencyError(
        f"imagenet:{path}: no weights of {path} on this machine, and usvs downloads nothing; name a file"
    )


def _shapes(encoder: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}
