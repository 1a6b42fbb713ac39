"""Paths on a command line: whether they exist and are what is expected, before anything else is done."""

import argparse
import os
from pathlib import Path
from typing import Literal

from usvs.errors import ConfigError, ResourceError
from usvs.tasks.init_names import INIT_PREFIXES
from usvs.utils.atomic_files import partial_path

# What must be there: a folder, a file, or either; a new or existing folder, or file, to write to; initial weights
# (`--init`), a trained model (`--model`), or weights of a library or a file.
PathKind = Literal["folder", "file", "path", "output_folder", "output_file", "weights", "model", "library_or_file"]
LIBRARIES = ("timm", "torchvision")  # which have weights of their own: ``imagenet:timm``


def check_paths(options: argparse.Namespace) -> None:
    """Check all paths of a command line.

    Raises:
        ConfigError: naming the first argument that is not what it must be.
        ResourceError: for one that cannot be written to.
    """
    for name, (shown, kind) in getattr(options, "path_kinds", {}).items():
        given = getattr(options, name)
        for each in given if isinstance(given, list) else [given]:
            if each is not None:
                check_path(shown, kind, each)


def check_path(shown: str, kind: PathKind, given: str | Path) -> None:
    """Check one path.

    Args:
        shown: name of the argument, with which messages begin.
        kind: what must be there.
        given: as typed.

    Raises:
        ConfigError: where it is not there.
        ResourceError: for an output that cannot be written to.
    """
    if kind == "weights":
        _check_weights(shown, str(given))
        return
    if kind == "model":
        _check_model(shown, str(given))
        return
    path = Path(given)
    if kind == "library_or_file":
        if str(given) in LIBRARIES:
            return
        kind = "file"
    try:
        if kind in ("output_folder", "output_file"):
            _check_output(shown, kind, path)
        elif kind == "folder" and not path.is_dir():
            raise _unexpected(shown, "an existing folder", path)
        elif kind == "file" and (not path.exists() or path.is_dir()):
            raise _unexpected(shown, "an existing file", path)
        elif not path.exists():
            raise _unexpected(shown, "an existing file or folder", path)
    except (OSError, ValueError) as error:  # a name that is too long, or one with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{shown}: expected the path of {_noun(kind)}, got '{str(path)[:60]}': {reason}") from None


def _check_output(shown: str, kind: PathKind, path: Path) -> None:
    if kind == "output_folder" and path.exists() and not path.is_dir():
        raise _unexpected(shown, "a new folder, or an existing one", path)
    if kind == "output_file" and path.is_dir():
        raise _unexpected(shown, "the name of a file", path)
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ConfigError(f"{shown}: expected a path in a folder, got '{path}': '{above}' is a file")
    folder = path if kind == "output_folder" and path.exists() else above
    if not os.access(folder, os.W_OK | os.X_OK):  # before the work whose result it is
        raise ResourceError(f"{shown}: expected a place to write to, got '{path}': '{folder}' is not writable")
    longest = os.pathconf(above, "PC_NAME_MAX")
    if kind == "output_file" and len(os.fsencode(partial_path(path).name)) > longest:
        raise ConfigError(f"{shown}: expected a shorter name, got '{path.name[:60]}...' of {len(path.name)} letters")


def _check_weights(shown: str, given: str) -> None:
    """Check weights: ``random``, a run's folder, plain or with a prefix, or a file with a prefix."""
    prefix, colon, name = given.partition(":")
    if given == "random" or (colon and prefix in INIT_PREFIXES and not name):
        return  # an init without a name is refused where it is parsed, with all forms
    if colon and prefix in INIT_PREFIXES:
        if prefix == "timm" or (prefix == "imagenet" and name in LIBRARIES):
            return
        check_path(shown, "file" if prefix in ("imagenet", "sononet") else "folder", name)
        return
    check_path(shown, "folder", given)


def _check_model(shown: str, given: str) -> None:
    """Check a model: a folder, or SonoNet's weights with their prefix."""
    if given.startswith("sononet:"):
        check_path(shown, "file", given.removeprefix("sononet:"))
    elif not (given.lower().endswith(".npz") and Path(given).is_file()):  # the reader says how it is written
        check_path(shown, "folder", given)


def _unexpected(shown: str, expected: str, path: Path) -> ConfigError:
    found = "a folder" if path.is_dir() else "a file" if path.exists() else "which does not exist"
    return ConfigError(f"{shown}: expected {expected}, got '{path}', {found}")


def _noun(kind: PathKind) -> str:
    return "a folder" if "folder" in kind else "a file"
