"""A folder with a network in it: ``model.safetensors``, and ``model.json`` with everything that rebuilds it.

Fine-tuned models (`usvs.tasks.model_files`) and encoders on their own (`usvs.tasks.encoder_files`) are both stored so;
the entry ``kind`` of ``model.json`` distinguishes them.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from usvs import __version__
from usvs.errors import DataError
from usvs.models.weight_files import MAX_WEIGHTS_BYTES
from usvs.utils.atomic_files import publish, write_text
from usvs.utils.hashing import file_sha256
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular, read_regular_text

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1  # of model.json


def write_model_folder(target: Path, module: nn.Module, description: Mapping[str, Any]) -> None:
    """Write a network; ``model.json`` is written last, so a folder without it is an interrupted write.

    Args:
        target: made where it does not exist; the two files in it are replaced.
        module: whose parameters and buffers are written.
        description: content of ``model.json``, as JSON values; format, hash of the weights and versions are added.

    Raises:
        OSError: where a file cannot be written.
    """
    make_private_folder(target)
    old = target / DESCRIPTION
    write_tensors(target / WEIGHTS, module.state_dict(), before=lambda: old.unlink(missing_ok=True))
    content = {
        "format": FORMAT,
        **description,
        "weights_sha256": file_sha256(target / WEIGHTS),
        "versions": {"usvs": __version__, "torch": torch.__version__},
    }
    write_text(target / DESCRIPTION, json.dumps(content, indent=1))


def write_tensors(file: Path, tensors: Mapping[str, Tensor], before: Callable[[], None] | None = None) -> None:
    """Write tensors as safetensors: to a file beside, then by renaming.

    Args:
        file: to write.
        tensors: by name, on any device.
        before: called once the tensors are on the disk and before the file is replaced.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)
    except Exception:
        partial.unlink(missing_ok=True)  # a full disk gets its space back
        raise
    if before is not None:
        before()
    publish(partial, file)


def read_description(file: Path, kinds: Collection[str]) -> dict[str, Any]:
    """Return the content of a ``model.json``.

    Args:
        file: to read.
        kinds: values of ``kind`` that the caller can use.

    Raises:
        DataError: for a file that is missing or damaged, of another format or another kind.
    """
    try:
        described = json.loads(read_regular_text(file))
    except FileNotFoundError:
        raise DataError(f"model '{file.parent}': expected a file {file.name}, got none") from None
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected JSON, got {error}") from None
    if not isinstance(described, dict):
        raise DataError(f"'{file}': expected a JSON object, got {type(described).__name__}")
    for name, expected in (("format", [FORMAT]), ("kind", kinds)):
        if name not in described:
            raise DataError(f"'{file}': expected an entry '{name}', got none")
        if described[name] not in expected:
            raise DataError(f"'{file}', {name}: expected {' or '.join(map(str, expected))}, got {described[name]!r}")
    return described


def load_tensors(file: Path, module: nn.Module, expected_sha256: str) -> None:
    """Load the tensors of a file into a module, after comparing the file's hash.

    Raises:
        DataError: for a file that is missing, damaged or of another network.
    """
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
