"""Gaze-saliency prediction (section 3.3): from any init, folds by patient, scored on all held-out patients."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.frame_table import FrameTable, read_frames
from usvs.data.gaze_table import GazeTable, gaze_density, gaze_frames
from usvs.data.transforms import transform_frames
from usvs.evaluation.folds import GroupBy
from usvs.models.preprocessing import identity_params
from usvs.store.prepared import PreparedStore
from usvs.tasks.comparison import Comparison
from usvs.tasks.finetune import predict_saliency
from usvs.tasks.initial_encoder import Init
from usvs.tasks.protocols import InitResult, measure_gaze_fold
from usvs.tasks.saliency.module import SaliencyTask
from usvs.tasks.saliency.scores import GazeMetrics, gaze_metrics, seen_in_evaluation
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.distributed import Ranks, join_ranks

logger = logging.getLogger(__name__)

EXAMPLES = "examples.npz"
EXAMPLE_FRAMES = 6


def finetune_gaze(
    store: Path,
    run: Path,
    settings: SaliencySettings,
    init: Init = "random",
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
) -> InitResult[GazeMetrics]:
    """Fine-tune one init to gaze saliency, fold by fold, and write ``RUN/results.json``.

    Under ``torchrun`` every process takes a part of each batch and of the frames to predict; the first one writes.

    Args:
        store: a prepared store with gaze.
        run: a new or empty folder; fine-tuned predictors go to ``RUN/detectors``.
        settings: folds, labelled patients, temporal stride, sigma, optimiser and network.
        init: ``random``, a pretraining run (or one of its checkpoints), ``imagenet:FILE`` or ``sononet:FILE``.
        allow_overlap: test on patients the init was pretrained on.
        group_by: ``scan`` takes each scan for a patient of its own, for archives without patient ids.

    Raises:
        DataError: for a store without gaze, missing patient ids, or test patients that were pretrained on.
        ConfigError: for a folder in use or an init that does not fit the settings.
    """
    with join_ranks(settings.run.device) as ranks:
        work = _Work(store, run, settings, [init], False, allow_overlap, group_by, ranks)
        result = work.measure(init)
        work.write([result])
    return result


def compare_gaze_inits(
    store: Path,
    run: Path,
    settings: SaliencySettings,
    inits: Sequence[Init],
    held_out_only: bool = False,
    allow_overlap: bool = False,
    group_by: GroupBy = "patient",
) -> str:
    """Fine-tune several inits on the same folds; write results and examples, and return the table to print.

    Args and errors are those of `usvs.tasks.classification.compare.compare_inits`.
    """
    with join_ranks(settings.run.device) as ranks:
        work = _Work(store, run, settings, inits, held_out_only, allow_overlap, group_by, ranks)
        results = [work.measure(init) for init in inits]
        work.write(results)
    return gaze_table(work.comparison.people, uniform_scores(work.table, settings), results)


def gaze_table(people: str, uniform: GazeMetrics, results: Sequence[InitResult[GazeMetrics]]) -> str:
    """Return the scores as text, an init a line, after what knowing nothing scores."""
    columns = (("KL", "kl"), ("NSS", "nss"), ("AUC-Judd", "auc"), ("CC", "cc"), ("SIM", "sim"), ("AUC", "auc_exact"))
    lines = [
        f"gaze saliency: {people}; means over frames, mean ± sample standard deviation over folds",
        f"{'init':<24}" + "".join(f"{title:>14}" for title, _ in columns),
    ]
    for result in results:
        lines.append(f"{result.init:<24}" + "".join(f"{result.spread(score).plain():>14}" for _, score in columns))
    lines.append(f"{'(a uniform map)':<24}" + "".join(f"{getattr(uniform, score):>14.2f}" for _, score in columns))
    lines.append(
        f"{uniform.fixations:.1f} fixated pixels a frame: AUC-Judd of chance is {uniform.auc:.2f}, not 0.5;"
        " lower KL is better"
    )
    return "\n".join(lines)


def uniform_scores(table: GazeTable, settings: SaliencySettings) -> GazeMetrics:
    """Return what a map that says nothing scores on these frames."""
    pixels = settings.model.frame_pixels
    return gaze_metrics(torch.ones(len(table), pixels, pixels), table)


class _Work:
    """What every init of one call shares."""

    def __init__(
        self,
        store: Path,
        run: Path,
        settings: SaliencySettings,
        inits: Sequence[Init],
        held_out_only: bool,
        allow_overlap: bool,
        group_by: GroupBy,
        ranks: Ranks,
    ) -> None:
        tables = []

        def frames(opened: PreparedStore) -> FrameTable:
            tables.append(
                gaze_frames(opened, settings.temporal_stride, settings.window_seconds, settings.sigma_degrees, group_by)
            )
            return tables[0].frames

        self.settings, self.examples = settings, {}
        self.comparison = Comparison(
            "gaze", store, run, settings, inits, group_by, allow_overlap, held_out_only, frames, ranks
        )
        self.all_looks = tables[0].take(self.comparison.kept)
        self.table = seen_in_evaluation(self.comparison.store, self.all_looks, settings)

    examples: dict[str, NDArray[Any]]

    def measure(self, init: Init) -> InitResult[GazeMetrics]:
        """Fine-tune an init on every fold."""
        work, results = self.comparison, []
        for fold in work.folds:
            result, task = measure_gaze_fold(work.store, self.all_looks, fold, self.settings, init, work.ranks)
            scores = result.metrics
            said = f"KL {scores.kl:.2f}, NSS {scores.nss:.2f}, CC {scores.cc:.2f}"
            logger.info(f"{work.names[init]}, gaze, fold {fold.number}: {said} in {result.seconds:.0f} s")
            work.keep_detector(init, fold.number, task, task.encoder)
            if fold.number == 0 and work.ranks.first:
                shown = example_rows(self.table.of_groups(fold.test))
                self.examples |= example_maps(work.store, shown, task, self.settings, work.names[init])
            results.append(result)
        return InitResult(work.names[init], "finetune", tuple(results))

    def write(self, results: Sequence[InitResult[GazeMetrics]]) -> None:
        """Store results, and the first fold's examples for a picture."""
        if not self.comparison.ranks.first:
            return
        uniform = uniform_scores(self.table, self.settings)
        inits = {result.init: {"finetune": result.to_json()} for result in results}
        np.savez_compressed(self.comparison.run / EXAMPLES, **self.examples)  # type: ignore[arg-type]
        self.comparison.write(inits, uniform=uniform.to_json(), auc="AUC-Judd")


def example_rows(table: GazeTable, count: int = EXAMPLE_FRAMES) -> GazeTable:
    """Return a few frames to show: of different planes where they have labels, spread over the table otherwise."""
    planes, first = np.unique(table.frames.label, return_index=True)
    rows = first[planes >= 0]
    if len(rows) < count:
        rows = np.arange(len(table))
    return table.take(np.unique(rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]))


def example_maps(
    store: PreparedStore, shown: GazeTable, task: SaliencyTask, settings: SaliencySettings, name: str
) -> dict[str, NDArray[Any]]:
    """Return frames, truth and an init's prediction of a few frames, as arrays [n, P, P] to be kept beside results."""
    pixels = settings.model.frame_pixels
    predicted: Tensor = predict_saliency(store, shown.frames, task, settings)
    pictures = read_frames(store, shown.frames)
    inner = transform_frames(pictures, identity_params(len(pictures)), pixels, settings.augment.crop_fraction)[:, 0]
    truth = gaze_density(shown.fixations, shown.sigma, pixels, pixels)
    return {"frames": inner.numpy(), "truth": truth.numpy(), f"predicted_{name}": predicted.numpy()}
