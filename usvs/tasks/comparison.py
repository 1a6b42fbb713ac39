"""Several inits on the same patient folds of one store, measured into a folder that can be resumed."""

import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from usvs import __version__
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError
from usvs.evaluation.folds import Fold, GroupBy, make_folds, rare_classes
from usvs.store.prepared import PreparedStore
from usvs.tasks.cross_validation import FoldResult, InitResult, measure_fold
from usvs.tasks.fingerprint import fingerprint
from usvs.tasks.frozen_features import Calibrate
from usvs.tasks.initial_encoder import Init, encoder_sha256, init_names, initial_encoder
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.tasks.overlap import held_out_rows, overlaps
from usvs.tasks.provenance import RESULTS_FILE, typed_command
from usvs.tasks.registry import AnyTask
from usvs.tasks.result_cache import ResultCache, refuse_folder_in_use
from usvs.tasks.results_table import FinetuneResult, best_init
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import EvaluationProtocol, Table
from usvs.training.distributed import Ranks, share_json
from usvs.training.environment import describe_environment
from usvs.training.jobs import Job, choose_jobs, run_jobs, why_not_sendable
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device
from usvs.utils.array_files import write_arrays
from usvs.utils.atomic_files import write_text, writing
from usvs.utils.private_files import make_private_folder

logger: logging.Logger = logging.getLogger(__name__)

KIND = "finetune"
MODELS, EXAMPLES = "models", "examples"
Patients = Literal["all", "held-out"]


class Comparison:
    """The frames, folds and folder that every init of one `finetune` call shares.

    Arguments and errors are those of `finetune`; `ranks` are the processes that take part.
    """

    def __init__(
        self,
        task: AnyTask,
        store: PreparedStore,
        run: Path,
        settings: FinetuneSettings,
        inits: Sequence[Init],
        protocols: Sequence[EvaluationProtocol],
        group_by: GroupBy,
        ranks: Ranks,
    ) -> None:
        if len(set(map(str, inits))) != len(inits):
            raise ConfigError("--init: the same init was given twice")
        if unknown := [name for name in protocols if name not in task.protocols]:
            raise ConfigError(
                f"task '{task.name}', protocol: expected {' or '.join(task.protocols)}, got '{unknown[0]}'"
            )
        self.task: AnyTask
        self.folder: Path
        self.settings: FinetuneSettings
        self.ranks: Ranks
        self.task, self.folder, self.settings, self.group_by, self.ranks = task, run, settings, group_by, ranks
        self.inits: dict[str, Init] = dict(zip(init_names(inits), inits, strict=True))
        self.protocols = protocols
        self.cache: ResultCache | None = None
        self._measured_now: set[str] = set()
        self.store_folder: Path
        self.store: PreparedStore
        self.store_folder, self.store = Path(store.store), store
        self.table: Table = task.dataset(self.store, settings, group_by)

    def choose_patients(self, patients: Patients, allow_overlap: bool, init_stores: Sequence[str | Path] = ()) -> None:
        """Divide the patients into folds.

        Raises:
            ConfigError: for stratified folds of a task without classes.
            DataError: for fewer patients than folds, or test patients that an init was pretrained on.
        """
        inits, settings = list(self.inits.values()), self.settings
        if patients == "held-out":
            self.table = self.table.take(held_out_rows(self.store, self.table, inits, init_stores))
        labels = self.task.labels(self.table) if "probe" in self.task.protocols else None
        if settings.stratify_folds and labels is None:
            raise ConfigError(f"setting 'stratify_folds': task '{self.task.name}' has no classes")
        groups = self.table.group.tolist()
        folds = make_folds(groups, settings.folds, settings.run.seed, labels if settings.stratify_folds else None)
        self.folds: list[Fold] = [fold.labelled(settings.labelled_patients) for fold in folds]
        keys = pretraining_keys(self.store, np.unique(self.table.scan).tolist())
        self.overlap: dict[str, str] = overlaps(
            inits, list(self.inits), self.store, keys.values(), allow_overlap, init_stores
        )
        if labels is not None and (rare := rare_classes(self.table.group, labels, settings.folds)):
            names = self.task.description().get("classes", [])
            listed = ", ".join(f"{names[number]} ({count})" for number, count in rare.items())
            logger.warning(
                f"classes of fewer patients than the {settings.folds} folds (number): {listed}; in some folds they"
                " are missing from training or test, and their scores there are 0 or in no mean"
            )

    def run(self, calibrate: Calibrate, resume: bool, jobs: int | None = None) -> FinetuneResult:
        """Measure what is missing of every init, protocol and fold, and write the results.

        The arguments are those of `finetune`.

        Raises:
            ConfigError: for a folder with other content, and for several jobs under torchrun.
        """
        if jobs is not None and jobs > 1 and self.ranks.count > 1:
            raise ConfigError(f"--jobs {jobs}: expected 1 under torchrun, whose processes share every batch")
        self.ranks.on_first(lambda: refuse_folder_in_use(self.folder, KIND, resume))
        record = self._record(calibrate)  # builds every init: what cannot start leaves no folder
        caches: list[ResultCache] = []
        self.ranks.on_first(
            lambda: caches.append(ResultCache(self.folder, KIND, {**record, **fingerprint(self.store)}))
        )
        self.cache = caches[0] if caches else None
        try:
            if self.ranks.count == 1:
                self._measure_on_processes(calibrate, jobs)
            measured = [
                self._measure(number, name, protocol, calibrate)
                for number, name in enumerate(self.inits)
                for protocol in self.protocols
            ]
            reference = self.task.reference(self.store, self.table, self.settings)
            best = best_init(self.task, measured)
            result = FinetuneResult(self.task, tuple(measured), reference, best, self.patients)
            if self.ranks.first:
                self._write(result)
        finally:
            if self.cache is not None:
                self.cache.close()
        return result

    @property
    def patients(self) -> str:
        """Number of folds and patients, in a few words."""
        labelled, tested = len(self.folds[0].train), sum(len(fold.test) for fold in self.folds)
        unit = "patients" if self.group_by == "patient" else "scans"
        return f"{len(self.folds)} folds over {tested} {unit}, {labelled} of them labelled in each"

    def _measure(self, number: int, name: str, protocol: EvaluationProtocol, calibrate: Calibrate) -> InitResult:
        folds, scores = [], tuple(column.score for column in self.task.columns)
        for fold in self.folds:
            folds.append(self._measure_fold(name, protocol, fold, calibrate, self._where(number, name, fold)))
        extra = [score for score in self.task.extra_scores if score in folds[0] and score not in scores]
        return InitResult(name, protocol, (*scores, *extra), tuple(folds))

    def _measure_fold(
        self, name: str, protocol: EvaluationProtocol, fold: Fold, calibrate: Calibrate, where: str
    ) -> dict[str, Any]:
        key = _key(name, protocol, fold)
        stored = None
        if self.cache is not None and self.cache.path(key).exists():
            stored = self.cache.measure(key, dict)
        if (stored := share_json(stored, self.ranks)) is not None:
            if key not in self._measured_now:
                logger.info(f"{where}, {protocol}: kept from before")
            return stored
        line, values = self._compute_fold(name, protocol, fold, calibrate, where)
        logger.info(line)
        return values if self.cache is None else self.cache.measure(key, lambda: values)

    def _compute_fold(
        self, name: str, protocol: EvaluationProtocol, fold: Fold, calibrate: Calibrate, where: str
    ) -> tuple[str, dict[str, Any]]:
        """Measure a fold and save its model; return a line for the log and the result as plain values."""
        result = measure_fold(
            self.task,
            self.store,
            self.table,
            fold,
            self.settings,
            self.inits[name],
            protocol,
            self.ranks,
            calibrate=calibrate,
            label=where,
        )
        if self.ranks.first:
            self._keep(name, fold, result)
        return f"{where}, {protocol}: {result.metrics} in {result.seconds:.0f} s", result.to_json()

    def _measure_on_processes(self, calibrate: Calibrate, jobs: int | None) -> None:
        """Measure what is missing, several folds at once, where that is asked for or faster."""
        missing = [
            Job(key, partial(_compute_alone, self, name, protocol, fold, calibrate, self._where(number, name, fold)))
            for number, name in enumerate(self.inits)
            for protocol in self.protocols
            for fold in self.folds
            if self.cache is not None and not self.cache.path(key := _key(name, protocol, fold)).exists()
        ]
        device = choose_device(self.settings.run.device)
        smallest = initial_encoder(next(iter(self.inits.values())), self.settings)
        count = choose_jobs(jobs, smallest, self.settings.run, device)
        if count == 1 or len(missing) < 2 or (jobs is None and why_not_sendable(missing[0])):
            return

        def store(job: Job, result: tuple[str, dict[str, Any]]) -> None:
            assert self.cache is not None
            self._measured_now.add(job.name)
            logger.info(result[0])
            self.cache.measure(job.name, lambda: result[1])

        run_jobs(
            missing,
            count,
            store,
            f"{self.task.name}, {len(self.inits) * len(self.protocols)} x {len(self.folds)} folds",
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; the folder and its lock stay with this one."""
        return {**self.__dict__, "cache": None}

    def _where(self, number: int, name: str, fold: Fold) -> str:
        return f"init {number + 1} of {len(self.inits)} ({name}), fold {fold.number + 1} of {len(self.folds)}"

    def _keep(self, name: str, fold: Fold, result: FoldResult[Any]) -> None:
        """Save a fold's model, and of the first fold examples to draw; both before its result."""
        if result.module is None:
            return
        module: Any = result.module
        model = TrainedModel(self.task, module, self.settings, self.store.scan(0).frame_pixels)
        save_model(self.folder / MODELS / name / f"fold_{fold.number}", model)
        if fold.number == 0:
            test = self.task.test_dataset(self.store, self.table.of_groups(fold.test), self.settings)
            if arrays := self.task.examples(self.store, test, module, self.settings):
                make_private_folder(self.folder / EXAMPLES)
                write_arrays(self.folder / EXAMPLES / f"{name}.npz", arrays)

    def _record(self, calibrate: Calibrate) -> dict[str, Any]:
        """Return everything that decides what a stored fold means."""
        return {
            "task": {"kind": self.task.kind, **self.task.description()},
            "settings": self.settings.model_dump(mode="json"),
            "inits": {name: encoder_sha256(initial_encoder(init, self.settings)) for name, init in self.inits.items()},
            "protocols": list(self.protocols),
            "group_by": self.group_by,
            "store": self.store.store_id,
            "calibrate": calibrate,
            "folds": [{"train": list(fold.train), "test": list(fold.test)} for fold in self.folds],
        }

    def _write(self, result: FinetuneResult) -> None:
        """Store everything a table or a picture is drawn from in ``RUN/results.json``, and the examples."""
        inits: dict[str, dict[str, Any]] = {}
        for one in result.results:
            inits.setdefault(one.init, {})[one.protocol] = one.to_json()
        stored = {
            "kind": self.task.name,
            "usvs": __version__,
            "command": typed_command(sys.argv, {"STORE": self.store_folder, "RUN": self.folder}),
            "environment": describe_environment(choose_device(self.settings.run.device)),
            "processes": self.ranks.count,
            "settings": self.settings.model_dump(mode="json"),
            "group_by": self.group_by,
            "store": self.store.store_id,
            "pretraining_overlap": self.overlap,
            **result.reference.values,
            "best_init": result.best,
            "inits": inits,
        }
        with writing(f"'{self.folder / RESULTS_FILE}'"):
            write_text(self.folder / RESULTS_FILE, json.dumps(stored, indent=1))
        arrays: dict[str, NDArray[Any]] = {}
        for name in self.inits:
            file = self.folder / EXAMPLES / f"{name}.npz"
            if file.exists():
                with np.load(file, allow_pickle=False) as example:
                    arrays |= {key: example[key] for key in example.files if key != "predicted"}
                    arrays[f"predicted_{name}"] = example["predicted"]
        if arrays:
            write_arrays(self.folder / f"{EXAMPLES}.npz", arrays)


def _key(name: str, protocol: EvaluationProtocol, fold: Fold) -> str:
    return f"{protocol}_{name}_fold_{fold.number}"


def _compute_alone(
    comparison: Comparison, name: str, protocol: EvaluationProtocol, fold: Fold, calibrate: Calibrate, where: str
) -> tuple[str, dict[str, Any]]:
    """Measure a fold in a process of its own."""
    with process_settings(choose_device(comparison.settings.run.device)):
        return comparison._compute_fold(name, protocol, fold, calibrate, where)
