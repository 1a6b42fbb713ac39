"""Standard-plane detection (section 3.2): from any init, folds by patient, scored on all held-out patients."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import FrameTable, labelled_frames
from usvs.evaluation.folds import GroupBy
from usvs.evaluation.metrics import PlaneMetrics, chance_f1
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.comparison import Comparison
from usvs.tasks.frozen_probe import Calibrate
from usvs.tasks.initial_encoder import Init
from usvs.tasks.protocols import InitResult, Mode, measure_fold
from usvs.training.distributed import Ranks, join_ranks

logger = logging.getLogger(__name__)


def finetune_planes(
    store: Path,
    run: Path,
    settings: ClassificationSettings,
    init: Init = "random",
    mode: Mode = "finetune",
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
    calibrate: Calibrate = "random",
) -> InitResult[PlaneMetrics]:
    """Measure one init on standard planes, fold by fold, and write ``RUN/results.json``.

    Under ``torchrun`` every process takes a part of each batch and of the frames to predict; the first one writes.

    Args:
        store: a prepared store with plane labels.
        run: a new or empty folder; fine-tuned detectors go to ``RUN/detectors``.
        settings: folds, labelled patients, temporal stride, optimiser and network.
        init: ``random``, a pretraining run (or one of its checkpoints), ``imagenet:FILE`` or ``sononet:FILE``.
        mode: ``finetune`` trains everything; ``probe`` fits a linear classifier on frozen features.
        allow_overlap: test on patients the init was pretrained on.
        group_by: ``scan`` takes each scan for a patient of its own, for archives without patient ids.
        calibrate: whose batch-norm statistics are recomputed before a probe.

    Raises:
        DataError: for a store without labels, missing patient ids, or test patients that were pretrained on.
        ConfigError: for a folder in use or an init that does not fit the settings.
    """
    with join_ranks(settings.run.device) as ranks:
        work = _compare(store, run, settings, [init], False, allow_overlap, group_by, ranks)
        result = _measure(work, settings, init, mode, calibrate)
        _write(work, [result])
    return result


def compare_inits(
    store: Path,
    run: Path,
    settings: ClassificationSettings,
    inits: Sequence[Init],
    held_out_only: bool = False,
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
) -> str:
    """Fine-tune and probe several inits on the same folds; write ``RUN/results.json`` and return the table to print.

    Under ``torchrun`` as `finetune_planes`; the table is the same in all processes.

    Args:
        store: a prepared store with plane labels.
        run: a new or empty folder.
        settings: as of `finetune_planes`.
        inits: each as of `finetune_planes`.
        held_out_only: use only patients that no init was pretrained on, for training labels and for tests.
        allow_overlap: as of `finetune_planes`.
        group_by: as of `finetune_planes`.

    Raises:
        DataError: as of `finetune_planes`; also where `held_out_only` meets weights without a list of patients.
        ConfigError: as of `finetune_planes`.
    """
    modes: tuple[Mode, ...] = ("finetune", "probe")
    with join_ranks(settings.run.device) as ranks:
        work = _compare(store, run, settings, inits, held_out_only, allow_overlap, group_by, ranks)
        results = [_measure(work, settings, init, mode, "random") for init in inits for mode in modes]
        _write(work, results)
    return _table(work, results)


def _compare(
    store: Path,
    run: Path,
    settings: ClassificationSettings,
    inits: Sequence[Init],
    held_out_only: bool,
    allow_overlap: bool,
    group_by: GroupBy,
    ranks: Ranks,
) -> Comparison:
    def frames(opened: PreparedStore) -> FrameTable:
        return labelled_frames(opened, settings.temporal_stride, group_by)

    return Comparison("planes", store, run, settings, inits, group_by, allow_overlap, held_out_only, frames, ranks)


def _measure(
    work: Comparison, settings: ClassificationSettings, init: Init, mode: Mode, calibrate: Calibrate
) -> InitResult[PlaneMetrics]:
    """Read an init on every fold."""
    results, name = [], work.names[init]
    for fold in work.folds:
        result, task = measure_fold(work.store, work.table, fold, settings, init, mode, calibrate, work.ranks)
        left_out = result.metrics.left_out
        said = f", in no mean as neither true nor predicted: {', '.join(left_out)}" if left_out else ""
        f1 = 100 * result.metrics.f1
        logger.info(f"{name}, {mode}, fold {fold.number}: macro F1 {f1:.1f} % in {result.seconds:.0f} s{said}")
        if task is not None:
            work.keep_detector(init, fold.number, task, task.encoder)
        results.append(result)
    return InitResult(name, mode, tuple(results))


def _write(work: Comparison, results: Sequence[InitResult[PlaneMetrics]]) -> None:
    inits: dict[str, dict[str, Any]] = {}
    for result in results:
        inits.setdefault(result.init, {})[result.mode] = result.to_json()
    work.write(inits, classes=list(PLANES), chance_f1=chance_f1(work.table.label, len(PLANES)))


def _table(work: Comparison, results: Sequence[InitResult[PlaneMetrics]]) -> str:
    """Return the scores as text, an init a line."""
    lines = [
        f"standard planes: {work.people}; macro means in %, mean ± sample standard deviation over folds",
        f"{'init':<24}{'precision':>14}{'recall':>14}{'F1':>14}{'frozen probe F1':>18}",
    ]
    probes = {result.init: result for result in results if result.mode == "probe"}
    for result in results:
        if result.mode == "finetune":
            probe = probes[result.init]
            mark = " *" if probe.folds[0].calibrated else "  "
            scores = "".join(f"{result.spread(score)!s:>14}" for score in ("precision", "recall", "f1"))
            lines.append(f"{result.init:<24}{scores}{str(probe.spread('f1')) + mark:>18}")
    chance = 100 * chance_f1(work.table.label, len(PLANES))
    weighted = f"classes weighted in the loss: {work.settings.model_dump()['class_weights']}"
    lines.append(f"chance F1 {chance:.1f}; {weighted}; * with batch-norm statistics computed on the labelled frames")
    return "\n".join(lines)
