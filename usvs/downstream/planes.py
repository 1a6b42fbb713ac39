"""Standard-plane detection (section 3.2): from any init, folds by patient, scored on all held-out patients."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from usvs import __version__
from usvs.archive.plane_labels import PLANES
from usvs.archive.prepared import PreparedStore
from usvs.config import PlanesSettings
from usvs.downstream.folds import GroupBy, check_pretraining_overlap, make_folds, pretraining_keys, trained_patients
from usvs.downstream.frames import FrameTable, labelled_frames
from usvs.downstream.metrics import chance_f1
from usvs.downstream.plane_task import PlaneTask
from usvs.downstream.probe import Calibrate
from usvs.downstream.readings import Init, Mode, PlanesResult, init_names, measure_fold
from usvs.errors import ConfigError, DataError
from usvs.progress import say
from usvs.training.checkpoint import write_text
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device

RESULTS = "results.json"


def finetune_planes(
    store: Path,
    run: Path,
    settings: PlanesSettings,
    init: Init = "random",
    mode: Mode = "finetune",
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
    calibrate: Calibrate = "random",
) -> PlanesResult:
    """Measure one init on standard planes, fold by fold, and write ``RUN/results.json``.

    Args:
        store: a prepared store with plane labels.
        run: a new or empty folder; fine-tuned detectors go to ``RUN/detectors``.
        settings: folds, labelled patients, temporal stride, optimiser and network.
        init: ``random``, or a pretraining run (or one of its checkpoints).
        mode: ``finetune`` trains everything; ``probe`` fits a linear classifier on frozen features.
        allow_overlap: test on patients the init was pretrained on.
        group_by: ``scan`` takes each scan for a patient of its own, for archives without patient ids.
        calibrate: whose batch-norm statistics are recomputed before a probe.

    Raises:
        DataError: for a store without labels, missing patient ids, or test patients that were pretrained on.
        ConfigError: for a folder in use or an init that does not fit the settings.
    """
    job = _Job(store, run, settings, [init], group_by, allow_overlap, held_out_only=False)
    result = job.measure(init, mode, calibrate)
    job.write([result])
    return result


def compare_inits(
    store: Path,
    run: Path,
    settings: PlanesSettings,
    inits: Sequence[Init],
    held_out_only: bool = False,
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
) -> str:
    """Fine-tune and probe several inits on the same folds; write ``RUN/results.json`` and return the table to print.

    Args:
        store: a prepared store with plane labels.
        run: a new or empty folder.
        settings: as of `finetune_planes`.
        inits: ``random`` and pretraining runs.
        held_out_only: use only patients that no init was pretrained on, for training labels and for tests.
        allow_overlap: as of `finetune_planes`.
        group_by: as of `finetune_planes`.

    Raises:
        DataError: as of `finetune_planes`; also where `held_out_only` meets weights without a list of patients.
        ConfigError: as of `finetune_planes`.
    """
    job = _Job(store, run, settings, inits, group_by, allow_overlap, held_out_only)
    modes: tuple[Mode, ...] = ("finetune", "probe")
    results = [job.measure(init, mode, "random") for init in inits for mode in modes]
    job.write(results)
    return job.table_of(results)


class _Job:
    """The frames, folds and folder that every init of one call shares."""

    def __init__(
        self,
        store: Path,
        run: Path,
        settings: PlanesSettings,
        inits: Sequence[Init],
        group_by: GroupBy,
        allow_overlap: bool,
        held_out_only: bool,
    ) -> None:
        self.settings, self.run, self.group_by = settings, run, group_by
        self.store_folder, self.names = store, dict(zip(inits, init_names(inits), strict=True))
        if run.exists() and any(run.iterdir()):
            raise ConfigError(f"'{run}' is not empty: choose a new folder for the results")
        self.store = PreparedStore(store)
        table = labelled_frames(self.store, settings.temporal_stride, group_by)
        self.table = _held_out(self.store, table, inits) if held_out_only else table
        folds = make_folds(self.table.group.tolist(), settings.folds, settings.run.seed)
        self.folds = [fold.labelled(settings.labelled_patients) for fold in folds]
        tested = pretraining_keys(self.store, np.unique(self.table.scan).tolist())
        self.overlap = {
            self.names[init]: check_pretraining_overlap(Path(init), tested.values(), allow_overlap)
            for init in inits
            if init != "random"
        }
        run.mkdir(parents=True, exist_ok=True)

    def measure(self, init: Init, mode: Mode, calibrate: Calibrate) -> PlanesResult:
        """Read an init on every fold."""
        results = []
        for fold in self.folds:
            result, task = measure_fold(self.store, self.table, fold, self.settings, init, mode, calibrate)
            name, left_out = self.names[init], result.metrics.left_out
            said = f", in no mean as neither true nor predicted: {', '.join(left_out)}" if left_out else ""
            f1 = 100 * result.metrics.f1
            say(f"{name}, {mode}, fold {fold.number}: macro F1 {f1:.1f} % in {result.seconds:.0f} s{said}")
            if task is not None:
                _save_detector(self.run / "detectors" / f"{name}_fold_{fold.number}", task, self.settings)
            results.append(result)
        return PlanesResult(self.names[init], mode, tuple(results))

    def write(self, results: Sequence[PlanesResult]) -> None:
        """Store everything a table or a picture is drawn from."""
        inits: dict[str, dict[str, Any]] = {}
        for result in results:
            inits.setdefault(result.init, {})[result.mode] = result.to_json()
        folders = {"STORE": self.store_folder, "RUN": self.run}
        stored = {
            "kind": "planes",
            "usvs": __version__,
            "command": typed_command(sys.argv, folders),
            "environment": describe_environment(choose_device(self.settings.run.device)),
            "settings": self.settings.model_dump(mode="json"),
            "group_by": self.group_by,
            "classes": list(PLANES),
            "chance_f1": chance_f1(self.table.plane, len(PLANES)),
            "pretraining_overlap": self.overlap,
            "inits": inits,
        }
        write_text(self.run / RESULTS, json.dumps(stored, indent=1))

    def table_of(self, results: Sequence[PlanesResult]) -> str:
        """Return the scores as text, an init a line."""
        labelled, tested = len(self.folds[0].train), sum(len(fold.test) for fold in self.folds)
        unit = "patients" if self.group_by == "patient" else "scans"
        lines = [
            f"standard planes: {len(self.folds)} folds over {tested} {unit}, {labelled} of them labelled in each; "
            "macro means in %, mean ± sample standard deviation over folds",
            f"{'init':<24}{'precision':>14}{'recall':>14}{'F1':>14}{'frozen probe F1':>18}",
        ]
        probes = {result.init: result for result in results if result.mode == "probe"}
        for result in results:
            if result.mode == "finetune":
                probe = probes[result.init]
                mark = " *" if probe.folds[0].calibrated else "  "
                scores = "".join(f"{result.spread(score)!s:>14}" for score in ("precision", "recall", "f1"))
                lines.append(f"{result.init:<24}{scores}{str(probe.spread('f1')) + mark:>18}")
        chance = 100 * chance_f1(self.table.plane, len(PLANES))
        lines.append(f"chance F1 {chance:.1f}; * read with batch-norm statistics computed on the labelled frames")
        return "\n".join(lines)


def typed_command(arguments: Sequence[str], folders: Mapping[str, Path]) -> list[str]:
    """Return the command as typed, with the folders that may carry an archive's name replaced by what they are."""
    shown = []
    for argument in arguments:
        path = Path(argument)
        names = [name for name, folder in folders.items() if path == folder or path.resolve() == folder.resolve()]
        shown.append(names[0] if names else path.name if path.is_absolute() else argument)
    return shown


def _held_out(store: PreparedStore, table: FrameTable, inits: Sequence[Init]) -> FrameTable:
    seen: set[str] = set()
    for init in inits:
        trained = frozenset() if init == "random" else trained_patients(Path(init))
        if trained is None:
            raise DataError(f"init '{init}' carries no list of pretraining patients, so which are held out is unknown")
        seen |= trained
    keys = pretraining_keys(store, np.unique(table.scan).tolist())
    kept = table.take(np.array([keys[number] not in seen for number in table.scan.tolist()]))
    if not len(kept):
        raise DataError(
            "every labelled patient was pretrained on: hold some out (setting held_out_patients) and pretrain again"
        )
    return kept


def _save_detector(folder: Path, task: PlaneTask, settings: PlanesSettings) -> None:
    folder.mkdir(parents=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in task.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    described = {"classes": list(PLANES), "settings": settings.model_dump(mode="json"), "usvs": __version__}
    write_text(folder / "detector.json", json.dumps(described, indent=1))
