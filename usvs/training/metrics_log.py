"""``metrics.jsonl``, the log that every run has: one JSON object a line.

For example ``{"step": 120, "split": "train", "correspondence": 0.69, "correspondence_chance": 0.6931, ...}``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.training.loggers import Split
from usvs.utils.atomic_files import write_text
from usvs.utils.private_files import open_private
from usvs.utils.regular_files import MAX_TABLE_BYTES, read_regular, read_regular_text

METRICS = "metrics.jsonl"


class JsonlLogger:
    """A `Logger` that appends to ``metrics.jsonl``; a resumed run first drops the records after its checkpoint.

    Args:
        run: the run folder, which exists.
        step: updates made so far; records of later steps are dropped, since these steps are repeated.
    """

    def __init__(self, run: Path, step: int = 0) -> None:
        _drop_after(run / METRICS, step)
        self._file = open_private(run / METRICS, "a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        """Append one record and flush it."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return a run's records in the order in which they were written.

    Raises:
        DataError: where there is no such file or a line is not a record.
    """
    path = run / METRICS
    try:
        return [_parse(line, path) for line in read_regular_text(path, MAX_TABLE_BYTES).splitlines()]
    except OSError as error:
        raise DataError(f"'{path}': {error.strerror}") from error


def read_metrics_so_far(run: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a run that may be running or may have crashed, and how many lines are no record.

    Unlike `read_metrics`, this leaves out a line that was torn by a crash, or is still being written.

    Raises:
        DataError: where there is no such file.
    """
    path = run / METRICS
    try:
        lines = read_regular(path, MAX_TABLE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise DataError(f"'{path}': {error.strerror or error}") from error
    records = []
    for line in lines:
        try:
            records.append(_parse(line, path))
        except DataError:
            continue
    return records, len(lines) - len(records)


def last_metrics(run: Path, split: Split) -> dict[str, float]:
    """Return the values of the last record of a split, without its step; empty where there is none.

    Raises:
        DataError: where there is no such file or a line is not a record.
    """
    records = [record for record in read_metrics(run) if record["split"] == split]
    return {name: value for name, value in records[-1].items() if name not in ("step", "split")} if records else {}


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        int(record["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"'{path}': expected a JSON object with 'step', got {line[:80]!r}") from error
    return record


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in read_regular_text(path, MAX_TABLE_BYTES).splitlines():
        try:
            record = _parse(line, path)
        except DataError:
            break  # the process was killed while it wrote this line
        if record["step"] <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
