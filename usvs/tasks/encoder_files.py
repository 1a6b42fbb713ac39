"""An encoder on its own in a folder: for other programs, for `usvs.load_encoder` and for ``--init``.

The folder has the layout of a saved model, with ``kind`` "encoder". Where the encoder comes from a run, the run's
``config.json`` and ``patients.json`` are beside it, so that the folder is used like the run: with its network and input
size, and never tested on the patients that it was trained on.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from usvs.errors import ConfigError, DataError
from usvs.models.encoder import Encoder, as_encoder, update_pretrained_cfg
from usvs.tasks.model_folder import DESCRIPTION, WEIGHTS, load_tensors, read_description, write_model_folder
from usvs.tasks.pretraining.encoders import describe_encoder, described_encoder
from usvs.training.random_state import seeded
from usvs.utils.atomic_files import writing
from usvs.utils.regular_files import read_regular_text

KIND = "encoder"


def save_encoder(folder: str | Path, encoder: nn.Module, record: Mapping[str, Any] | None = None) -> None:
    """Write an encoder, for `usvs.load_encoder`.

    Example:
        >>> usvs.save_encoder("ENCODER", encoder)
        >>> encoder = usvs.load_encoder("ENCODER")

    Args:
        folder: made where it does not exist; the two files in it are replaced.
        encoder: an `Encoder`, or a module with `num_features` and `forward_features`.
        record: further entries of ``model.json``, as JSON values.

    Raises:
        ConfigError: for a module that is no encoder.
        ResourceError: where the disk is full or not writable.
    """
    target, own = Path(folder), as_encoder(encoder)
    description = {
        **(record or {}),
        "kind": KIND,
        "encoder": describe_encoder(own),
        "num_features": own.num_features,
        "input": dict(own.pretrained_cfg),
    }
    with writing(f"encoder '{target}'"):
        write_model_folder(target, own, description)


def load_saved_encoder(folder: Path, encoder: nn.Module | None = None) -> Encoder:
    """Load an encoder that `save_encoder` wrote, on the CPU and in evaluation mode.

    Args:
        folder: with ``model.json`` and ``model.safetensors``.
        encoder: a module of the class that was saved, which gets a copy of its own weights; needed only for a class
            that is not registered.

    Raises:
        DataError: for a file that is missing, damaged or of another model; the message names it and what is wrong.
        ConfigError: for an own class without `encoder`.
    """
    described = read_description(folder / DESCRIPTION, (KIND,))
    try:
        with seeded(0):  # of the initial weights, which are replaced; the caller's generator is left as it is
            module = described_encoder(described["encoder"], copy.deepcopy(encoder), folder)
        expected = str(described["weights_sha256"])
        set_input(module, described["input"], folder / DESCRIPTION)
    except KeyError as error:
        raise DataError(f"'{folder / DESCRIPTION}': expected an entry {error}, got none") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"'{folder / DESCRIPTION}': {error}") from None
    load_tensors(folder / WEIGHTS, module, expected)
    return module.eval()


def set_input(encoder: Encoder, values: Mapping[str, Any], source: Path) -> None:
    """Give an encoder the input size and crop of a description.

    Raises:
        DataError: for values that it cannot have, naming `source`.
    """
    try:
        update_pretrained_cfg(encoder, values)
    except ConfigError as error:
        raise DataError(f"'{source}', {error}") from None


def saved_encoder_description(folder: Path) -> dict[str, Any]:
    """Return the description of a saved encoder, see `usvs.tasks.pretraining.encoders.VideoEncoder`.

    Raises:
        DataError: for a file that is damaged.
    """
    description: dict[str, Any] = read_description(folder / DESCRIPTION, (KIND,))["encoder"]
    return description


def is_saved_encoder(folder: Path) -> bool:
    """Return whether a folder has the ``model.json`` of a saved encoder; False where it cannot be read."""
    try:
        described = json.loads(read_regular_text(folder / DESCRIPTION))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("kind") == KIND
