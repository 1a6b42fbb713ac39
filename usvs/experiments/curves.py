"""How many labels an init is worth: macro F1 against the share of labelled patients, fine-tuned and frozen."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from usvs import __version__
from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import labelled_frames
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError
from usvs.evaluation.folds import Fold, make_folds
from usvs.evaluation.metrics import Spread, chance_f1
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.comparison import RESULTS, held_out_rows, overlaps, typed_command
from usvs.tasks.initial_encoder import Init, encoder_sha256, init_names, initial_encoder
from usvs.tasks.protocols import measure_fold, measure_frozen_fold
from usvs.tasks.result_cache import ResultCache
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text

logger = logging.getLogger(__name__)

SHARES = (0.01, 0.05, 0.1, 1.0)
Reading = Literal["finetune", "probe", "knn"]
READINGS: dict[Reading, str] = {"finetune": "fine-tuned", "probe": "frozen probe", "knn": "frozen kNN"}


@dataclass(frozen=True)
class Curves:
    """All cells of the curves, as stored in ``OUT/results.json``; as text, a table a reading."""

    results: dict[str, Any]

    def __str__(self) -> str:
        results = self.results
        counts = [str(count) for count in results["patients_labelled"]]
        seeds, folds = len(results["seeds"]), results["settings"]["folds"]
        lines = [f"macro F1 in %, mean ± sample standard deviation over {seeds} seeds x {folds} patient folds"]
        for reading, title in READINGS.items():
            lines += ["", f"{title:<24}" + "".join(f"{count + ' patients':>16}" for count in counts)]
            for init, cells in results["measured"][reading].items():
                spreads = [str(Spread.of(cell["f1"] for cell in cells[count])) for count in counts]
                lines.append(f"{init:<24}" + "".join(f"{spread:>16}" for spread in spreads))
        chance = 100 * results["chance_f1"]
        return "\n".join([*lines, "", f"chance {chance:.1f}; frozen 'random' has calibrated batch-norm statistics"])


def parse_shares(text: str) -> tuple[float, ...]:
    """Read shares such as ``0.01,0.05,0.1,1``.

    Raises:
        ConfigError: for anything but numbers above 0 and up to 1.
    """
    try:
        shares = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"--shares: expected numbers above 0 and up to 1, such as 0.01,0.1,1; got '{text}'")
    return shares


def run_curves(
    store: Path,
    out: Path,
    settings: ClassificationSettings,
    inits: Sequence[Init],
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
    held_out_only: bool = False,
    allow_overlap: bool = False,
) -> Curves:
    """Measure what is missing of every cell (init, share, seed, fold), then write ``OUT/results.json``.

    A share means so many of a fold's training patients, rounded, but one at least; the patients of a smaller share are
    among those of a larger one. Shares that come to the same number of patients are measured once.

    Args:
        store: a prepared store with plane labels.
        out: a new folder, or one that this call began.
        settings: folds, temporal stride, optimiser and network.
        inits: as of `usvs.finetune_planes`; for a pretraining of one seed, the seeds here are of folds and heads only.
        shares: of each fold's training patients, 0 .. 1.
        seeds: of folds and of fine-tuning.
        held_out_only: use only patients that no init was pretrained on.
        allow_overlap: test on patients that an init was pretrained on.

    Raises:
        DataError: as of `usvs.finetune_planes`.
        ConfigError: for a folder that holds something else or cells of other settings.
    """
    job = _Job(store, out, settings, inits, shares, held_out_only, allow_overlap)
    result = Curves(job.measure(list(seeds)))
    write_text(out / RESULTS, json.dumps(result.results, indent=1))
    return result


class _Job:
    """The frames, folds and folder that all cells share."""

    def __init__(
        self,
        store: Path,
        out: Path,
        settings: ClassificationSettings,
        inits: Sequence[Init],
        shares: Sequence[float],
        held_out_only: bool,
        allow_overlap: bool,
    ) -> None:
        self.folders = {"STORE": store, "OUT": out}
        self.store, self.settings = PreparedStore(store), settings
        self.inits = dict(zip(init_names(inits), inits, strict=True))
        table = labelled_frames(self.store, settings.temporal_stride)
        self.table = table.take(held_out_rows(self.store, table, inits)) if held_out_only else table
        tested = pretraining_keys(self.store, np.unique(self.table.scan).tolist())
        self.overlap = overlaps(inits, list(self.inits), tested.values(), allow_overlap)
        fewest = min(len(fold.train) for fold in make_folds(self.table.group.tolist(), settings.folds, 0))
        self.counts = sorted({max(1, round(share * fewest)) for share in shares})
        self.plan = {
            "settings": settings.model_dump(mode="json"),
            "patients": sorted(set(self.table.group.tolist())),
            "inits": {name: encoder_sha256(initial_encoder(init, settings)) for name, init in self.inits.items()},
        }
        self.cells = ResultCache(out, "curves", self.plan)
        said = ", ".join(map(str, self.counts))
        logger.info(f"curves: {said} labelled patients of {fewest} in each of {settings.folds} folds")

    def measure(self, seeds: list[int]) -> dict[str, Any]:
        """Measure all cells and gather them with what they rest on."""
        measured: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {reading: {} for reading in READINGS}
        for seed in seeds:
            for name in self.inits:
                for fold in make_folds(self.table.group.tolist(), self.settings.folds, seed):
                    for count in self.counts:
                        for reading, cell in self._cells(name, seed, fold.labelled(count), count).items():
                            measured[reading].setdefault(name, {}).setdefault(str(count), []).append(cell)
        return {
            "kind": "curves",
            "usvs": __version__,
            "command": typed_command(sys.argv, self.folders),
            "environment": describe_environment(choose_device(self.settings.run.device)),
            **self.plan,
            "pretraining_overlap": self.overlap,
            "seeds": seeds,
            "patients_labelled": self.counts,
            "chance_f1": chance_f1(self.table.label, len(PLANES)),
            "measured": measured,
        }

    def _cells(self, name: str, seed: int, fold: Fold, count: int) -> dict[str, dict[str, Any]]:
        place = f"{name}_patients_{count}_seed_{seed}_fold_{fold.number}"
        tuned = self.cells.measure(f"finetune_{place}", partial(self._tuned, name, seed, fold))
        return {"finetune": tuned, **self.cells.measure(f"frozen_{place}", partial(self._frozen, name, seed, fold))}

    def _tuned(self, name: str, seed: int, fold: Fold) -> dict[str, Any]:
        result, _ = measure_fold(self.store, self.table, fold, self._seeded(seed), self.inits[name], "finetune")
        logger.info(
            f"{name}, {len(fold.train)} patients labelled, seed {seed}, fold {fold.number}: macro F1"
            f" {100 * result.metrics.f1:.1f} % in {result.seconds:.0f} s"
        )
        return {"init": name, "seed": seed, **result.to_json()}

    def _frozen(self, name: str, seed: int, fold: Fold) -> dict[str, Any]:
        found = measure_frozen_fold(self.store, self.table, fold, self._seeded(seed), self.inits[name])
        return {reading: {"init": name, "seed": seed, **one.to_json()} for reading, one in found.items()}

    def _seeded(self, seed: int) -> ClassificationSettings:
        return self.settings.model_copy(update={"run": self.settings.run.model_copy(update={"seed": seed})})
