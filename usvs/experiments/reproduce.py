"""The paper's experiments on any archive: Tables 1, 2 and 3 and Figures 3 and 4, every init, and our controls.

Patients are divided once: some are pretrained on, the others are for labels and tests. Folds are over the others and
are dealt anew for every seed; all inits of a seed share them. Every pretraining, every fold's network and every figure
is kept, so the same command goes on where it was stopped, and more seeds may be asked for later.
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from torch import nn

from usvs import __version__
from usvs.archive.plane_labels import PLANES
from usvs.config import Profile, Settings
from usvs.data.frame_table import FrameTable, labelled_frames
from usvs.data.gaze_table import GazeTable, gaze_frames
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold, make_folds, split_groups
from usvs.evaluation.metrics import chance_f1
from usvs.experiments.pretrainings import pretrain_row, pretraining_folder, read_held_out
from usvs.experiments.tables import reproduction_text
from usvs.models.registry import Encoder
from usvs.store.folder import ARCHIVE_FILE
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.comparison import RESULTS, save_detector, typed_command
from usvs.tasks.initial_encoder import Init, encoder_description, encoder_sha256, initial_encoder
from usvs.tasks.overlap import check_pretraining_overlap
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.protocols import measure_fold, measure_frozen_fold, measure_gaze_fold
from usvs.tasks.result_cache import ResultCache
from usvs.tasks.saliency.compare import example_maps, example_rows, uniform_scores
from usvs.tasks.saliency.scores import seen_in_evaluation
from usvs.tasks.saliency.settings import SaliencySettings, saliency_profile
from usvs.tasks.settings import FinetuneSettings
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text

logger = logging.getLogger(__name__)

PRETRAINED = ("video", "baseline", "contrastive", "joint", "shuffled")
EXTERNAL = ("imagenet", "sononet")
ROWS = ("random", *PRETRAINED, *EXTERNAL)
Task = Literal["planes", "gaze"]


class ReproduceSettings(Settings):
    """What is trained and read; `reproduce_profile` makes them."""

    profile: Profile = "paper"
    pretrain: PretrainSettings = PretrainSettings()
    planes: ClassificationSettings = ClassificationSettings()
    gaze: SaliencySettings = SaliencySettings()
    pretraining_fraction: float = Field(0.6, gt=0, lt=1)  # of the patients; the rest are for labels and tests
    keep_networks: bool = True  # every fold's fine-tuned network


def reproduce_profile(profile: Profile) -> ReproduceSettings:
    """The settings of a profile: of each step its own, with a tenth of the pretraining patients only watched.

    All clips show the order task, as the paper has it: with a quarter of them, quick's share, Video learns nothing.
    """
    pretraining = pretrain_profile(profile)
    objective = pretraining.objective.model_copy(update={"order_fraction": 1.0})
    pretraining = pretraining.model_copy(update={"validation_fraction": 0.1, "objective": objective})
    return ReproduceSettings(
        profile=profile, pretrain=pretraining, planes=classification_profile(profile), gaze=saliency_profile(profile)
    )


@dataclass(frozen=True)
class Reproduction:
    """Everything that was measured, as stored in ``OUT/results.json``; as text, the tables and the claims."""

    results: dict[str, Any]

    def __str__(self) -> str:
        return reproduction_text(self.results)


def reproduce(
    archive_or_store: Path,
    out: Path,
    settings: ReproduceSettings | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    imagenet: str | None = None,
    sononet: str | None = None,
    allow_overlap: bool = False,
) -> Reproduction:
    """Run what is missing of the paper's experiments, then write ``OUT/results.json``.

    Args:
        archive_or_store: an archive, which is indexed and prepared into ``OUT/store``, or a store.
        out: a new folder, or one that this call began.
        settings: `reproduce_profile`; the paper's by default.
        seeds: of weights, sampling and folds.
        imagenet: a file of weights, ``timm`` or ``torchvision``; None: that row is not run.
        sononet: a file of weights; None: that row is not run.
        allow_overlap: pretrain on everybody and test on everybody. The paper does not say that its sets are apart;
            without this they are.

    Raises:
        DataError: for an archive or a store that lacks patients, speech, and both labels and gaze.
        ConfigError: for a folder that holds something else or cells of other settings.
    """
    settings = settings or reproduce_profile("paper")
    store = store_of(archive_or_store, out, settings.profile)
    external = {"imagenet": imagenet, "sononet": sononet}
    job = _Job(
        store, out / "run", settings, {row: f"{row}:{path}" for row, path in external.items() if path}, allow_overlap
    )
    for seed in seeds:
        job.run_seed(seed)
    result = Reproduction(job.results(list(seeds), archive_or_store))
    write_text(out / RESULTS, json.dumps(result.results, indent=1))
    return result


def store_of(archive_or_store: Path, out: Path, profile: Profile) -> Path:
    """Return the store that is meant; an archive is indexed and prepared into ``OUT/store``, what is ready is kept."""
    if (archive_or_store / ARCHIVE_FILE).is_file():
        return archive_or_store
    store = out / "store"
    logger.info(str(index_archive(archive_or_store, store)))
    logger.info(str(prepare_store(store, profile=profile)))
    return store


class _Job:
    """The patients, folder and settings that all cells share."""

    def __init__(
        self, store: Path, out: Path, settings: ReproduceSettings, external: dict[str, Init], allow_overlap: bool
    ) -> None:
        self.store_folder, self.out, self.settings, self.external = store, out, settings, external
        self.store, self.allow_overlap = PreparedStore(store), allow_overlap
        self.planes, self.gaze = _tables(self.store, settings)
        groups = {task: table.group.tolist() for task, table in self._frame_tables().items()}
        usable = sorted({group for of_task in groups.values() for group in of_task})
        scans = [self.store.scan(number) for number in range(len(self.store.scans))]
        everyone = sorted({scan.patient_key or scan.scan_key for scan in scans})
        if allow_overlap:
            logger.info("pretraining and test patients overlap, as allowed: no claim about unseen patients follows")
            self.downstream, self.pretraining = tuple(usable), tuple(everyone)
        else:
            _, self.downstream = split_groups(usable, settings.pretraining_fraction, seed=0)
            self.pretraining = tuple(key for key in everyone if key not in set(self.downstream))
        self.readable = {task: sorted(set(of_task) & set(self.downstream)) for task, of_task in groups.items()}
        self.cells = ResultCache(out, "reproduce", self._plan())
        for row in external:
            self._claim_weights(row)
        people = f"{len(self.pretraining)} patients to pretrain on, {len(self.downstream)} to read on"
        missing = [row for row in EXTERNAL if row not in external]
        logger.info(
            f"reproduce: {people}" + (f"; not run for want of weights: {', '.join(missing)}" if missing else "")
        )

    @property
    def rows(self) -> list[str]:
        """The inits that are run, in the order of the tables."""
        return [row for row in ROWS if row not in EXTERNAL or row in self.external]

    def run_seed(self, seed: int) -> None:
        """Measure every cell of a seed that is not kept from before."""
        for row in PRETRAINED:
            self.pretraining_cell(row, seed)
        for row in self.rows:
            for fold in self.folds("planes", seed):
                self.frozen_cell(row, seed, fold)
                self.planes_cell(row, seed, fold)
            for fold in self.folds("gaze", seed):
                self.gaze_cell(row, seed, fold)
        for row in PRETRAINED:
            self.held_out_cell(row, seed)

    def folds(self, task: Task, seed: int) -> list[Fold]:
        """Return a seed's folds of a task; none where the store has nothing for it."""
        if not self.readable.get(task):
            return []
        settings: FinetuneSettings = getattr(self.settings, task)
        folds = make_folds(self.readable[task], settings.folds, seed)
        return [fold.labelled(settings.labelled_patients) for fold in folds]

    def pretraining_cell(self, row: str, seed: int) -> dict[str, Any]:
        """Pretrain a row, or go on with it."""
        arguments = (self.store_folder, self.out, row, seed, self.settings.pretrain, self.pretraining)
        return self.cells.measure(f"pretraining_{row}_seed_{seed}", partial(pretrain_row, *arguments))

    def held_out_cell(self, row: str, seed: int) -> dict[str, Any]:
        """Read a row's losses and retrieval on people it was not pretrained on."""
        folder = pretraining_folder(self.out, row, seed)
        work = partial(read_held_out, self.store, folder, self.downstream)
        return self.cells.measure(f"held_out_{row}_seed_{seed}", work)

    def frozen_cell(self, row: str, seed: int, fold: Fold) -> dict[str, Any]:
        """Read a row without changing it."""

        def work() -> dict[str, Any]:
            assert self.planes is not None
            settings = _seeded(self.settings.planes, seed)
            found = measure_frozen_fold(self.store, self.planes, fold, settings, self._init(row, seed, fold))
            scores = ", ".join(f"{name} F1 {100 * one.metrics.f1:.1f} %" for name, one in found.items())
            logger.info(f"frozen, {row}, seed {seed}, fold {fold.number}: {scores}")
            return {name: {"init": row, "seed": seed, **one.to_json()} for name, one in found.items()}

        return self.cells.measure(f"frozen_{row}_seed_{seed}_fold_{fold.number}", work)

    def planes_cell(self, row: str, seed: int, fold: Fold) -> dict[str, Any]:
        """Fine-tune a row to planes (Tables 1 and 3)."""

        def work() -> dict[str, Any]:
            assert self.planes is not None
            settings, init = _seeded(self.settings.planes, seed), self._init(row, seed, fold)
            result, task = measure_fold(self.store, self.planes, fold, settings, init, "finetune")
            assert task is not None
            self._keep("planes", row, seed, fold, task, task.encoder, settings)
            f1 = 100 * result.metrics.f1
            logger.info(
                f"planes, {row}, seed {seed}, fold {fold.number}: macro F1 {f1:.1f} % in {result.seconds:.0f} s"
            )
            return {"init": row, "seed": seed, **result.to_json()}

        return self.cells.measure(f"planes_{row}_seed_{seed}_fold_{fold.number}", work)

    def gaze_cell(self, row: str, seed: int, fold: Fold) -> dict[str, Any]:
        """Fine-tune a row to gaze (Tables 2 and 3); the first fold of the first seed keeps examples (Fig. 4)."""

        def work() -> dict[str, Any]:
            assert self.gaze is not None
            settings, init = _seeded(self.settings.gaze, seed), self._init(row, seed, fold)
            result, task = measure_gaze_fold(self.store, self.gaze, fold, settings, init)
            self._keep("gaze", row, seed, fold, task, task.encoder, settings)
            if fold.number == 0:
                shown = example_rows(seen_in_evaluation(self.store, self.gaze.of_groups(fold.test), settings))
                (self.out / "examples").mkdir(exist_ok=True)
                file = self.out / "examples" / f"{row}_seed_{seed}.npz"
                np.savez_compressed(file, **example_maps(self.store, shown, task, settings, row))  # type: ignore[arg-type]
            found = f"KL {result.metrics.kl:.2f}, NSS {result.metrics.nss:.2f}, CC {result.metrics.cc:.2f}"
            logger.info(f"gaze, {row}, seed {seed}, fold {fold.number}: {found} in {result.seconds:.0f} s")
            return {"init": row, "seed": seed, **result.to_json()}

        return self.cells.measure(f"gaze_{row}_seed_{seed}_fold_{fold.number}", work)

    def results(self, seeds: list[int], typed: Path) -> dict[str, Any]:
        """Gather the cells of the given seeds with everything they rest on."""
        measured: dict[str, Any] = {"planes": {}, "gaze": {}, "probe": {}, "knn": {}}
        for row in self.rows:
            for seed in seeds:
                for fold in self.folds("planes", seed):
                    measured["planes"].setdefault(row, []).append(self.planes_cell(row, seed, fold))
                    for name, cell in self.frozen_cell(row, seed, fold).items():
                        measured[name].setdefault(row, []).append(cell)
                for fold in self.folds("gaze", seed):
                    measured["gaze"].setdefault(row, []).append(self.gaze_cell(row, seed, fold))
        known: dict[str, Any] = {}
        if self.planes is not None:
            known["chance_f1"] = chance_f1(self.planes.of_groups(self.downstream).label, len(PLANES))
        if self.gaze is not None:
            tested = seen_in_evaluation(self.store, self.gaze.of_groups(self.downstream), self.settings.gaze)
            known["uniform_gaze"] = uniform_scores(tested, self.settings.gaze).to_json()
        return {
            "kind": "reproduce",
            "usvs": __version__,
            "command": typed_command(sys.argv, {"ARCHIVE": typed, "STORE": self.store_folder, "OUT": self.out.parent}),
            "environment": describe_environment(choose_device(self.settings.pretrain.run.device)),
            **self._plan(),
            "seeds": seeds,
            "classes": list(PLANES),
            **known,
            "measured": measured,
            "pretraining": {row: [self.pretraining_cell(row, seed) for seed in seeds] for row in PRETRAINED},
            "held_out": {row: [self.held_out_cell(row, seed) for seed in seeds] for row in PRETRAINED},
        }

    def _claim_weights(self, row: str) -> None:
        """Bind a row's cells to its weights: they may be given later than the others', but not be exchanged."""
        settings = self.settings.planes if self.planes is not None else self.settings.gaze
        found = {"encoder_sha256": encoder_sha256(initial_encoder(self.external[row], settings))}
        if self.cells.measure(f"weights_{row}", lambda: found) != found:
            raise ConfigError(f"'{self.out}' holds cells of other {row} weights than those given: choose a new folder")

    def _init(self, row: str, seed: int, fold: Fold) -> Init:
        if row == "random":
            return "random"
        if row in self.external:
            return self.external[row]
        folder = pretraining_folder(self.out, row, seed)
        found = check_pretraining_overlap(folder, fold.test + fold.train, self.allow_overlap)
        if found == "unknown":
            raise DataError(f"'{folder}': carries no list of pretraining patients, so nothing can be claimed from it")
        return folder

    def _keep(
        self,
        task: Task,
        row: str,
        seed: int,
        fold: Fold,
        network: nn.Module,
        encoder: Encoder,
        settings: FinetuneSettings,
    ) -> None:
        if not self.settings.keep_networks:
            return
        described = {
            "task": task,
            "encoder": encoder_description(f"{row}:" if row in EXTERNAL else "random", encoder, settings),
            "prepared_pixels": self.store.scan(0).frame_pixels,
            "settings": settings.model_dump(mode="json"),
            "usvs": __version__,
        }
        save_detector(self.out / "detectors" / task / f"{row}_seed_{seed}" / f"fold_{fold.number}", network, described)

    def _frame_tables(self) -> dict[Task, FrameTable]:
        tables: dict[Task, FrameTable] = {}
        if self.planes is not None:
            tables["planes"] = self.planes
        if self.gaze is not None:
            tables["gaze"] = self.gaze.frames
        return tables

    def _plan(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "patients": {"pretraining": list(self.pretraining), "downstream": list(self.downstream)},
            "allow_overlap": self.allow_overlap,
        }


def _tables(store: PreparedStore, settings: ReproduceSettings) -> tuple[FrameTable | None, GazeTable | None]:
    """List the frames of both tasks; None, and said, for one that the store cannot serve."""
    planes = _or_say(lambda: labelled_frames(store, settings.planes.temporal_stride), "Tables 1 and 3")
    gaze = _or_say(
        lambda: gaze_frames(
            store, settings.gaze.temporal_stride, settings.gaze.window_seconds, settings.gaze.sigma_degrees
        ),
        "Tables 2 and 3",
    )
    if planes is None and gaze is None:
        raise DataError("this store has neither plane labels nor gaze of patients with ids, so no table can be made")
    return planes, gaze


def _or_say(list_frames: Callable[[], Any], what: str) -> Any:
    try:
        return list_frames()
    except DataError as error:
        logger.info(f"not run, {what}: {error}")
        return None


def _seeded(settings: Any, seed: int) -> Any:
    return settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
