"""Saved models of any downstream task: ``model.safetensors``, and ``model.json`` with everything that rebuilds it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from usvs.config import check_settings
from usvs.errors import ConfigError, DataError
from usvs.tasks.model_folder import DESCRIPTION, WEIGHTS, load_tensors, read_description, write_model_folder
from usvs.tasks.pretraining.encoders import OWN_MODULE, describe_encoder, described_encoder
from usvs.tasks.registry import KINDS, AnyTask
from usvs.tasks.settings import FinetuneSettings
from usvs.utils.atomic_files import writing


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
    description = {
        "kind": model.task.kind,
        "task": model.task.description(),
        "encoder": describe_encoder(model.module.encoder),
        "input": {
            "prepared_pixels": model.prepared_pixels,
            "crop_fraction": model.settings.augment.crop_fraction,
            "frame_pixels": model.settings.model.frame_pixels,
        },
        "settings": model.settings.model_dump(mode="json"),
    }
    with writing(f"model '{target}'"):
        write_model_folder(target, model.module, description)


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
    described = read_description(source / DESCRIPTION, KINDS)
    try:
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
    load_tensors(source / WEIGHTS, module, expected_sha256)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training: the same bits
    return TrainedModel(task, module.eval(), settings, pixels)
