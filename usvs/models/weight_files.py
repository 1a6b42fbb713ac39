"""Reading files of weights as data, without executing code: safetensors, NumPy archives, torch's restricted reader."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from usvs.errors import DataError
from usvs.utils.regular_files import MEBIBYTE, check_regular

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")
MAX_WEIGHTS_BYTES = 16384 * MEBIBYTE  # a backbone of a billion parameters with the state of its optimiser
NESTED = ("state_dict", "model", "model_state_dict")  # keys under which training scripts save weights
UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, SafetensorError, zipfile.BadZipFile)
PREFIXES = ("module.", "_orig_mod.")  # added by DataParallel and torch.compile


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    Args:
        file: `.safetensors`; `.npz` without objects; `.pth`, `.pt`, `.bin`, `.tar` or `.ckpt` with a state dict, plain
            or nested under `state_dict`, `model` or `model_state_dict`. Torch's files are read with `weights_only`,
            which executes no code.

    Raises:
        DataError: for a file that is missing, of another format, damaged, or that holds anything but tensors.
    """
    suffix = file.suffix.lower()
    try:
        check_regular(file, MAX_WEIGHTS_BYTES)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"weights '{file}': {reason}") from None
    try:
        if suffix == ".safetensors":
            return dict(load_file(file))
        if suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if suffix in TORCH_SUFFIXES:
            return _plain(torch.load(file, map_location="cpu", weights_only=True), file)
    except pickle.UnpicklingError:
        raise DataError(f"weights '{file}': damaged, or it holds more than tensors and is not executed") from None
    except UNREADABLE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"weights '{file}': cannot be read as {suffix} ({first})") from None
    known = ", ".join((".safetensors", ".npz", *TORCH_SUFFIXES))
    raise DataError(f"weights '{file}': expected one of {known}, got '{suffix}'")


def _plain(loaded: Any, file: Path) -> dict[str, Tensor]:
    for name in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise DataError(f"weights '{file}': expected a dictionary of tensors, got a {type(loaded).__name__}")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"weights '{file}': expected tensors, got none in {len(loaded)} entries")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
