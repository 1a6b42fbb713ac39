"""Saved models of any downstream task: ``model.safetensors``, and ``model.json`` with everything that rebuilds it."""

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from usvs import __version__
from usvs.config import check_settings
from usvs.errors import ConfigError, DataError
from usvs.models.weight_files import MAX_WEIGHTS_BYTES
from usvs.tasks.pretraining.encoders import OWN_MODULE, describe_encoder, described_encoder
from usvs.tasks.registry import KINDS, AnyTask
from usvs.tasks.settings import FinetuneSettings
from usvs.utils.atomic_files import publish, write_text, writing
from usvs.utils.hashing import file_sha256
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular, read_regular_text

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1  # of model.json


@dataclass(frozen=True)
class TrainedModel:
    """A trained module with what is needed to use it.

    Attributes:
        task: what it predicts, with the class names.
        module: encoder and head, in evaluation mode.
        settings: it was trained with.
        prepared_pixels: side of the frames before `settings.augment` crops and `settings.model` resizes them.
    """

    task: AnyTask
    module: Any
    settings: FinetuneSettings
    prepared_pixels: int


def save_model(folder: str | Path, model: TrainedModel) -> None:
    """Write a model; ``model.json`` is written last, so a folder without it is an interrupted write.

    Args:
        folder: made where it does not exist; the two files in it are replaced.
        model: what to save.

    Raises:
        ResourceError: where the disk is full or not writable.
    """
    target = Path(folder)
    with writing(f"model '{target}'"):
        _write_model(target, model)


def _write_model(target: Path, model: TrainedModel) -> None:
    make_private_folder(target)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.module.state_dict().items()}
    partial = target / f".{WEIGHTS}.partial"
    try:
        save_file(tensors, partial)
    except Exception:
        partial.unlink(missing_ok=True)  # a full disk gets its space back
        raise
    (target / DESCRIPTION).unlink(missing_ok=True)
    publish(partial, target / WEIGHTS)
    description = {
        "format": FORMAT,
        "kind": model.task.kind,
        "task": model.task.description(),
        "encoder": describe_encoder(model.module.encoder),
        "input": {
            "prepared_pixels": model.prepared_pixels,
            "crop_fraction": model.settings.augment.crop_fraction,
            "frame_pixels": model.settings.model.frame_pixels,
        },
        "settings": model.settings.model_dump(mode="json"),
        "weights_sha256": file_sha256(target / WEIGHTS),
        "versions": {"usvs": __version__, "torch": torch.__version__},
    }
    write_text(target / DESCRIPTION, json.dumps(description, indent=1))


def load_model(folder: str | Path, encoder: nn.Module | None = None) -> TrainedModel:
    """Load a model that `save_model` wrote, on the CPU and in evaluation mode.

    Args:
        folder: with ``model.json`` and ``model.safetensors``.
        encoder: a module of the class that was trained, for models of an own encoder; its weights are replaced.

    Raises:
        DataError: for a file that is missing, damaged or of another model; the message names it and what is wrong.
        ConfigError: for a model of an own encoder without `encoder`.
    """
    source = Path(folder)
    described = _read_description(source / DESCRIPTION)
    try:
        if described["format"] != FORMAT:
            raise DataError(f"'{source / DESCRIPTION}', format: expected {FORMAT}, got {described['format']!r}")
        if described["kind"] not in KINDS:
            raise DataError(f"'{source / DESCRIPTION}', kind: expected {' or '.join(KINDS)}, got {described['kind']!r}")
        kind = KINDS[described["kind"]]
        settings = check_settings(kind.settings, described["settings"])
        task = kind.task.from_description(described["task"])
        pixels = int(described["input"]["prepared_pixels"])
        with torch.random.fork_rng(devices=[]):  # of the initial weights, which are replaced
            module = task.module(
                described_encoder(described["encoder"], copy.deepcopy(encoder), source), None, settings
            )
        expected_sha256 = str(described["weights_sha256"])
    except KeyError as error:
        raise DataError(f"'{source / DESCRIPTION}': expected an entry {error}, got none") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"'{source / DESCRIPTION}': {error}") from None
    except ConfigError as error:
        if described.get("encoder", {}).get("kind") == OWN_MODULE:
            raise
        raise DataError(f"'{source / DESCRIPTION}': {error}") from None
    _load_weights(source / WEIGHTS, module, expected_sha256)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training: the same bits
    return TrainedModel(task, module.eval(), settings, pixels)


def _read_description(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(read_regular_text(file))
    except FileNotFoundError:
        raise DataError(f"model '{file.parent}': expected a file {file.name}, got none") from None
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected JSON, got {error}") from None
    if not isinstance(described, dict):
        raise DataError(f"'{file}': expected a JSON object, got {type(described).__name__}")
    return described


def _load_weights(file: Path, module: nn.Module, expected_sha256: str) -> None:
    try:
        content = read_regular(file, MAX_WEIGHTS_BYTES)
    except OSError as error:
        raise DataError(f"'{file}': expected the weights of the model, got {error.strerror or error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != expected_sha256:
        raise DataError(f"'{file}' is damaged: expected SHA-256 {expected_sha256[:12]}..., got {found[:12]}...")
    try:
        module.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        lines = str(error).splitlines()
        raise DataError(f"'{file}' does not fit {DESCRIPTION}: {lines[-1].strip()}") from None
