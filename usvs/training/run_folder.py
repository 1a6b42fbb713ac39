"""The folder of a run: who may begin in it, who may go on in it, and what is written before the first step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from usvs.config import check_settings
from usvs.data.validation_split import Split
from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.environment import describe_environment
from usvs.utils.atomic_files import write_text

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
PATIENTS = "patients.json"
CHECKPOINTS = "checkpoints"
# What may differ when a run goes on: how it is carried out, not what is learnt.
FREE_SETTINGS = frozenset(
    f"run.{name}"
    for name in (
        "device",
        "activation_checkpointing",
        "micro_batch_clips",
        "loader",
        "loader_workers",
        "log_every_steps",
        "validate_every_steps",
        "checkpoint_every_steps",
        "keep_checkpoints",
    )
)


def claim_run(run: Path, settings: PretrainSettings, resume: bool) -> None:
    """Make the run folder, or check that it may be gone on with.

    Raises:
        ConfigError: for a folder that holds something already, or a run with other settings.
        MissingDependencyError: where the folder cannot be made.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"run folder '{run}': there is a file of that name")
    if run.exists() and any(not path.name.startswith(".") for path in run.iterdir()):
        if not resume:
            raise ConfigError(f"run folder '{run}' is not empty: name a new one, or go on with it by --resume")
        _refuse_other_settings(run, settings)
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / CONFIG, settings.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise MissingDependencyError(f"run folder '{run}' cannot be written to: {error.strerror}") from error


def describe_run(run: Path, split: Split, device: torch.device, processes: int = 1) -> None:
    """Write what the run runs on and whom it learns from (keyed hashes).

    Raises:
        DataError: where the folder names other patients, so its store has changed since.
    """
    patients = json.dumps({"trained": split.trained, "held_out": split.held_out}, indent=1) + "\n"
    if (run / PATIENTS).exists() and (run / PATIENTS).read_text(encoding="utf-8") != patients:
        raise DataError(f"run '{run}' was begun with other patients: its store or its share held out has changed")
    write_text(run / PATIENTS, patients)
    write_text(run / ENVIRONMENT, json.dumps({**describe_environment(device), "processes": processes}, indent=1) + "\n")


def read_settings(text: str, where: Path) -> PretrainSettings:
    """Return the settings a run was stored with.

    Raises:
        DataError: when they cannot be read by this usvs.
    """
    try:
        return check_settings(PretrainSettings, json.loads(text))
    except (ValueError, ConfigError) as error:
        raise DataError(f"'{where}': its settings cannot be read: {error}") from error


def first_difference(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str | None:
    """Return the first setting whose values differ and that decides what is learnt, as ``name: before, now after``."""
    for name in before:
        path, old, new = f"{prefix}{name}", before[name], after[name]
        if isinstance(old, Mapping):
            if found := first_difference(old, new, f"{path}."):
                return found
        elif old != new and path not in FREE_SETTINGS:
            return f"{path}: {old!r}, now {new!r}"
    return None


def _refuse_other_settings(run: Path, settings: PretrainSettings) -> None:
    path = run / CONFIG
    if not path.exists():
        raise ConfigError(f"'{run}' is no run folder ({CONFIG} is missing): name a new folder")
    before = read_settings(path.read_text(encoding="utf-8"), path)
    if found := first_difference(before.model_dump(mode="json"), settings.model_dump(mode="json")):
        raise ConfigError(f"run '{run}' was begun with other settings; {found}")
