"""`usvs.finetune`: fine-tuning to any task, and the comparison of inits on the same patient folds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from usvs.config import Profile, override_settings
from usvs.evaluation.folds import GroupBy
from usvs.store.prepared import PreparedStore, warn_of_other_crop
from usvs.tasks.comparison import Comparison, Patients
from usvs.tasks.frozen_features import Calibrate
from usvs.tasks.initial_encoder import Init
from usvs.tasks.registry import AnyTask, find_task, task_kind
from usvs.tasks.results_table import FinetuneResult
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import EvaluationProtocol
from usvs.training.distributed import join_ranks
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device


def finetune(
    task: str | AnyTask,
    store: str | Path,
    run: str | Path,
    settings: FinetuneSettings | None = None,
    *,
    profile: Profile = "paper",
    inits: Init | Sequence[Init] = "random",
    protocols: Sequence[EvaluationProtocol] | None = None,
    patients: Patients = "all",
    allow_overlap: bool = False,
    init_stores: Sequence[str | Path] = (),
    group_by: GroupBy = "patient",
    calibrate: Calibrate = "random",
    resume: bool = False,
    jobs: int | None = None,
    **overrides: Any,
) -> FinetuneResult:
    """Fine-tune one or several inits on the same patient folds; write results and models to a folder.

    Every fold of every init is stored in ``RUN/results`` when it is measured, so an interrupted call can be resumed.
    Models go to ``RUN/models/INIT/fold_N``, everything a table or a picture needs to ``RUN/results.json``. Under
    ``torchrun`` every process takes a part of each batch and of the frames to predict; the first one writes.

    Args:
        task: ``planes``, ``classify`` (the classes of the store's labels), ``gaze``, or an object with the methods of
            `usvs.tasks.task.DownstreamTask`.
        store: a prepared store with the task's labels or gaze.
        run: a new or empty folder, or with `resume` the folder of an interrupted call.
        settings: of the task; None: those of `profile`.
        profile: ``paper`` or ``quick``; of the default settings.
        inits: ``random``, a pretraining run (or one of its checkpoints), ``imagenet:FILE``, ``sononet:FILE``, a module,
            or several of them.
        protocols: ``finetune``, ``probe``, ``knn``; None: fine-tuning, and a linear probe where the task supports it.
        patients: ``held-out`` uses only patients that no init was pretrained on, for training labels and for tests.
        allow_overlap: also test on patients that an init was pretrained on, or that cannot be compared with those.
        init_stores: other stores that inits were pretrained on: their patients are compared by their names.
        group_by: ``scan`` takes each scan for a patient of its own, for archives without patient ids.
        calibrate: for which encoders batch-norm statistics are recomputed before a frozen protocol.
        resume: continue an interrupted call with the same arguments.
        jobs: number of folds that are measured at once, each by a process of its own with its share of the threads;
            None: one for each thread where the network is small and trained on a CPU, as far as memory allows. The
            results of a small network are the same for every number.
        **overrides: settings by name, see `usvs.config.override_settings`.

    Raises:
        DataError: for a store that the task cannot use, missing patient ids, or test patients that were pretrained on.
        ConfigError: for a folder in use, an init that does not fit the settings, or one given twice.
        Preempted: after SIGTERM or SIGINT while several jobs run; finished folds are stored.
    """
    merged = override_settings(settings or task_kind(task).profile(profile), **overrides)
    init_list: list[Init] = [inits] if isinstance(inits, (str, Path, nn.Module)) else list(inits)
    opened = PreparedStore(Path(store))
    warn_of_other_crop(opened)
    task_object = find_task(task, opened, getattr(merged, "label_column", None))
    by_default = [name for name in task_object.protocols if name in ("finetune", "probe")]
    with join_ranks(merged.run.device) as ranks, process_settings(choose_device(merged.run.device)):
        comparison = Comparison(
            task_object, opened, Path(run), merged, init_list, protocols or by_default, group_by, ranks
        )
        comparison.choose_patients(patients, allow_overlap, init_stores)
        return comparison.run(calibrate, resume, jobs)
