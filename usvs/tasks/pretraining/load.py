"""What a run learnt, taken out again: the video encoder, or the whole model."""

import json
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from usvs.errors import DataError
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.run_folder import read_settings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint_folder

VIDEO = "streams.video."
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_encoder(path: Path) -> SEResNeXt:
    """Return the video encoder of a pretraining run, on the CPU and in evaluation mode.

    Args:
        path: a run folder, whose latest checkpoint is read, or one checkpoint folder.

    Raises:
        DataError: when there is no checkpoint, or it is damaged, or holds another model.
    """
    checkpoint, settings, folder = _read(Path(path))
    encoder = SEResNeXt(settings.model.video)
    weights = {name.removeprefix(VIDEO): value for name, value in checkpoint.model.items() if name.startswith(VIDEO)}
    return _filled(encoder, weights, folder)


def load_pretrain_model(path: Path) -> tuple[PretrainModel, PretrainSettings]:
    """Return the whole model of a pretraining run, on the CPU and in evaluation mode, and its settings.

    Args:
        path: a run folder, whose latest checkpoint is read, or one checkpoint folder.

    Raises:
        DataError: when there is no checkpoint, or it is damaged, or holds another model.
    """
    checkpoint, settings, folder = _read(Path(path))
    return _filled(PretrainModel(settings), checkpoint.model, folder), settings


def _read(path: Path) -> tuple[Checkpoint, PretrainSettings, Path]:
    folder = newest_checkpoint_folder(path)
    checkpoint = load_checkpoint(folder)
    if checkpoint.state.get("kind") != "pretrain":
        raise DataError(
            f"checkpoint '{folder}': expected one of a pretraining run, got '{checkpoint.state.get('kind')}'"
        )
    return checkpoint, read_settings(json.dumps(checkpoint.state.get("settings")), folder), folder


def _filled(module: ModuleT, weights: dict[str, Tensor], folder: Path) -> ModuleT:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise DataError(f"checkpoint '{folder}' does not fit its own settings: {first}") from error
    return module.eval()
