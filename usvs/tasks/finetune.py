"""Fine-tuning to any task: several inits on the same patient folds of one store, in a folder that can be resumed."""

import io
import json
import logging
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usvs import __version__
from usvs.config import Profile, override_settings
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold, GroupBy, make_folds, rare_classes
from usvs.store.prepared import PreparedStore
from usvs.tasks.cross_validation import FoldResult, InitResult, measure_fold
from usvs.tasks.fingerprint import fingerprint
from usvs.tasks.frozen_features import Calibrate
from usvs.tasks.initial_encoder import (
    Init,
    encoder_sha256,
    init_names,
    initial_encoder,
    parse_init,
)
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.tasks.overlap import check_pretraining_overlap, trained_patients
from usvs.tasks.provenance import RESULTS, typed_command
from usvs.tasks.registry import KINDS, AnyTask, find_task
from usvs.tasks.result_cache import ResultCache
from usvs.tasks.results_table import results_table
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import EvaluationProtocol, Reference, Table
from usvs.training.distributed import Ranks, join_ranks
from usvs.training.environment import describe_environment
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_durably, write_text

logger = logging.getLogger(__name__)

KIND = "finetune"
MODELS, EXAMPLES = "models", "examples"
Patients = Literal["all", "held-out"]


@dataclass(frozen=True)
class FinetuneResult:
    """Every init by every protocol on the same folds; as text, the results table.

    Attributes:
        task: what was learnt.
        results: one for each init and protocol.
        reference: scores of a prediction that knows nothing.
        best: name of the init with the best main score by the first protocol; its models are what `load_model` takes.
        patients: the folds and their patients, in a few words.
    """

    task: AnyTask
    results: tuple[InitResult, ...]
    reference: Reference
    best: str
    patients: str

    def __str__(self) -> str:
        return results_table(self.task, self.patients, self.results, self.reference)

    def of(self, init: str, protocol: EvaluationProtocol = "finetune") -> InitResult:
        """Return the result of one init by one protocol.

        Raises:
            KeyError: where it was not measured.
        """
        found = [one for one in self.results if (one.init, one.protocol) == (init, protocol)]
        if not found:
            raise KeyError(f"{init}, {protocol}: not among {[(one.init, one.protocol) for one in self.results]}")
        return found[0]


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
    group_by: GroupBy = "patient",
    calibrate: Calibrate = "random",
    resume: bool = False,
    **overrides: Any,
) -> FinetuneResult:
    """Fine-tune one or several inits on the same patient folds; write results and models to a folder.

    Every fold of every init is stored in ``RUN/results`` when it is measured, so an interrupted call can be resumed.
    Models go to ``RUN/models/INIT/fold_N``, everything a table or a picture needs to ``RUN/results.json``. Under
    ``torchrun`` every process takes a part of each batch and of the frames to predict; the first one writes.

    Args:
        task: ``planes``, ``gaze``, or an object with the methods of `usvs.tasks.task.DownstreamTask`.
        store: a prepared store with the task's labels or gaze.
        run: a new or empty folder, or with `resume` the folder of an interrupted call.
        settings: of the task; None: those of `profile`.
        profile: ``paper`` or ``quick``; of the default settings.
        inits: ``random``, a pretraining run (or one of its checkpoints), ``imagenet:FILE``, ``sononet:FILE``, a module,
            or several of them.
        protocols: ``finetune``, ``probe``, ``knn``; None: fine-tuning, and a linear probe where the task supports it.
        patients: ``held-out`` uses only patients that no init was pretrained on, for training labels and for tests.
        allow_overlap: also test on patients that an init was pretrained on.
        group_by: ``scan`` takes each scan for a patient of its own, for archives without patient ids.
        calibrate: for which encoders batch-norm statistics are recomputed before a frozen protocol.
        resume: continue an interrupted call with the same arguments.
        **overrides: settings by name, see `usvs.config.override_settings`.

    Raises:
        DataError: for a store that the task cannot use, missing patient ids, or test patients that were pretrained on.
        ConfigError: for a folder in use, an init that does not fit the settings, or one given twice.
    """
    learnt = find_task(task)
    chosen = override_settings(settings or KINDS[learnt.kind].profile(profile), **overrides)
    asked: list[Init] = [inits] if isinstance(inits, (str, Path, nn.Module)) else list(inits)
    by_default = [name for name in learnt.protocols if name in ("finetune", "probe")]
    with join_ranks(chosen.run.device) as ranks, process_settings(choose_device(chosen.run.device)):
        comparison = Comparison(learnt, Path(store), Path(run), chosen, asked, protocols or by_default, group_by, ranks)
        comparison.choose_patients(patients, allow_overlap)
        return comparison.run(calibrate, resume)


class Comparison:
    """The frames, folds and folder that every init of one `finetune` call shares.

    Arguments and errors are those of `finetune`; `ranks` are the processes that take part.
    """

    def __init__(
        self,
        task: AnyTask,
        store: Path,
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
        self.task, self.folder, self.settings, self.group_by, self.ranks = task, run, settings, group_by, ranks
        self.inits = dict(zip(init_names(inits), inits, strict=True))
        self.protocols = protocols
        self.store_folder, self.store = store, PreparedStore(store)
        self.table: Table = task.dataset(self.store, settings, group_by)

    def choose_patients(self, patients: Patients, allow_overlap: bool) -> None:
        """Deal the folds; refuse test patients that an init was pretrained on."""
        inits, settings = list(self.inits.values()), self.settings
        if patients == "held-out":
            self.table = self.table.take(held_out_rows(self.store, self.table, inits))
        labels = self.task.labels(self.table) if "probe" in self.task.protocols else None
        if settings.stratify_folds and labels is None:
            raise ConfigError(f"setting 'stratify_folds': task '{self.task.name}' has no classes")
        groups = self.table.group.tolist()
        folds = make_folds(groups, settings.folds, settings.run.seed, labels if settings.stratify_folds else None)
        self.folds = [fold.labelled(settings.labelled_patients) for fold in folds]
        keys = pretraining_keys(self.store, np.unique(self.table.scan).tolist())
        self.overlap = overlaps(inits, list(self.inits), keys.values(), allow_overlap)
        if labels is not None and (rare := rare_classes(self.table.group, labels, settings.folds)):
            names = self.task.description().get("classes", {})
            listed = ", ".join(f"{names[number]} ({count})" for number, count in rare.items())
            logger.warning(
                f"classes of fewer patients than the {settings.folds} folds (number): {listed}; in some folds they"
                " are missing from training or test, and their scores there are 0 or in no mean"
            )

    def run(self, calibrate: Calibrate, resume: bool) -> FinetuneResult:
        """Measure what is missing of every init, protocol and fold, and write the results."""
        self.ranks.on_first(lambda: self._refuse_folder_in_use(resume))
        record = self._record(calibrate)  # builds every init: what cannot start leaves no folder
        caches: list[ResultCache] = []
        self.ranks.on_first(
            lambda: caches.append(ResultCache(self.folder, KIND, {**record, **fingerprint(self.store)}))
        )
        self.cache = caches[0] if caches else None
        try:
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
            where = f"init {number + 1} of {len(self.inits)} ({name}), fold {fold.number + 1} of {len(self.folds)}"
            folds.append(self._measure_fold(name, protocol, fold, calibrate, where))
        extra = [score for score in ("accuracy",) if score in folds[0] and score not in scores]
        return InitResult(name, protocol, (*scores, *extra), tuple(folds))

    def _measure_fold(
        self, name: str, protocol: EvaluationProtocol, fold: Fold, calibrate: Calibrate, where: str
    ) -> dict[str, Any]:
        key = f"{protocol}_{name}_fold_{fold.number}"
        stored = None
        if self.cache is not None and self.cache.path(key).exists():
            stored = self.cache.measure(key, dict)
        if (stored := share_json(stored, self.ranks)) is not None:
            logger.info(f"{where}, {protocol}: kept from before")
            return stored
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
        logger.info(f"{where}, {protocol}: {result.metrics} in {result.seconds:.0f} s")
        if self.cache is not None:
            self._keep(name, fold, result)
            return self.cache.measure(key, result.to_json)
        return result.to_json()

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
                (self.folder / EXAMPLES).mkdir(exist_ok=True)
                write_arrays(self.folder / EXAMPLES / f"{name}.npz", arrays)

    def _record(self, calibrate: Calibrate) -> dict[str, Any]:
        """Return everything that decides what a stored fold means."""
        return {
            "task": {"kind": self.task.kind, **self.task.description()},
            "settings": self.settings.model_dump(mode="json"),
            "inits": {name: encoder_sha256(initial_encoder(init, self.settings)) for name, init in self.inits.items()},
            "protocols": list(self.protocols),
            "group_by": self.group_by,
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
            "pretraining_overlap": self.overlap,
            **result.reference.values,
            "best_init": result.best,
            "inits": inits,
        }
        write_text(self.folder / RESULTS, json.dumps(stored, indent=1))
        arrays: dict[str, NDArray[Any]] = {}
        for name in self.inits:
            file = self.folder / EXAMPLES / f"{name}.npz"
            if file.exists():
                with np.load(file, allow_pickle=False) as example:
                    arrays |= {key: example[key] for key in example.files if key != "predicted"}
                    arrays[f"predicted_{name}"] = example["predicted"]
        if arrays:
            write_arrays(self.folder / f"{EXAMPLES}.npz", arrays)

    def _refuse_folder_in_use(self, resume: bool) -> None:
        content = (
            [path for path in self.folder.iterdir() if not path.name.startswith(".")] if self.folder.exists() else []
        )
        if resume and content and not (self.folder / f"{KIND}.json").is_file():
            raise ConfigError(
                f"'{self.folder}' has no fine-tuning to resume: expected {KIND}.json; choose a new folder"
            )
        if content and not resume:
            hint = ", or add --resume to continue it" if (self.folder / f"{KIND}.json").is_file() else ""
            raise ConfigError(f"'{self.folder}' is not empty: choose a new folder for the results{hint}")


def best_init(task: AnyTask, results: Sequence[InitResult]) -> str:
    """Return the name of the init with the best mean of the task's main score, by the first protocol."""
    means = {one.init: one.spread(task.main_score).mean for one in results if one.protocol == results[0].protocol}
    return (max if task.higher_is_better else min)(means, key=means.__getitem__)


def overlaps(inits: Sequence[Init], names: Sequence[str], tested: Collection[str], allow: bool) -> dict[str, str]:
    """Check every pretrained init against the test patients; return the result of `check_pretraining_overlap` for each.

    Weights from elsewhere are ``external``: as far as usvs can know, they were not trained on anybody of this archive.

    Raises:
        DataError: as `check_pretraining_overlap`.
    """
    found = {}
    for init, name in zip(inits, names, strict=True):
        parsed = parse_init(init)
        if parsed.is_external:
            found[name] = "external"
        elif parsed.kind == "run":
            found[name] = check_pretraining_overlap(parsed.path, tested, allow)
    return found


def held_out_rows(store: PreparedStore, table: Table, inits: Sequence[Init]) -> NDArray[np.bool_]:
    """Return which rows of the table [n] are of patients that no init was pretrained on.

    Raises:
        DataError: where there is none, or an init has no list of its pretraining patients.
    """
    seen: set[str] = set()
    for init in inits:
        parsed = parse_init(init)
        trained = trained_patients(parsed.path) if parsed.kind == "run" else frozenset()
        if trained is None:
            raise DataError(f"init '{init}' carries no list of pretraining patients, so which are held out is unknown")
        seen |= trained
    keys = pretraining_keys(store, np.unique(table.scan).tolist())
    kept = np.array([keys[number] not in seen for number in table.scan.tolist()], np.bool_)
    if not kept.any():
        raise DataError(
            "every labelled patient was pretrained on: pretrain again with validation patients, which are left out of"
            " training (setting validation_fraction)"
        )
    return kept


def share_json(value: dict[str, Any] | None, ranks: Ranks) -> dict[str, Any] | None:
    """Return the first rank's plain values on every rank."""
    if ranks.count == 1:
        return value
    text = b"" if value is None or not ranks.first else json.dumps(value).encode()
    length = int(ranks.gather_counts((len(text),)).max())
    if length == 0:
        return None
    content = torch.zeros(length, dtype=torch.int64)
    content[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else 0
    shared: dict[str, Any] = json.loads(bytes(ranks.total(content).tolist()))
    return shared


def write_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write named arrays as one compressed file, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_durably(file, buffer.getvalue())
