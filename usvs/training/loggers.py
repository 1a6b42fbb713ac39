"""Where the metrics of a run go: the `Logger` protocol, TensorBoard, and optional trackers.

Every run also has ``metrics.jsonl`` (`usvs.training.metrics_log`). TensorBoard is used by default where it is
installed. MLflow and Weights & Biases are imported only when their logger is constructed.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol
from unittest import mock

from usvs.errors import MissingDependencyError
from usvs.utils.private_files import make_private

Split = Literal["train", "validation"]


class Logger(Protocol):
    """Receives the metrics of a run; only the first process of a run has loggers."""

    def log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        """Store some metrics.

        Args:
            step: updates made so far.
            values: finite numbers by name, each ``NAME`` with a known chance level beside ``NAME_chance``.
            split: the data they were measured on.
        """

    def close(self) -> None:
        """Write what is pending and release all resources; the run has ended."""


class TensorBoardLogger:
    """Writes TensorBoard events; each metric is the scalar ``NAME/SPLIT``.

    Args:
        folder: of the event files.
        step: updates made so far; TensorBoard hides what an interrupted run had logged after it.

    Raises:
        MissingDependencyError: where tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, step: int = 0) -> None:
        if not tensorboard_is_installed():
            raise MissingDependencyError("TensorBoardLogger needs tensorboard: pip install tensorboard")
        from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]
        from torch.utils.tensorboard import SummaryWriter

        # The writer puts the machine's name into the file's name, which a run folder must not contain.
        nameless = SimpleNamespace(gethostname=lambda: "usvs")
        with mock.patch.object(event_file_writer, "socket", nameless):
            self._writer = SummaryWriter(str(folder), purge_step=step)
        self._writer.flush()  # so that the file exists
        for file in Path(folder).glob("events.out.tfevents.*"):
            make_private(file)

    def log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        """Write one scalar a metric."""
        for name, value in values.items():
            self._writer.add_scalar(f"{name}/{split}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class MLflowLogger:
    """Logs to an MLflow run; each metric is ``SPLIT/NAME``.

    Args:
        run_name: of the run; None lets MLflow choose.
        tracking_uri: of the server or folder; None for MLflow's own default.
        **start_run: other arguments of `mlflow.start_run`, for example ``run_id`` to resume one.

    Raises:
        MissingDependencyError: where mlflow is not installed.
    """

    def __init__(self, run_name: str | None = None, tracking_uri: str | None = None, **start_run: Any) -> None:
        self._mlflow = _tracker("mlflow")
        if tracking_uri is not None:
            self._mlflow.set_tracking_uri(tracking_uri)
        self.run: Any = self._mlflow.start_run(run_name=run_name, **start_run)

    def log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        """Log all metrics in one call."""
        self._mlflow.log_metrics({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """End the MLflow run."""
        self._mlflow.end_run()


class WandbLogger:
    """Logs to a Weights & Biases run; each metric is ``SPLIT/NAME``.

    Args:
        **init: arguments of `wandb.init`, for example ``project``, ``mode="offline"``, or ``id`` and ``resume``.

    Raises:
        MissingDependencyError: where wandb is not installed.
    """

    def __init__(self, **init: Any) -> None:
        self.run: Any = _tracker("wandb").init(**init)

    def log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        """Log all metrics in one call."""
        self.run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def tensorboard_is_installed() -> bool:
    """Return whether `TensorBoardLogger` can be used here."""
    return find_spec("tensorboard") is not None


def _tracker(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError:
        raise MissingDependencyError(f"this logger needs {package}: pip install {package}") from None
