"""Does it learn: Ours against Shuffled and Rand, over seeds and patient folds, every cell kept.

Three inits of one network. Rand: untrained; its frozen readings have batch-norm statistics computed on the labelled
frames, as any training would have replaced the initial ones. Shuffled: the same pretraining with speech from other
scans, so what it gains is not from speech. Ours: the method. Pretraining and downstream patients are disjoint. Folds
are over the downstream ones and are dealt anew for every seed; all inits of a seed share them.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from usvs import __version__
from usvs.archive.plane_labels import PLANES
from usvs.archive.prepared import PreparedStore
from usvs.config import PlanesSettings, PretrainSettings, Settings, planes_profile, pretrain_profile
from usvs.downstream.comparison import RESULTS, typed_command
from usvs.downstream.evidence_table import evidence_table
from usvs.downstream.folds import Fold, check_pretraining_overlap, make_folds, split_groups
from usvs.downstream.frames import FrameTable, labelled_frames
from usvs.downstream.inits import Init
from usvs.downstream.metrics import chance_f1
from usvs.downstream.readings import Mode, measure_fold
from usvs.downstream.significance import paired_difference
from usvs.errors import ConfigError, DataError
from usvs.progress import say
from usvs.training.checkpoint import write_text
from usvs.training.environment import describe_environment
from usvs.training.pretrain import pretrain
from usvs.training.run_log import read_metrics
from usvs.training.trainer import choose_device

PLAN = "evidence.json"
PRETRAINED = {"shuffled": "shuffled", "ours": "own"}  # init -> setting objective.speech


@dataclass(frozen=True)
class Reading:
    """A way to read an init.

    Attributes:
        mode: frozen or fine-tuned.
        labels: of a few of the fold's training patients, of all of them, or of everybody but the tested ones.
        inits: which are read so.
    """

    mode: Mode
    labels: Literal["few", "fold", "everybody"]
    inits: tuple[str, ...] = ("random", "shuffled", "ours")


READINGS = {
    "probe": Reading("probe", "fold"),
    "probe, few labels": Reading("probe", "few"),
    "fine-tuned, few labels": Reading("finetune", "few"),
    # What labels alone reach, the pretraining patients' included; for the first seed only, as it is about the data.
    "ceiling": Reading("finetune", "everybody", inits=("random",)),
}


class EvidenceSettings(Settings):
    """What is trained and read; the quick profiles by default."""

    pretrain: PretrainSettings = Field(default_factory=lambda: pretrain_profile("quick"))
    planes: PlanesSettings = Field(default_factory=lambda: planes_profile("quick"))
    pretraining_share: float = Field(0.6, gt=0, lt=1)  # of the patients; the rest are for labels and tests
    few_patients: int = Field(2, ge=1)  # labelled in each fold where labels are few
    # Picked from four settings on two test folds of one phantom: a ceiling read on those folds again is optimistic.
    ceiling_epochs: int = Field(48, ge=1)


@dataclass(frozen=True)
class EvidenceResult:
    """All cells of an evidence run, as stored in ``OUT/results.json``; as text, its table."""

    results: dict[str, Any]

    def __str__(self) -> str:
        return evidence_table(self.results)


def run_evidence(
    store: Path, out: Path, seeds: Sequence[int] = (0, 1, 2), settings: EvidenceSettings | None = None
) -> EvidenceResult:
    """Run what is missing of every cell (seed, fold, init, reading), then write ``OUT/results.json``.

    The same call goes on where it was stopped; more seeds may be asked for later. Each pretraining stays in
    ``OUT/pretrain``, each cell's figures in ``OUT/cells``.

    Args:
        store: a prepared store whose scans have speech, plane labels and patient ids.
        out: a new folder, or one that this call began.
        seeds: of weights, sampling and folds.
        settings: what is trained and read.

    Raises:
        DataError: for a store that lacks patients, labels or speech.
        ConfigError: for a folder that holds something else or cells of other settings.
    """
    job = _Job(store, out, settings or EvidenceSettings())
    for seed in seeds:
        for init in PRETRAINED:
            job.pretrain(init, seed)
        for cell in job.cells(seed, ceiling=seed == seeds[0]):
            job.read(*cell)
    result = EvidenceResult(job.results(list(seeds)))
    write_text(out / RESULTS, json.dumps(result.results, indent=1))
    return result


class _Job:
    """The patients, folder and settings that all cells share."""

    def __init__(self, store: Path, out: Path, settings: EvidenceSettings) -> None:
        self.store_folder, self.out, self.settings = store, out, settings
        self.store = PreparedStore(store)
        self.table: FrameTable = labelled_frames(self.store, settings.planes.temporal_stride)
        _, self.downstream = split_groups(self.table.group.tolist(), settings.pretraining_share, seed=0)
        everyone = {self.store.scan(number).patient_key for number in range(len(self.store.scans))}
        self.pretraining = tuple(sorted(key for key in everyone if key and key not in self.downstream))
        self.labelled_pretraining = tuple(key for key in self.pretraining if key in set(self.table.group.tolist()))
        self._claim_folder()
        say(f"evidence: {len(self.pretraining)} patients to pretrain on, {len(self.downstream)} others to read on")

    def pretrain(self, init: str, seed: int) -> None:
        """Pretrain on the pretraining patients, or go on with it; its held-out losses become a cell."""
        run, cell = self._run(init, seed), self._cell("pretraining", init, seed)
        if cell.exists():
            return
        base = self.settings.pretrain
        chosen = base.model_copy(
            update={
                "objective": base.objective.model_copy(update={"speech": PRETRAINED[init]}),
                "run": base.run.model_copy(update={"seed": seed}),
            }
        )
        say(f"pretraining {init}, seed {seed}")
        pretrain(self.store_folder, run, chosen, resume=run.exists(), patients=self.pretraining)
        held_out = [record for record in read_metrics(run) if record["split"] == "held_out"]
        write_text(cell, json.dumps({"init": init, "seed": seed, "held_out": held_out[-1] if held_out else {}}))

    def cells(self, seed: int, ceiling: bool) -> Iterator[tuple[str, str, int, Fold]]:
        """Yield reading, init, seed and fold of everything a seed is read by."""
        for fold in make_folds(self.downstream, self.settings.planes.folds, seed):
            everybody = Fold(fold.number, fold.train + self.labelled_pretraining, fold.test)
            labelled = {"few": fold.labelled(self.settings.few_patients), "fold": fold, "everybody": everybody}
            for name, reading in READINGS.items():
                if ceiling or reading.labels != "everybody":
                    for init in reading.inits:
                        yield name, init, seed, labelled[reading.labels]

    def read(self, name: str, init: str, seed: int, fold: Fold) -> None:
        """Measure one cell, unless it is kept from before."""
        cell = self._cell(name, init, seed, fold)
        if cell.exists():
            return
        settings = self.settings.planes
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
        if READINGS[name].labels == "everybody":
            longer = settings.optimiser.model_copy(update={"epochs": self.settings.ceiling_epochs})
            settings = settings.model_copy(update={"optimiser": longer})
        start: Init = "random" if init == "random" else self._run(init, seed)
        if start != "random" and check_pretraining_overlap(Path(start), fold.test + fold.train) != "disjoint":
            raise DataError(f"'{start}': carries no list of pretraining patients, so nothing can be claimed from it")
        result, _ = measure_fold(self.store, self.table, fold, settings, start, READINGS[name].mode)
        f1 = 100 * result.metrics.f1
        say(f"{name}, {init}, seed {seed}, fold {fold.number}: macro F1 {f1:.1f} % in {result.seconds:.0f} s")
        cell.parent.mkdir(exist_ok=True)
        write_text(cell, json.dumps({"reading": name, "init": init, "seed": seed, **result.to_json()}))

    def results(self, seeds: list[int]) -> dict[str, Any]:
        """Gather the cells of the given seeds with everything they rest on."""
        readings: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for seed in seeds:
            for name, init, _, fold in self.cells(seed, ceiling=seed == seeds[0]):
                cells = readings.setdefault(name, {}).setdefault(init, [])
                cells.append(_load(self._cell(name, init, seed, fold)))
        pretraining = {init: [_load(self._cell("pretraining", init, seed)) for seed in seeds] for init in PRETRAINED}
        return {
            "kind": "evidence",
            "usvs": __version__,
            "command": typed_command(sys.argv, {"STORE": self.store_folder, "OUT": self.out}),
            "environment": describe_environment(choose_device(self.settings.pretrain.run.device)),
            **self._plan(),
            "seeds": seeds,
            "folds": self.settings.planes.folds,
            "chance_f1": chance_f1(self.table.of_groups(self.downstream).plane, len(PLANES)),
            "pretraining": pretraining,
            "readings": readings,
            "differences": _differences(readings),
        }

    def _plan(self) -> dict[str, Any]:
        patients = {"pretraining": list(self.pretraining), "downstream": list(self.downstream)}
        return {"settings": self.settings.model_dump(mode="json"), "patients": patients}

    def _claim_folder(self) -> None:
        plan = self.out / PLAN
        if not plan.exists():
            if self.out.exists() and any(self.out.iterdir()):
                raise ConfigError(f"'{self.out}' is not empty and holds no evidence run: choose a new folder")
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "cells").mkdir()
            write_text(plan, json.dumps(self._plan(), indent=1))
        elif _load(plan) != self._plan():
            raise ConfigError(f"'{self.out}' holds cells of other settings or another store: choose a new folder")

    def _run(self, init: str, seed: int) -> Path:
        return self.out / "pretrain" / f"{init}_seed_{seed}"

    def _cell(self, name: str, init: str, seed: int, fold: Fold | None = None) -> Path:
        place = "" if fold is None else f"_fold_{fold.number}"
        return self.out / "cells" / f"{name.replace(', ', '_').replace(' ', '_')}_{init}_seed_{seed}{place}.json"


def _differences(readings: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, dict[str, Any]]:
    """Compare the inits of every reading in pairs, on macro F1."""
    compared: dict[str, dict[str, Any]] = {}
    for name, inits in readings.items():
        scores = {init: [cell["f1"] for cell in cells] for init, cells in inits.items()}
        for first, second in (("ours", "random"), ("ours", "shuffled"), ("shuffled", "random")):
            if first in scores and second in scores:
                difference = vars(paired_difference(scores[first], scores[second]))
                compared.setdefault(name, {})[f"{first} - {second}"] = difference
    return compared


def _load(file: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': wanted a stored cell, got {error}; remove it to have it measured again") from None
    return stored
