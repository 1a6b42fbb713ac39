"""The runner of every experiment: its folder and results, each measured once, and the values that they depend on.

`reproduce`, `curves` and `probe_videos` are definitions over it: they choose inits, seeds, folds, evaluation protocols
and a table; measuring, storing, resuming and the record of provenance are here.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from typing_extensions import Self

from usvs import __version__
from usvs.errors import ConfigError
from usvs.evaluation.folds import Fold
from usvs.experiments.pretrainings import pretrain_row
from usvs.store.prepared import PreparedStore
from usvs.tasks.cross_validation import FoldResult, measure_fold
from usvs.tasks.fingerprint import fingerprint
from usvs.tasks.initial_encoder import Init
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.provenance import RESULTS_FILE, typed_command
from usvs.tasks.registry import AnyTask
from usvs.tasks.result_cache import ResultCache
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import EvaluationProtocol, Table
from usvs.training.environment import describe_environment
from usvs.training.jobs import Job, run_jobs
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text, writing

logger: logging.Logger = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=FinetuneSettings)


@dataclass(frozen=True)
class Measurement:
    """One init on one fold, evaluated by one protocol.

    Attributes:
        evaluation: name of the evaluation in the results, for example ``planes`` or ``probe, few labels``.
        init_name: name of the init in the results.
        init: returns what the encoder starts from; called only where the result is not stored yet.
        seed: of the folds and of training.
        fold: the training and test patients.
        task: what is predicted.
        table: the task's rows of the store, of at least the fold's patients.
        settings: of the task; the seed replaces theirs.
        protocol: ``finetune``, ``probe`` or ``knn``.
        detail: more of the result's name, where init, seed and fold do not determine it.
    """

    evaluation: str
    init_name: str
    init: Callable[[], Init]
    seed: int
    fold: Fold
    task: AnyTask
    table: Table
    settings: FinetuneSettings
    protocol: EvaluationProtocol
    detail: str = ""

    @property
    def name(self) -> str:
        """Name of the result in the result cache."""
        return f"{self.evaluation}_{self.init_name}{self.detail}_seed_{self.seed}_fold_{self.fold.number}"


class Experiment:
    """One experiment in its folder, which it locks; a context manager.

    Args:
        kind: of the experiment, in its results and in the name of its record.
        store: the prepared store that everything is measured on.
        out: a new folder, or one with the same record.
        record: plain values that decide the results, besides the store's content and the code.
        device: a setting ``run.device``, for the description of the environment.

    Raises:
        ConfigError: under ``torchrun``, and as `ResultCache`.
    """

    def __init__(self, kind: str, store: PreparedStore, out: Path, record: Mapping[str, Any], device: str) -> None:
        processes = os.environ.get("WORLD_SIZE", "1")
        if processes != "1":
            raise ConfigError(f"{kind}: expected one process, got WORLD_SIZE={processes}; start it without torchrun")
        self.kind: str
        self.store: PreparedStore
        self.out: Path
        self.device: torch.device
        self.kind, self.store, self.out, self.device = kind, store, out, choose_device(device)
        self.cache: ResultCache = ResultCache(out, kind, {**record, "store": store.store_id, **fingerprint(store)})
        self._process = ExitStack()

    def __enter__(self) -> Self:
        self._process.enter_context(process_settings(self.device))
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._process.close()
        self.cache.close()

    def pretrain(self, row: str, seed: int, settings: PretrainSettings, patients: tuple[str, ...]) -> dict[str, Any]:
        """Pretrain a row, resume its pretraining, or return its stored result; see `pretrain_row`."""
        job = self.pretraining_job(row, seed, settings, patients)
        return self.cache.measure(job.name, job.work)

    def pretraining_job(self, row: str, seed: int, settings: PretrainSettings, patients: tuple[str, ...]) -> Job:
        """Return the work of `pretrain`."""
        work = partial(pretrain_row, Path(self.store.store), self.out, row, seed, settings, patients)
        return Job(f"pretraining_{row}_seed_{seed}", work)

    def measure(self, asked: Measurement, keep: Callable[[FoldResult[Any]], None] | None = None) -> dict[str, Any]:
        """Return a stored result, or measure and store it.

        Args:
            asked: what to measure.
            keep: called with a new result before it is stored, for example to save its network.
        """

        def work() -> dict[str, Any]:
            line, values = measure(self.store, asked, keep)
            logger.info(line)
            return values

        return self.cache.measure(asked.name, work)

    def measure_on_processes(self, jobs: Iterable[Job], count: int) -> None:
        """Do what is not stored yet of some jobs, several at once.

        Args:
            jobs: pretrainings, measurements (of `measurement_job`) and others that return plain values.
            count: how many at once.
        """
        missing = [job for job in jobs if not self.cache.path(job.name).exists()]

        def store(job: Job, result: Any) -> None:
            line, values = result if isinstance(result, tuple) else (f"{job.name}: done", result)
            logger.info(line)
            self.cache.measure(job.name, lambda: values)

        run_jobs(missing, count, store, self.kind)

    def measurement_job(
        self, asked: Measurement, keep: Callable[[FoldResult[Any]], None] | None, needs: str | None
    ) -> Job:
        """Return the work of `measure`, for `measure_on_processes`; `needs` is the name of a pretraining's job."""
        return Job(asked.name, partial(_measure_alone, self.store, asked, keep, self.device), needs)

    def write_results(self, out: Path, folders: Mapping[str, Path], content: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``OUT/results.json``: what was measured, and what it depends on.

        Args:
            out: the folder of the file.
            folders: names for the folders of the command line, whose own names are private.
            content: the measured values.

        Returns:
            Everything that was written.
        """
        results = {
            "kind": self.kind,
            "usvs": __version__,
            "command": typed_command(sys.argv, folders),
            "environment": describe_environment(self.device),
            **self.cache.record,
            **content,
        }
        with writing(f"'{out / RESULTS_FILE}'"):
            write_text(out / RESULTS_FILE, json.dumps(results, indent=1))
        return results


def with_seed(settings: SettingsT, seed: int) -> SettingsT:
    """Return settings with another seed."""
    return settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})


def measure(
    store: PreparedStore, asked: Measurement, keep: Callable[[FoldResult[Any]], None] | None
) -> tuple[str, dict[str, Any]]:
    """Measure one init on one fold.

    Args:
        store: that everything is measured on.
        asked: what to measure.
        keep: called with the result, for example to save its network.

    Returns:
        A line for the log, and the result as plain values.
    """
    settings = with_seed(asked.settings, asked.seed)
    result = measure_fold(asked.task, store, asked.table, asked.fold, settings, asked.init(), asked.protocol)
    if keep is not None:
        keep(result)
    line = (
        f"{asked.evaluation}, {asked.init_name}, seed {asked.seed}, fold {asked.fold.number}"
        f" ({len(asked.fold.train)} training patients): {result.metrics} in {result.seconds:.0f} s"
    )
    return line, {"init": asked.init_name, "seed": asked.seed, **result.to_json()}


def _measure_alone(
    store: PreparedStore, asked: Measurement, keep: Callable[[FoldResult[Any]], None] | None, device: torch.device
) -> tuple[str, dict[str, Any]]:
    """Measure in a process of its own."""
    with process_settings(device):
        return measure(store, asked, keep)
