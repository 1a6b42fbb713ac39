"""A folder of measured results: each one is written as soon as it is known, so that an interrupted command resumes.

``OUT/KIND.json``, the record, holds everything that decides what the results mean: settings, patients, and the
fingerprints of the data and of the code (`usvs.tasks.fingerprint`). It is written before anything else. Results of
different records are never mixed in one folder.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from usvs.errors import ConfigError, DataError
from usvs.utils.atomic_files import write_text, writing
from usvs.utils.folder_lock import FolderLock
from usvs.utils.nested import differences
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular_text

RESULTS_FOLDER = "results"
SHOWN_CHARACTERS = 80


class ResultCache:
    """The results that belong to one record, one JSON file each in ``OUT/results``.

    The folder stays locked until `close`. An interruption between any two file operations leaves a folder that can be
    opened again: hidden files (the lock, half-written files) do not count as content, the record is written before any
    result, and every file is replaced atomically.

    Args:
        out: a new or empty folder, or one with the same record.
        kind: name of the record's file, for example ``reproduce``.
        record: plain values; two runs with equal records measure the same.

    Raises:
        ConfigError: for a folder with other content, with another record, or in use by another process.
    """

    def __init__(self, out: Path, kind: str, record: Mapping[str, Any]) -> None:
        self.out = out
        self.record: dict[str, Any] = json.loads(json.dumps(record))
        if out.exists() and not out.is_dir():
            raise ConfigError(f"'{out}': expected a folder, got a file")
        with writing(f"folder '{out}'"):
            make_private_folder(out)
            self._lock = FolderLock(out)
        try:
            self._claim(out / f"{kind}.json", kind)
        except BaseException:
            self.close()
            raise

    def measure(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return a stored result, or measure and store it.

        Args:
            name: of the result, unique within the record.
            work: returns the result as plain values.

        Raises:
            DataError: for a stored result that cannot be read.
            ResourceError: where the disk is full or not writable; stored results are unchanged.
        """
        file = self.path(name)
        if not file.exists():
            result = json.dumps(work())
            with writing(f"result '{file}'"):
                make_private_folder(file.parent)
                write_text(file, result)
        return read_json(file)

    def path(self, name: str) -> Path:
        """Return the file of a result; commas and spaces in its name become underscores."""
        return self.out / RESULTS_FOLDER / f"{name.replace(', ', '_').replace(' ', '_')}.json"

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.close()

    def _claim(self, file: Path, kind: str) -> None:
        if file.exists():
            if difference := describe_difference(read_json(file), self.record):
                raise ConfigError(
                    f"'{self.out}' holds results of other settings, data or code: {difference}; choose a new folder"
                )
            return
        if content := sorted(path.name for path in self.out.iterdir() if not path.name.startswith(".")):
            raise ConfigError(
                f"'{self.out}': expected an empty folder or results of kind '{kind}', got '{content[0]}';"
                " choose a new folder"
            )
        with writing(f"'{file}'"):
            write_text(file, json.dumps(self.record, indent=1))


def refuse_folder_in_use(folder: Path, kind: str, resume: bool) -> None:
    """Refuse a folder of results with other content; nothing is written.

    Args:
        folder: of the results; it need not exist.
        kind: name of the record's file.
        resume: whether results that are there are continued.

    Raises:
        ConfigError: for such a folder.
    """
    content = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    has_record = (folder / f"{kind}.json").is_file()
    if resume and content and not has_record:
        raise ConfigError(f"'{folder}' has no fine-tuning to resume: expected {kind}.json; choose a new folder")
    if content and not resume:
        hint = ", or add --resume to continue it" if has_record else ""
        raise ConfigError(f"'{folder}' is not empty: choose a new folder for the results{hint}")


def read_json(file: Path) -> dict[str, Any]:
    """Read a stored result or record.

    Raises:
        DataError: naming the file.
    """
    try:
        stored = json.loads(read_regular_text(file))
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{file}': expected a stored result, got {error}; remove the file to measure it again"
        ) from None
    if not isinstance(stored, dict):
        raise DataError(f"'{file}': expected a stored result, got a {type(stored).__name__}; remove the file")
    return stored


def describe_difference(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return the first value that differs between two records, as ``NAME: expected STORED, got NOW``; None if equal."""
    found = next(differences(stored, now), None)
    return None if found is None else f"{found.path}: expected {_shown(found.old)}, got {_shown(found.new)}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
