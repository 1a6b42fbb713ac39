"""The record of a run: ``metrics.jsonl`` and TensorBoard events, each loss beside the line of chance.

A record is one line ``{"step": 120, "split": "train", "correspondence": 0.69, "correspondence_chance": 0.6931, ...}``.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from typing_extensions import Self

from usvs.errors import DataError
from usvs.utils.atomic_files import write_text

METRICS = "metrics.jsonl"
Split = Literal["train", "held_out"]


class RunLog:
    """Appends to a run's records; a resumed run first drops what lies after the step it goes on from.

    Args:
        run: the run folder, which exists.
        step: updates made so far; records of later steps are dropped, since they will be made again.
    """

    def __init__(self, run: Path, step: int) -> None:
        _drop_after(run / METRICS, step)
        self._metrics = (run / METRICS).open("a", encoding="utf-8")
        # Not torch's SummaryWriter: it puts the machine's name into the file's name.
        self._file = (run / f"events.out.tfevents.{int(time.time())}.{step:08d}").open("ab")
        self._events = RecordWriter(self._file)
        self._write_event(Event(file_version="brain.Event:2"))
        # Tells TensorBoard to drop what an earlier, further run of the same folder had drawn after this step.
        self._write_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def record(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Write one record.

        Args:
            step: updates made.
            split: which data the values are of.
            values: plain finite numbers under their names.
        """
        line: dict[str, Any] = {"step": step, "split": split, **values}
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        scalars = [Summary.Value(tag=f"{name}/{split}", simple_value=value) for name, value in values.items()]
        self._write_event(Event(step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_event(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write(event.SerializeToString())
        self._events.flush()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return a run's records in the order they were made.

    Raises:
        DataError: when there are none or a line is no record.
    """
    path = run / METRICS
    try:
        return [_parse(line, path) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"'{path}': {error.strerror}") from error


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        int(record["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}': not a record: {line[:80]!r}") from error
    return record


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = _parse(line, path)
        except DataError:
            break  # a kill in the middle of a line: everything from here on is made again
        if record["step"] <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
