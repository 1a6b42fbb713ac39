"""Trained models as they are used: loaded from a folder or a run, several folds averaged."""

import json
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usvs.data.transforms import evaluation_frames
from usvs.errors import DataError
from usvs.inference.frames import Source, as_files, file_batches
from usvs.models.preprocessing import Images, preprocess_images
from usvs.tasks.comparison import MODELS
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.model_files import TrainedModel, load_model
from usvs.tasks.model_folder import DESCRIPTION
from usvs.tasks.provenance import RESULTS_FILE
from usvs.training.metrics_log import METRICS
from usvs.utils.regular_files import read_regular_text
from usvs.utils.text import shell_command

logger: logging.Logger = logging.getLogger(__name__)


def load_models(path: str | Path, encoder: nn.Module | None = None) -> tuple[TrainedModel, ...]:
    """Load the model of a folder, or the folds' models of one init.

    Args:
        path: a folder of `save_model`; ``RUN/models/INIT``, whose folds are all loaded; or a run of `usvs.finetune`:
            then those of its best init.
        encoder: as of `load_model`.

    Raises:
        DataError: where there is no model, or one that cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"model '{folder}': expected a run of 'usvs finetune', got no such folder")
    if (folder / METRICS).is_file() and not (folder / MODELS).is_dir():
        command = shell_command("usvs", "finetune", "classify", "STORE", "OUT", "--init", folder)
        raise DataError(
            f"model '{folder}': expected a run of 'usvs finetune', got one of 'usvs pretrain', which has no classes:"
            f" fine-tune it with '{command}', or name classes by voice with --zero-shot CLASSES"
        )
    if (folder / MODELS).is_dir():
        folder = _best_init(folder)
    if (folder / DESCRIPTION).is_file():
        return (load_model(folder, encoder),)
    folds = sorted(one for one in folder.glob("fold_*") if one.is_dir())
    if not folds:
        raise DataError(f"model '{folder}': expected {DESCRIPTION}, or a run of 'usvs finetune' with its models")
    return tuple(load_model(fold, encoder) for fold in folds)


def predict_models(models: tuple[TrainedModel, ...], inputs: Tensor) -> Tensor:
    """Return the mean prediction of several models as probabilities or densities, [b, ...] on the host.

    Args:
        models: of one task and one input size.
        inputs: the networks' input [b, 1, P, P].
    """
    total: Tensor | None = None
    with torch.inference_mode():
        for model in models:
            module: Any = model.module
            module.eval()
            prediction = model.task.predict(module, inputs.to(next(module.parameters()).device)).float().cpu()
            probabilities = model.task.probabilities(prediction)
            total = probabilities if total is None else total + probabilities
    assert total is not None, "expected at least one model"
    return total / len(models)


def predict_images(models: tuple[TrainedModel, ...], images: Source) -> Tensor:
    """Return the mean prediction for images of any kind, [n, ...].

    Args:
        models: of one task.
        images: files of images and videos (of these every eighth frame), or as of
            `usvs.models.preprocessing.preprocess_images`.

    Raises:
        DataError: for a file that cannot be read, or images of another shape or dtype.
    """
    settings = models[0].settings
    files = as_files(images)
    if files is None:
        inputs = preprocess_images(cast("Images", images), settings.model.frame_pixels, settings.augment.crop_fraction)
        return torch.cat([predict_models(models, part) for part in torch.split(inputs, BATCH_FRAMES)])
    parts = []
    for file in files:
        for _, frames in file_batches(file, models[0].prepared_pixels):
            parts.append(predict_models(models, evaluation_inputs(models[0], frames)))
    return torch.cat(parts)


def evaluation_inputs(model: TrainedModel, frames: NDArray[np.uint8]) -> Tensor:
    """Return the network's input for frames [b, P, P] like those of a store."""
    return evaluation_frames(frames, model.settings.model.frame_pixels, model.settings.augment)


def _best_init(run: Path) -> Path:
    inits = sorted(one.name for one in (run / MODELS).iterdir() if one.is_dir())
    if len(inits) == 1:
        return run / MODELS / inits[0]
    try:
        best = str(json.loads(read_regular_text(run / RESULTS_FILE))["best_init"])
    except (OSError, ValueError, KeyError):
        names = ", ".join(f"'{run / MODELS / name}'" for name in inits)
        raise DataError(
            f"run '{run}' has models of {len(inits)} inits and no readable {RESULTS_FILE}: name one of {names}"
        ) from None
    logger.info(f"run '{run}': using the models of init '{best}', the best of {', '.join(inits)}")
    return run / MODELS / best
