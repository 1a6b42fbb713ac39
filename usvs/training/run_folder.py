"""The folder of a run: checks, lock, and what is written before the first step."""

import json
import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from usvs.config import Settings
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.utils.atomic_files import write_text
from usvs.utils.folder_lock import FolderLock
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular_text

CONFIG = "config.json"  # the settings
MODEL_CARD = "model.json"  # own encoder, own loss, initial weights
ENVIRONMENT = "environment.json"
PATIENTS = "patients.json"
CHECKPOINTS = "checkpoints"
# Settings of `RunSettings` that may differ when a run is resumed: they do not change what is learnt.
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

logger = logging.getLogger(__name__)


class RunFolder:
    """A run folder from before its first step to the end of the process's work in it.

    Call `check` first, construct everything that can fail, then `claim`. As a context manager it releases the lock at
    the end; where the block fails before `started` is called, a folder that `claim` created is removed, so that the
    same command can be repeated.

    Args:
        path: of the folder; need not exist.
        resume: continue the run in it, or start one where there is none.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.resume = path, resume
        self._lock: FolderLock | None = None
        self._created = False
        self._started = False

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / CHECKPOINTS

    def check(self, settings: Settings, free: Collection[str] = FREE_SETTINGS) -> None:
        """Check that the run may use the folder; nothing is written.

        Args:
            settings: of the run.
            free: names of settings that may differ from those that the run was started with.

        Raises:
            ConfigError: for a file, a folder with other content, or a run with other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"run folder '{self.path}': expected a folder, got a file")
        if not self._has_content():
            return
        if not self.resume:
            raise ConfigError(f"run folder '{self.path}' is not empty: choose a new one, or resume it by --resume")
        config = self.path / CONFIG
        if not config.exists():
            raise ConfigError(f"'{self.path}' is not a run folder ({CONFIG} is missing): choose a new folder")
        try:
            before = json.loads(read_regular_text(config))
        except (OSError, ValueError) as error:
            raise DataError(f"'{config}': expected settings as JSON, got {error}") from error
        if difference := first_difference(before, settings.model_dump(mode="json"), free):
            raise ConfigError(f"run '{self.path}' was started with other settings: {difference}")

    def check_records(self, records: Mapping[str, Any]) -> None:
        """Check that the folder has no other description of the run; nothing is written.

        Args:
            records: JSON values by file name.

        Raises:
            DataError: where the folder has such a file with other content.
        """
        for name, record in records.items():
            path = self.path / name
            if path.exists() and read_regular_text(path) != _as_text(record):
                raise DataError(
                    f"'{path}' differs from what this command would write: the run was started with another store,"
                    " other patients, or another encoder, loss or init; choose a new run folder"
                )

    def claim(self, settings: Settings, records: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Create and lock the folder, and write settings and descriptions.

        Args:
            settings: of the run.
            records: JSON values by file name; where the folder has such a file already, it must be equal.
            environment: description of the machine, which may differ.

        Raises:
            ConfigError: where the folder is in use by another process, or has other content by now.
            DataError: where a record differs from that of the run so far.
            ResourceError: where the folder cannot be written to.
        """
        try:
            self._created = not self.path.exists()
            make_private_folder(self.path)
            self._lock = FolderLock(self.path)
            self.check(settings)
            self.check_records(records)
            for name, record in records.items():
                write_text(self.path / name, _as_text(record))
            write_text(self.path / CONFIG, settings.model_dump_json(indent=1) + "\n")
            write_text(self.path / ENVIRONMENT, json.dumps(environment, indent=1) + "\n")
        except OSError as error:
            raise ResourceError(f"run folder '{self.path}' cannot be written to: {error.strerror}") from error

    def started(self) -> None:
        """Say that there is something to keep from now on."""
        self._started = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._lock is not None and self._created and not self._started:
            shutil.rmtree(self.path, ignore_errors=True)
            logger.info(f"nothing was learnt yet: run folder '{self.path}' is removed")
        if self._lock is not None:
            self._lock.release()

    def _has_content(self) -> bool:
        return self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir())


def _as_text(record: Any) -> str:
    return json.dumps(record, indent=1) + "\n"


def first_difference(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str] = FREE_SETTINGS, prefix: str = ""
) -> str | None:
    """Return the first setting with another value, as ``name: before, now after``; None where all are equal.

    Args:
        before: plain values, possibly nested.
        after: the same names.
        free: dotted names whose values may differ.
        prefix: of the names of this level.
    """
    for name in [*before, *(name for name in after if name not in before)]:
        path, old, new = f"{prefix}{name}", before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if found := first_difference(old, new, free, f"{path}."):
                return found
        elif old != new and path not in free:
            return f"{path}: {old!r}, now {new!r}"
    return None
