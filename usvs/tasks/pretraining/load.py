"""Loading what a run learnt: the video encoder, or the complete model."""

import json
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from usvs.errors import DataError
from usvs.models.encoder import Encoder
from usvs.tasks.encoder_files import is_saved_encoder, load_saved_encoder, saved_encoder_description
from usvs.tasks.pretraining.encoders import DEFAULT, rebuild_encoder
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import PretrainSettings, read_settings
from usvs.training.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint_folder
from usvs.training.random_state import seeded

VIDEO = "streams.video."
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_encoder(run: str | Path, encoder: nn.Module | None = None) -> Encoder:
    """Return the video encoder of a pretraining run, on the CPU and in evaluation mode.

    Args:
        run: a run folder, whose latest checkpoint is read; one checkpoint folder; or a folder that `usvs.save_encoder`
            or ``usvs export --format folder`` has written.
        encoder: a module of the run's architecture, which gets its weights; needed only for a run that was pretrained
            with an own encoder that is not registered (`usvs.register_encoder`).

    Returns:
        An encoder: ``encoder(x)`` gives features [N, C] and ``forward_features(x)`` maps [N, C, h, w];
        ``preprocess(images)`` makes x as the run did, see ``pretrained_cfg``.

    Raises:
        DataError: when there is no checkpoint, or it is damaged or of another model.
        ConfigError: for a run with an own encoder where `encoder` is not given.
    """
    if is_saved_encoder(Path(run)):
        return load_saved_encoder(Path(run), encoder)
    checkpoint, settings, folder = _read(Path(run))
    module = rebuild_encoder(_encoder_description(checkpoint), settings, encoder, folder)
    weights = {name.removeprefix(VIDEO): value for name, value in checkpoint.model.items() if name.startswith(VIDEO)}
    return _load_weights(module, weights, folder)


def load_pretrain_model(
    run: str | Path, encoder: nn.Module | None = None, loss: nn.Module | None = None
) -> tuple[PretrainModel, PretrainSettings]:
    """Return the complete model of a pretraining run, on the CPU and in evaluation mode, and its settings.

    Args:
        run: a run folder, whose latest checkpoint is read, or one checkpoint folder.
        encoder: as of `load_encoder`.
        loss: the run's own loss, where it had one.

    Raises:
        DataError: when there is no checkpoint, or it is damaged or of another model.
        ConfigError: for a run with an own encoder where `encoder` is not given.
    """
    checkpoint, settings, folder = _read(Path(run))
    video = rebuild_encoder(_encoder_description(checkpoint), settings, encoder, folder)
    with seeded(settings.run.seed):
        model = PretrainModel(settings, video, loss)
    return _load_weights(model, checkpoint.model, folder), settings


def load_settings_of_run(run: str | Path) -> PretrainSettings:
    """Return the settings that a pretraining run was made with.

    Raises:
        DataError: when there is no checkpoint, or it is damaged.
    """
    return _read(Path(run))[1]


def read_description(run: Path) -> dict[str, Any]:
    """Return the description of a run's video encoder, see `usvs.tasks.pretraining.encoders.VideoEncoder`.

    Raises:
        DataError: when there is no checkpoint, or it is damaged.
    """
    if is_saved_encoder(run):
        return saved_encoder_description(run)
    return _encoder_description(_read(run)[0])


def _read(path: Path) -> tuple[Checkpoint, PretrainSettings, Path]:
    if is_saved_encoder(path):
        raise DataError(f"'{path}': expected a pretraining run with its checkpoints, got an encoder on its own")
    folder = newest_checkpoint_folder(path)
    checkpoint = load_checkpoint(folder)
    if checkpoint.state.get("kind") != "pretrain":
        raise DataError(
            f"checkpoint '{folder}': expected one of a pretraining run, got '{checkpoint.state.get('kind')}'"
        )
    return checkpoint, read_settings(json.dumps(checkpoint.state.get("settings")), folder), folder


def _encoder_description(checkpoint: Checkpoint) -> dict[str, Any]:
    model: dict[str, Any] = checkpoint.state.get("model") or {}
    description: dict[str, Any] = model.get("encoder", DEFAULT)
    return description


def _load_weights(module: ModuleT, weights: dict[str, Tensor], folder: Path) -> ModuleT:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise DataError(f"checkpoint '{folder}' does not fit the model of its settings: {first}") from error
    return module.eval()
