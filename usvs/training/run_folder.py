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
from usvs.errors import ConfigError, DataError
from usvs.utils.atomic_files import write_text, writing
from usvs.utils.folder_lock import FolderLock
from usvs.utils.nested import differences
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_json_object, read_regular_text

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
EPOCHS = ("optimiser", "epochs")  # may grow when a run is resumed

logger: logging.Logger = logging.getLogger(__name__)


class RunFolder:
    """A run folder from before its first step to the end of the process's work in it.

    Call `check` first, construct everything that can fail, then `claim`. As a context manager it releases the lock at
    the end; where the block fails before `started` is called, what `claim` created in a new or empty folder is removed,
    so that the same command can be repeated.

    Args:
        path: of the folder; need not exist.
        resume: continue the run in it, or start one where there is none.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path: Path
        self.resume: bool
        self.path, self.resume = path, resume
        self._lock: FolderLock | None = None
        self._created = False
        self._was_empty = False
        self._started = False

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / CHECKPOINTS

    def check(self, settings: Settings, free: Collection[str] = FREE_SETTINGS) -> None:
        """Check that the run may use the folder; nothing is written, but a run to resume is locked from now on.

        A resumed run may have more epochs than before, not fewer.

        Args:
            settings: of the run.
            free: names of settings that may differ from those that the run was started with.

        Raises:
            ConfigError: for a file, a folder with other content, a run with other settings, or one in use.
            ResourceError: where the folder cannot be written to.
        """
        self.check_content(settings, free, lock=True)

    def check_content(self, settings: Settings, free: Collection[str] = FREE_SETTINGS, *, lock: bool = False) -> None:
        """Check as `check` does; without `lock` a run to resume is not locked."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"run folder '{self.path}': expected a folder, got a file")
        if not self._has_content():
            return
        if not self.resume:
            raise ConfigError(f"run folder '{self.path}' is not empty: choose a new one, or resume it by --resume")
        config = self.path / CONFIG
        if not config.exists():
            raise ConfigError(f"'{self.path}' is not a run folder ({CONFIG} is missing): choose a new folder")
        if lock:
            self._acquire_lock()  # before its checkpoint is read: another process may still be writing the next one
        before = read_json_object(config)
        now = settings.model_dump(mode="json")
        if difference := changed_setting(before, now, {*free, ".".join(EPOCHS)}):
            raise ConfigError(f"run '{self.path}' was started with other settings: {difference}")
        old, new = _epochs(before), _epochs(now)
        if old > new:
            raise ConfigError(
                f"run '{self.path}', setting '{'.'.join(EPOCHS)}': expected at least {old}, with which it was started"
                f" (a run can be lengthened, not shortened), got {new}"
            )

    def check_records(self, records: Mapping[str, Any]) -> None:
        """Check that the folder has no other description of the run; nothing is written.

        Args:
            records: JSON values by file name.

        Raises:
            DataError: where the folder has such a file with other content.
        """
        for name, record in records.items():
            path: Path = self.path / name
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
        with writing(f"run folder '{self.path}'"):
            self._created = not self.path.exists()
            make_private_folder(self.path)
            self._acquire_lock()
            self.check(settings)
            self.check_records(records)
            self._was_empty = not self._has_content()
            # First, since it marks a run folder: a kill after any of these lines can be resumed.
            write_text(self.path / CONFIG, settings.model_dump_json(indent=1) + "\n")
            for name, record in records.items():
                write_text(self.path / name, _as_text(record))
            write_text(self.path / ENVIRONMENT, json.dumps(environment, indent=1) + "\n")

    def started(self) -> None:
        """Say that there is something to keep from now on."""
        self._started = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._was_empty and not self._started:
            self._remove_claim()
        if self._lock is not None:
            self._lock.release()

    def _acquire_lock(self) -> None:
        if self._lock is None:
            with writing(f"run folder '{self.path}'"):
                self._lock = FolderLock(self.path)

    def _remove_claim(self) -> None:
        if self._created:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for path in self._content():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        removed = "is removed" if self._created else "is empty again"
        logger.info(f"nothing was learnt yet: run folder '{self.path}' {removed}")

    def _has_content(self) -> bool:
        return self.path.exists() and bool(self._content())

    def _content(self) -> list[Path]:
        return [path for path in self.path.iterdir() if not path.name.startswith(".")]


def _epochs(settings: Mapping[str, Any]) -> int:
    group, name = EPOCHS
    return int(settings.get(group, {}).get(name, 0))


def _as_text(record: Any) -> str:
    return json.dumps(record, indent=1) + "\n"


def changed_setting(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str] = FREE_SETTINGS
) -> str | None:
    """Return the first setting with another value, as ``name: before, now after``; None where all are equal.

    Args:
        before: plain values, possibly nested.
        after: the same names; one that is absent counts as None.
        free: dotted names whose values may differ.
    """
    changed = (found for found in differences(before, after) if found.old != found.new and found.path not in free)
    return next((f"{found.path}: {found.old!r}, now {found.new!r}" for found in changed), None)
