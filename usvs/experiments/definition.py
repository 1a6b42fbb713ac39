"""What a reproduction measures: the rows, patients, folds and evaluations of its preset.

Patients are divided once: some are for pretraining, the others, the downstream patients, for labels and tests. Folds
divide the downstream patients and differ between seeds; all inits of a seed share them.
"""

import logging
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold, make_folds, split_groups
from usvs.experiments.presets import (
    PRESETS,
    Evaluation,
    Preset,
    ReproduceSettings,
    TaskName,
)
from usvs.experiments.pretrainings import evaluate_pretraining, pretraining_folder
from usvs.experiments.rows import EXTERNAL
from usvs.experiments.runner import Experiment, Measurement, with_seed
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import default_task
from usvs.tasks.cross_validation import FoldResult
from usvs.tasks.initial_encoder import Init, encoder_sha256, initial_encoder
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.tasks.overlap import check_pretraining_overlap
from usvs.tasks.registry import AnyTask, find_task
from usvs.tasks.result_cache import describe_difference
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import Table
from usvs.training.jobs import Job, choose_jobs
from usvs.utils.array_files import write_arrays
from usvs.utils.private_files import make_private_folder

logger: logging.Logger = logging.getLogger(__name__)


class Definition:
    """What a reproduction measures: rows, patients, folds and evaluations of its preset.

    Args:
        store: a prepared store.
        settings: with the preset.
        external: the inits of the rows in `EXTERNAL` whose weights are given.
        allow_overlap: pretrain and test on all patients.
        rows: as of `reproduce`.

    Raises:
        DataError: where the store has neither labels nor gaze, or too few patients.
        ConfigError: for a row that the preset does not have, or weights of one that is not run.
    """

    def __init__(
        self,
        store: PreparedStore,
        settings: ReproduceSettings,
        external: dict[str, Init],
        allow_overlap: bool,
        rows: Collection[str] | None = None,
    ) -> None:
        self.store: PreparedStore
        self.settings: ReproduceSettings
        self.external: dict[str, Init]
        self.allow_overlap: bool
        self.store, self.settings, self.external, self.allow_overlap = store, settings, external, allow_overlap
        self.preset: Preset = PRESETS[settings.preset].of_rows(rows)
        if unknown := sorted(set(external) - set(self.preset.rows)):
            raise ConfigError(f"preset '{settings.preset}' has no row '{unknown[0]}': remove --{unknown[0]}")
        self.tasks: dict[TaskName, AnyTask] = {
            "planes": default_task(store, settings.planes.label_column),
            "gaze": find_task("gaze"),
        }
        self.rows: list[str] = [row for row in self.preset.rows if row not in EXTERNAL or row in external]
        self.tables: dict[TaskName, Table] = self._tables()
        self.groups: dict[str, set[Any]] = {task: set(table.group.tolist()) for task, table in self.tables.items()}
        self.pretraining: tuple[str, ...]
        self.downstream: tuple[str, ...]
        self.pretraining, self.downstream = self._divide_patients()

    @property
    def record(self) -> dict[str, Any]:
        """Plain values that decide the results."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "patients": {"pretraining": list(self.pretraining), "downstream": list(self.downstream)},
            "allow_overlap": self.allow_overlap,
            "task": self.tasks["planes"].description(),
        }

    def open(self, out: Path) -> Experiment:
        """Open the experiment's folder.

        Raises:
            ConfigError: as `Experiment`, and for other external weights than those of the stored results.
        """
        experiment = Experiment("reproduce", self.store, out, self.record, self.settings.pretrain.run.device)
        try:
            for row in self.external:
                self._check_weights(experiment, row)
        except BaseException:
            experiment.cache.close()
            raise
        missing = [row for row in self.preset.rows if row not in self.rows]
        logger.info(
            f"reproduce: {len(self.pretraining)} patients for pretraining, {len(self.downstream)} for labels and tests"
            + (f"; rows not run, because no weights are given: {', '.join(missing)}" if missing else "")
        )
        return experiment

    def measure(self, experiment: Experiment, seeds: list[int], jobs: int | None = None) -> dict[str, Any]:
        """Measure every result of some seeds that is not stored yet; return all of them.

        Args:
            experiment: the open experiment.
            seeds: of weights, sampling and folds.
            jobs: as of `reproduce`.
        """
        preset = self.preset
        if (count := self._job_count(experiment, jobs)) > 1:
            experiment.measure_on_processes(self._jobs(experiment, seeds), count)
        measured: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in preset.evaluations}
        pretraining: dict[str, list[dict[str, Any]]] = {row: [] for row in preset.pretrained}
        losses: dict[str, list[dict[str, Any]]] = {row: [] for row in preset.pretrained}
        for seed in seeds:
            for row in preset.pretrained:
                pretraining[row].append(experiment.pretrain(row, seed, self.settings.pretrain, self.pretraining))
            for row in self.rows:
                for asked in self._measurements(experiment.out, row, seed, first_seed=seed == seeds[0]):
                    result = experiment.measure(asked, partial(self._keep, experiment.out, asked))
                    measured[asked.evaluation].setdefault(row, []).append(result)
            for row in preset.pretrained if preset.evaluate_pretrainings else ():
                job = self._losses_job(experiment, row, seed)
                losses[row].append(experiment.cache.measure(job.name, job.work))
        return {
            "seeds": seeds,
            **self._reference_scores(),
            "measured": measured,
            "pretraining": pretraining,
            "pretraining_losses": losses,
        }

    def _job_count(self, experiment: Experiment, jobs: int | None) -> int:
        settings: FinetuneSettings = getattr(self.settings, next(iter(self.tables)))
        return choose_jobs(jobs, initial_encoder("random", settings), settings.run, experiment.device)

    def _jobs(self, experiment: Experiment, seeds: list[int]) -> Iterator[Job]:
        """Yield everything that is measured of some seeds; a pretraining comes before what it is needed for."""
        for seed in seeds:
            pretrainings = {
                row: experiment.pretraining_job(row, seed, self.settings.pretrain, self.pretraining)
                for row in self.preset.pretrained
            }
            yield from pretrainings.values()
            for row in self.rows:
                needs = pretrainings[row].name if row in pretrainings else None
                for asked in self._measurements(experiment.out, row, seed, first_seed=seed == seeds[0]):
                    yield experiment.measurement_job(asked, partial(self._keep, experiment.out, asked), needs)
            for row in self.preset.pretrained if self.preset.evaluate_pretrainings else ():
                yield self._losses_job(experiment, row, seed)._replace(needs=pretrainings[row].name)

    def _losses_job(self, experiment: Experiment, row: str, seed: int) -> Job:
        folder = pretraining_folder(experiment.out, row, seed)
        work = partial(evaluate_pretraining, self.store, folder, self.downstream)
        return Job(f"pretraining_losses_{row}_seed_{seed}", work)

    def folds(self, task: TaskName, seed: int) -> list[Fold]:
        """Return a seed's folds of a task, with the labelled patients of the settings; none without data for it."""
        if task not in self.tables:
            return []
        settings: FinetuneSettings = getattr(self.settings, task)
        folds = make_folds(sorted(self.groups[task] & set(self.downstream)), settings.folds, seed)
        return [fold.labelled(settings.labelled_patients) for fold in folds]

    def init(self, out: Path, row: str, seed: int, fold: Fold) -> Init:
        """Return the init of a row.

        Raises:
            DataError: where a pretraining has seen a patient of the fold, or does not say which it has seen.
        """
        if row == "random":
            return "random"
        if row in self.external:
            return self.external[row]
        folder = pretraining_folder(out, row, seed)
        if check_pretraining_overlap(folder, self.store, fold.test + fold.train, self.allow_overlap) == "unknown":
            raise DataError(f"'{folder}': expected a list of pretraining patients (patients.json), got none")
        return folder

    def _measurements(self, out: Path, row: str, seed: int, first_seed: bool) -> Iterator[Measurement]:
        """Yield everything that is measured of a row with one seed, fold by fold."""
        for task in self.tables:
            settings: FinetuneSettings = getattr(self.settings, task)
            for fold in self.folds(task, seed):
                for name, evaluation in self.preset.evaluations.items():
                    if not evaluation.applies(task, row, first_seed):
                        continue
                    labelled = self._with_labels(fold, evaluation)
                    yield Measurement(
                        evaluation=name,
                        init_name=row,
                        init=partial(self.init, out, row, seed, labelled),
                        seed=seed,
                        fold=labelled,
                        task=self.tasks[task],
                        table=self.tables[task],
                        settings=self._with_epochs(settings, evaluation),
                        protocol=evaluation.protocol,
                    )

    def _with_labels(self, fold: Fold, evaluation: Evaluation) -> Fold:
        if evaluation.labels == "few":
            return fold.labelled(self.settings.few_patients)
        if evaluation.labels == "everyone":
            also = tuple(key for key in self.pretraining if key in self.groups[evaluation.task])
            return Fold(fold.number, fold.train + also, fold.test)
        return fold

    def _with_epochs(self, settings: FinetuneSettings, evaluation: Evaluation) -> FinetuneSettings:
        if evaluation.labels != "everyone":
            return settings
        optimiser = settings.optimiser.model_copy(update={"epochs": self.settings.ceiling_epochs})
        return settings.model_copy(update={"optimiser": optimiser})

    def _keep(self, out: Path, asked: Measurement, result: FoldResult[Any]) -> None:
        """Save the model of a new result, and of the first fold examples of its predictions (Figure 4)."""
        if result.module is None:
            return
        module: Any = result.module
        if self.settings.keep_networks:
            settings = with_seed(asked.settings, asked.seed)
            model = TrainedModel(asked.task, module, settings, self.store.scan(0).frame_pixels)
            row = f"{asked.init_name}_seed_{asked.seed}"
            save_model(out / "models" / asked.evaluation / row / f"fold_{asked.fold.number}", model)
        if asked.fold.number == 0:
            test = asked.task.test_dataset(self.store, asked.table.of_groups(asked.fold.test), asked.settings)
            if arrays := asked.task.examples(self.store, test, module, asked.settings):
                make_private_folder(out / "examples")
                write_arrays(out / "examples" / f"{asked.init_name}_seed_{asked.seed}.npz", arrays)

    def _tables(self) -> dict[TaskName, Table]:
        """List the rows of each task of the preset; a task that the store has no data for is logged and left out.

        Raises:
            DataError: where that leaves no task.
        """
        tables: dict[TaskName, Table] = {}
        reasons = []
        for task in dict.fromkeys(evaluation.task for evaluation in self.preset.evaluations.values()):
            try:
                tables[task] = self.tasks[task].dataset(self.store, getattr(self.settings, task))
            except DataError as error:
                reasons.append(f"{task}: {error}")
        if not tables:
            raise DataError("this store has no data for any task; " + "; ".join(reasons))
        for reason in reasons:
            logger.info(f"not run, {reason}")
        return tables

    def _divide_patients(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the patients of pretraining and the downstream patients.

        A scan without a patient id may be of a downstream patient, so it is in neither, unless overlap is allowed.
        """
        usable = sorted(set().union(*self.groups.values()))
        scans = [self.store.scan(number) for number in range(len(self.store.scans))]
        if self.allow_overlap:
            logger.info(
                "pretraining and test patients overlap, as allowed: the results say nothing about unseen patients"
            )
            return tuple(sorted({scan.patient_key or scan.scan_key for scan in scans})), tuple(usable)
        _, downstream = split_groups(usable, self.settings.pretraining_fraction, seed=0)
        everyone = sorted({scan.patient_key for scan in scans if scan.patient_key})
        if unknown := sum(not scan.patient_key for scan in scans):
            logger.info(f"{unknown} of {len(scans)} scans have no patient id: not used for pretraining")
        return tuple(key for key in everyone if key not in set(downstream)), downstream

    def _reference_scores(self) -> dict[str, Any]:
        """Return the scores of predictions that know nothing, on the downstream patients."""
        references = {}
        for task, table in self.tables.items():
            downstream = table.of_groups(self.downstream)
            references[task] = self.tasks[task].reference(self.store, downstream, getattr(self.settings, task)).values
        found: dict[str, Any] = dict(references.get("planes", {}))
        if "gaze" in references:
            found["uniform_gaze"] = references["gaze"]["uniform"]
        return found

    def _check_weights(self, experiment: Experiment, row: str) -> None:
        """Bind a row's results to its weights: these can be given later than others, but not be exchanged."""
        settings: FinetuneSettings = getattr(self.settings, next(iter(self.tables)))
        given = {"encoder_sha256": encoder_sha256(initial_encoder(self.external[row], settings))}
        stored = experiment.cache.measure(f"weights_{row}", lambda: given)
        if difference := describe_difference(stored, given):
            raise ConfigError(
                f"'{experiment.out}' holds results of other {row} weights: {difference}; choose a new folder"
            )
