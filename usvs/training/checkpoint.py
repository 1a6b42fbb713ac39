"""Checkpoints that survive a kill at any instant: safetensors and JSON, no pickle.

A checkpoint is a folder ``step_00001200`` with ``model.safetensors``, ``optimiser.safetensors``, ``state.json`` and,
written last, ``manifest.json`` with the SHA-256 of the others. It is written under a temporary name, synced and
renamed; after that the text file ``latest`` names it. A folder without a valid manifest is not read. The text file
``best`` names the checkpoint with the lowest validation loss so far.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from usvs.errors import DataError
from usvs.utils.atomic_files import sync_folder, write_text, writing
from usvs.utils.hashing import file_sha256
from usvs.utils.private_files import make_private, make_private_folder
from usvs.utils.regular_files import read_regular_text

logger: logging.Logger = logging.getLogger(__name__)

LATEST = "latest"
BEST = "best"
MANIFEST = "manifest.json"
MODEL = "model.safetensors"
OPTIMISER = "optimiser.safetensors"
STATE = "state.json"
FORMAT_VERSION = 2
TEMPORARY = ".writing-"


@dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint.

    Attributes:
        model: parameters and buffers by name.
        optimiser: the optimiser's tensors by ``parameter/quantity``.
        state: step, settings and whatever else the run needs to resume, as plain values.
    """

    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int, best_step: int | None = None) -> Path:
    """Write a checkpoint into `folder` so that a kill at any instant leaves a readable one.

    Args:
        folder: of the run's checkpoints.
        step: number of updates made.
        checkpoint: its content.
        keep: how many of the latest checkpoints are kept.
        best_step: the step of the best checkpoint so far, which is kept too.

    Returns:
        The checkpoint's folder.

    Raises:
        ResourceError: when the disk is full or not writable; earlier checkpoints are unchanged.
    """
    target = checkpoint_folder(folder, step)
    temporary = folder / f"{TEMPORARY}{target.name}"
    with writing(f"checkpoint '{target}'", "; earlier checkpoints are unchanged"):
        make_private_folder(folder)
        _remove_leftovers(folder)
        if not _is_complete(target):  # the same step of the same run has the same content
            shutil.rmtree(target, ignore_errors=True)
            try:
                _write_folder(temporary, checkpoint)
            except Exception:
                shutil.rmtree(temporary, ignore_errors=True)  # a full disk gets its space back
                raise
            temporary.rename(target)
            sync_folder(folder)
        write_text(folder / LATEST, target.name + "\n")
        best = None if best_step is None else checkpoint_folder(folder, best_step)
        if best is not None and best.is_dir():
            write_text(folder / BEST, best.name + "\n")
        _remove_superseded(folder, target, keep, best)
    return target


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint in the folder of a run's checkpoints."""
    return folder / f"step_{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint's folder, as `checkpoint_folder` names it."""
    return int(folder.name.removeprefix("step_"))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint folder after verifying every hash.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    verify_checkpoint(folder)
    try:
        state = json.loads(read_regular_text(folder / STATE))
        return Checkpoint(load_file(folder / MODEL), load_file(folder / OPTIMISER), state)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"checkpoint '{folder}': {error}") from error


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest valid checkpoint of a run; damaged ones are named in the log.

    Returns:
        None where no checkpoint was ever completed.

    Raises:
        DataError: when there are checkpoints and none is valid.
    """
    problems: list[str] = []
    for candidate in _newest_first(folder):
        try:
            return load_checkpoint(candidate)
        except DataError as error:
            problems.append(str(error))
            logger.warning(f"{error}; trying the previous checkpoint")
    if problems:
        raise DataError(f"no valid checkpoint in '{folder}': {problems[0]}")
    return None


def newest_checkpoint_folder(path: Path) -> Path:
    """Return the checkpoint folder of `path`: itself, the latest of a run folder, or what the file ``best`` names.

    Raises:
        DataError: when there is none.
    """
    if (path / MODEL).exists() or (path / MANIFEST).exists():
        return path
    if path.name in (BEST, LATEST) and path.is_file():
        return newest_checkpoint_folder(path.parent / read_regular_text(path).strip())
    newest = _newest_first(path / "checkpoints")
    if not newest:
        got = "another folder" if path.is_dir() else "a file" if path.exists() else "no such folder"
        raise DataError(
            f"'{path}': expected a run folder with a checkpoint, as 'usvs pretrain' writes it, or a checkpoint folder,"
            f" got {got}"
        )
    return newest[0]


def verify_checkpoint(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        DataError: naming the first file that is missing or differs.
    """
    try:
        manifest = json.loads(read_regular_text(folder / MANIFEST))
        version, hashes = manifest["version"], dict(manifest["sha256"])
    except FileNotFoundError:
        raise DataError(f"checkpoint '{folder}': {MANIFEST} is missing, so it was never completed") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"checkpoint '{folder}': {MANIFEST} cannot be read ({error})") from error
    if version != FORMAT_VERSION:
        raise DataError(f"checkpoint '{folder}': expected format version {FORMAT_VERSION}, got {version}")
    for name in (MODEL, OPTIMISER, STATE):
        if not (folder / name).is_file():
            raise DataError(f"checkpoint '{folder}': {name} is missing")
        if file_sha256(folder / name) != hashes.get(name):
            raise DataError(f"checkpoint '{folder}': {name} does not match its SHA-256, so it is damaged")


def step_folders(folder: Path) -> list[Path]:
    """Return the checkpoint folders of a run, oldest first."""
    return sorted(path for path in folder.glob("step_*") if path.is_dir())


def _newest_first(folder: Path) -> list[Path]:
    folders = step_folders(folder)[::-1]
    try:
        latest = folder / read_regular_text(folder / LATEST).strip()
    except OSError:
        return folders
    # A folder newer than `latest`: the run was killed between the rename and the update of `latest`; both are valid.
    return ([latest] if latest in folders else []) + [path for path in folders if path != latest]


def _write_folder(folder: Path, checkpoint: Checkpoint) -> None:
    make_private_folder(folder, exist_ok=False)
    save_file(_plain(checkpoint.model), folder / MODEL)
    save_file(_plain(checkpoint.optimiser), folder / OPTIMISER)
    (folder / STATE).write_text(json.dumps(checkpoint.state, indent=1), encoding="utf-8")
    names = (MODEL, OPTIMISER, STATE)
    manifest = {"version": FORMAT_VERSION, "sha256": {name: file_sha256(folder / name) for name in names}}
    for name in names:
        make_private(folder / name)
        _sync_file(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    make_private(folder / MANIFEST)
    _sync_file(folder / MANIFEST)
    sync_folder(folder)


def _is_complete(folder: Path) -> bool:
    try:
        verify_checkpoint(folder)
    except DataError:
        return False
    return True


def _remove_superseded(folder: Path, current: Path, keep: int, best: Path | None) -> None:
    folders = step_folders(folder)
    index = folders.index(current)
    # Checkpoints of later steps are damaged: the run resumed from before them.
    for path in folders[: max(index + 1 - keep, 0)] + folders[index + 1 :]:
        if path != best:
            shutil.rmtree(path)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
