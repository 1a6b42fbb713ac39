"""Several inits on the same folds of one store: who is tested, who may be, and the folder that keeps the results."""

import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from usvs import __version__
from usvs.data.frame_table import FrameTable
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import GroupBy, make_folds
from usvs.store.prepared import PreparedStore
from usvs.tasks.initial_encoder import Init, encoder_description, init_names, parse_init
from usvs.tasks.overlap import check_pretraining_overlap, trained_patients
from usvs.tasks.settings import FinetuneSettings
from usvs.training.distributed import Ranks
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text

RESULTS = "results.json"
DETECTORS = "detectors"
DETECTOR = "detector.json"
MODEL = "model.safetensors"
Task = Literal["planes", "gaze"]


class Comparison:
    """The frames, folds and folder that every init of one call shares.

    Args:
        task: what is learnt.
        store: a prepared store.
        run: a new or empty folder; it is made here.
        settings: folds, labelled patients and seed.
        inits: what is compared.
        group_by: ``scan`` takes each scan for a patient of its own.
        allow_overlap: test on patients that an init was pretrained on.
        held_out_only: use only patients that no init was pretrained on.
        frames: lists the frames that the task can use, with their patients.
        ranks: who takes part; the first one alone writes to the folder.

    Raises:
        DataError: for a store that cannot serve the task, missing patient ids, or patients that were pretrained on.
        ConfigError: for a folder in use, or an init given twice.
    """

    def __init__(
        self,
        task: Task,
        store: Path,
        run: Path,
        settings: FinetuneSettings,
        inits: Sequence[Init],
        group_by: GroupBy,
        allow_overlap: bool,
        held_out_only: bool,
        frames: Callable[[PreparedStore], FrameTable],
        ranks: Ranks,
    ) -> None:
        if len(set(map(str, inits))) != len(inits):
            raise ConfigError("--init: the same start was given twice")
        self.task, self.run, self.settings, self.group_by, self.store_folder = task, run, settings, group_by, store
        self.ranks = ranks
        self.names = dict(zip(inits, init_names(inits), strict=True))
        ranks.on_first(self._refuse_folder_in_use)
        self.store = PreparedStore(store)
        table = frames(self.store)
        self.kept = held_out_rows(self.store, table, inits) if held_out_only else np.ones(len(table), np.bool_)
        self.table = table.take(self.kept)
        folds = make_folds(self.table.group.tolist(), settings.folds, settings.run.seed)
        self.folds = [fold.labelled(settings.labelled_patients) for fold in folds]
        tested = pretraining_keys(self.store, np.unique(self.table.scan).tolist())
        self.overlap = overlaps(inits, list(self.names.values()), tested.values(), allow_overlap)
        if ranks.first:
            run.mkdir(parents=True, exist_ok=True)

    def keep_detector(self, init: Init, fold: int, task: nn.Module, encoder: Any) -> None:
        """Keep a fold's trained network in ``RUN/detectors/INIT/fold_N``: weights, and what builds it again."""
        if not self.ranks.first:
            return
        described = {
            "task": self.task,
            "encoder": encoder_description(init, encoder, self.settings),
            "prepared_pixels": self.store.scan(0).frame_pixels,
            "settings": self.settings.model_dump(mode="json"),
            "usvs": __version__,
        }
        save_detector(self.run / DETECTORS / self.names[init] / f"fold_{fold}", task, described)

    def write(self, results: Mapping[str, Any], **more: Any) -> None:
        """Store everything a table or a picture is drawn from in ``RUN/results.json``."""
        if not self.ranks.first:
            return
        folders = {"STORE": self.store_folder, "RUN": self.run}
        stored = {
            "kind": self.task,
            "usvs": __version__,
            "command": typed_command(sys.argv, folders),
            "environment": describe_environment(choose_device(self.settings.run.device)),
            "processes": self.ranks.count,
            "settings": self.settings.model_dump(mode="json"),
            "group_by": self.group_by,
            "pretraining_overlap": self.overlap,
            **more,
            "inits": results,
        }
        write_text(self.run / RESULTS, json.dumps(stored, indent=1))

    def _refuse_folder_in_use(self) -> None:
        if self.run.exists() and any(self.run.iterdir()):
            raise ConfigError(f"'{self.run}' is not empty: choose a new folder for the results")

    @property
    def people(self) -> str:
        """What is divided between training and test, in a few words."""
        labelled, tested = len(self.folds[0].train), sum(len(fold.test) for fold in self.folds)
        unit = "patients" if self.group_by == "patient" else "scans"
        return f"{len(self.folds)} folds over {tested} {unit}, {labelled} of them labelled in each"


def overlaps(inits: Sequence[Init], names: Sequence[str], tested: Collection[str], allow: bool) -> dict[str, str]:
    """Check every pretrained init against the test patients; return what `check_pretraining_overlap` says of each.

    Weights from elsewhere are ``external``: they have seen nobody of this archive, as far as anyone can say.

    Raises:
        DataError: as `check_pretraining_overlap`.
    """
    found = {}
    for init, name in zip(inits, names, strict=True):
        start = parse_init(init)
        if start.is_external:
            found[name] = "external"
        elif start.kind == "run":
            found[name] = check_pretraining_overlap(start.path, tested, allow)
    return found


def save_detector(folder: Path, task: nn.Module, described: Mapping[str, Any]) -> None:
    """Write a trained network as safetensors and JSON; the description goes last."""
    folder.mkdir(parents=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in task.state_dict().items()}
    save_file(tensors, folder / MODEL)
    write_text(folder / DETECTOR, json.dumps(described, indent=1))


def typed_command(arguments: Sequence[str], folders: Mapping[str, Path]) -> list[str]:
    """Return the command as typed, with the folders that may carry an archive's name replaced by what they are."""
    shown = []
    for argument in arguments:
        prefix, colon, rest = argument.partition(":")
        if colon and prefix in ("video", "usvs", "imagenet", "sononet"):
            shown.append(f"{prefix}:{Path(rest).name}")
            continue
        path = Path(argument)
        names = [name for name, folder in folders.items() if path == folder or path.resolve() == folder.resolve()]
        shown.append(names[0] if names else path.name if path.is_absolute() else argument)
    return shown


def held_out_rows(store: PreparedStore, table: FrameTable, inits: Sequence[Init]) -> NDArray[np.bool_]:
    """Return which frames of the table [n] are of patients that no init was pretrained on.

    Raises:
        DataError: where there is none, or an init does not say whom it was pretrained on.
    """
    seen: set[str] = set()
    for init in inits:
        start = parse_init(init)
        trained = trained_patients(start.path) if start.kind == "run" else frozenset()
        if trained is None:
            raise DataError(f"init '{init}' carries no list of pretraining patients, so which are held out is unknown")
        seen |= trained
    keys = pretraining_keys(store, np.unique(table.scan).tolist())
    kept = np.array([keys[number] not in seen for number in table.scan.tolist()], np.bool_)
    if not kept.any():
        raise DataError(
            "every labelled patient was pretrained on: hold some out (setting validation_fraction) and pretrain again"
        )
    return kept
