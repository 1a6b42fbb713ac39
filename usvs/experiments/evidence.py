"""Does it learn: Ours against Shuffled and Rand, over seeds and patient folds, every cell kept.

Three inits of one network. Rand: untrained; its frozen readings have batch-norm statistics computed on the labelled
frames, as any training would have replaced the initial ones. Shuffled: the same pretraining with speech from other
scans, so what it gains is not from speech. Ours: the method. Pretraining and downstream patients are disjoint. Folds
are over the downstream ones and are dealt anew for every seed; all inits of a seed share them.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from usvs import __version__
from usvs.archive.plane_labels import PLANES
from usvs.config import Settings
from usvs.data.frame_table import FrameTable, labelled_frames
from usvs.errors import DataError
from usvs.evaluation.folds import Fold, make_folds, split_groups
from usvs.evaluation.metrics import chance_f1
from usvs.evaluation.significance import paired_difference
from usvs.experiments.evidence_table import evidence_table
from usvs.experiments.pretrainings import pretrain_row, pretraining_folder
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.comparison import RESULTS, typed_command
from usvs.tasks.initial_encoder import Init
from usvs.tasks.overlap import check_pretraining_overlap
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.protocols import Mode, measure_fold
from usvs.tasks.result_cache import ResultCache
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text

logger = logging.getLogger(__name__)

PRETRAINED = ("shuffled", "joint")  # the inits that are pretrainings


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
    inits: tuple[str, ...] = ("random", "shuffled", "joint")


READINGS = {
    "probe": Reading("probe", "fold"),
    "probe, few labels": Reading("probe", "few"),
    "fine-tuned, few labels": Reading("finetune", "few"),
    # What labels alone reach, the pretraining patients' included; for the first seed only, as it is about the data.
    "ceiling": Reading("finetune", "everybody", inits=("random",)),
}


class EvidenceSettings(Settings):
    """What is trained and read; the quick profiles by default."""

    # The patients to be read are set apart here; those held out of the pretraining itself only watch its losses.
    pretrain: PretrainSettings = Field(
        default_factory=lambda: pretrain_profile("quick").model_copy(update={"validation_fraction": 0.15})
    )
    planes: ClassificationSettings = Field(default_factory=lambda: classification_profile("quick"))
    pretraining_fraction: float = Field(0.6, gt=0, lt=1)  # of the patients; the rest are for labels and tests
    few_patients: int = Field(2, ge=1)  # labelled in each fold where labels are few
    ceiling_epochs: int = Field(12, ge=1)


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
            job.pretraining_cell(init, seed)
        for cell in job.cells(seed, ceiling=seed == seeds[0]):
            job.reading_cell(*cell)
    result = EvidenceResult(job.results(list(seeds)))
    write_text(out / RESULTS, json.dumps(result.results, indent=1))
    return result


class _Job:
    """The patients, folder and settings that all cells share."""

    def __init__(self, store: Path, out: Path, settings: EvidenceSettings) -> None:
        self.store_folder, self.out, self.settings = store, out, settings
        self.store = PreparedStore(store)
        self.table: FrameTable = labelled_frames(self.store, settings.planes.temporal_stride)
        _, self.downstream = split_groups(self.table.group.tolist(), settings.pretraining_fraction, seed=0)
        everyone = {self.store.scan(number).patient_key for number in range(len(self.store.scans))}
        self.pretraining = tuple(sorted(key for key in everyone if key and key not in self.downstream))
        self.labelled_pretraining = tuple(key for key in self.pretraining if key in set(self.table.group.tolist()))
        self.kept = ResultCache(out, "evidence", self._plan())
        logger.info(
            f"evidence: {len(self.pretraining)} patients to pretrain on, {len(self.downstream)} others to read on"
        )

    def pretraining_cell(self, init: str, seed: int) -> dict[str, Any]:
        """Pretrain on the pretraining patients, or go on with it; its held-out losses are a cell."""
        arguments = (self.store_folder, self.out, init, seed, self.settings.pretrain, self.pretraining)
        return self.kept.measure(f"pretraining_{init}_seed_{seed}", partial(pretrain_row, *arguments))

    def cells(self, seed: int, ceiling: bool) -> Iterator[tuple[str, str, int, Fold]]:
        """Yield reading, init, seed and fold of everything a seed is read by."""
        for fold in make_folds(self.downstream, self.settings.planes.folds, seed):
            everybody = Fold(fold.number, fold.train + self.labelled_pretraining, fold.test)
            labelled = {"few": fold.labelled(self.settings.few_patients), "fold": fold, "everybody": everybody}
            for name, reading in READINGS.items():
                if ceiling or reading.labels != "everybody":
                    for init in reading.inits:
                        yield name, init, seed, labelled[reading.labels]

    def reading_cell(self, name: str, init: str, seed: int, fold: Fold) -> dict[str, Any]:
        """Measure one cell, unless it is kept from before."""
        work = partial(self._read, name, init, seed, fold)
        return self.kept.measure(f"{name}_{init}_seed_{seed}_fold_{fold.number}", work)

    def _read(self, name: str, init: str, seed: int, fold: Fold) -> dict[str, Any]:
        settings = self.settings.planes
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
        if READINGS[name].labels == "everybody":
            longer = settings.optimiser.model_copy(update={"epochs": self.settings.ceiling_epochs})
            settings = settings.model_copy(update={"optimiser": longer})
        start: Init = "random" if init == "random" else pretraining_folder(self.out, init, seed)
        if start != "random" and check_pretraining_overlap(Path(start), fold.test + fold.train) != "disjoint":
            raise DataError(f"'{start}': carries no list of pretraining patients, so nothing can be claimed from it")
        result, _ = measure_fold(self.store, self.table, fold, settings, start, READINGS[name].mode)
        f1 = 100 * result.metrics.f1
        logger.info(f"{name}, {init}, seed {seed}, fold {fold.number}: macro F1 {f1:.1f} % in {result.seconds:.0f} s")
        return {"reading": name, "init": init, "seed": seed, **result.to_json()}

    def results(self, seeds: list[int]) -> dict[str, Any]:
        """Gather the cells of the given seeds with everything they rest on."""
        readings: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for seed in seeds:
            for name, init, _, fold in self.cells(seed, ceiling=seed == seeds[0]):
                cells = readings.setdefault(name, {}).setdefault(init, [])
                cells.append(self.reading_cell(name, init, seed, fold))
        pretraining = {init: [self.pretraining_cell(init, seed) for seed in seeds] for init in PRETRAINED}
        return {
            "kind": "evidence",
            "usvs": __version__,
            "command": typed_command(sys.argv, {"STORE": self.store_folder, "OUT": self.out}),
            "environment": describe_environment(choose_device(self.settings.pretrain.run.device)),
            **self._plan(),
            "seeds": seeds,
            "folds": self.settings.planes.folds,
            "chance_f1": chance_f1(self.table.of_groups(self.downstream).label, len(PLANES)),
            "pretraining": pretraining,
            "readings": readings,
            "differences": _differences(readings),
        }

    def _plan(self) -> dict[str, Any]:
        patients = {"pretraining": list(self.pretraining), "downstream": list(self.downstream)}
        return {"settings": self.settings.model_dump(mode="json"), "patients": patients}


def _differences(readings: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, dict[str, Any]]:
    """Compare the inits of every reading in pairs, on macro F1."""
    compared: dict[str, dict[str, Any]] = {}
    for name, inits in readings.items():
        scores = {init: [cell["f1"] for cell in cells] for init, cells in inits.items()}
        for first, second in (("joint", "random"), ("joint", "shuffled"), ("shuffled", "random")):
            if first in scores and second in scores:
                difference = vars(paired_difference(scores[first], scores[second]))
                compared.setdefault(name, {})[f"{first} - {second}"] = difference
    return compared
