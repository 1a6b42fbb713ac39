"""Pretraining, wired: a prepared store and settings in, a run folder with an encoder out."""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from usvs import __version__
from usvs.data.loader import make_loader
from usvs.data.pair_batch import PairBatch
from usvs.data.rank_plan import RankPlan
from usvs.data.validation_split import Split, split_store
from usvs.errors import DataError, Preempted
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.chance import beside_chance, uses_pairs
from usvs.tasks.pretraining.module import PretrainModel, model_inputs
from usvs.tasks.pretraining.run_folder import CHECKPOINTS, claim_run, describe_run
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.validation import Validation, describe_validation
from usvs.training.checkpoint import Checkpoint, checkpoint_folder, load_newest_checkpoint
from usvs.training.checkpoint_saver import CheckpointSaver
from usvs.training.distributed import Ranks, join_ranks
from usvs.training.interruption import StopRequest, stop_on_signals
from usvs.training.micro_batches import BatchShard
from usvs.training.run_log import RunLog, read_metrics
from usvs.training.trainer import NonFiniteError, Trainer, TrainerState, choose_device
from usvs.utils.progress import track

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run gave.

    Attributes:
        run: its folder; `usvs.load_encoder` takes it.
        checkpoint: the last checkpoint's folder.
        steps: updates made, those before a resumption included.
        seconds: wall time of this call.
        held_out: the last losses and accuracies on held-out patients, each beside its chance; empty without any.
    """

    run: Path
    checkpoint: Path
    steps: int
    seconds: float
    held_out: dict[str, float]

    def __str__(self) -> str:
        watched = f"; {describe_validation(self.held_out)}" if self.held_out else ""
        return f"pretrained {self.steps} steps in {self.seconds:.0f} s{watched}; the run is in {self.run}"


def pretrain(
    store: Path,
    run: Path,
    settings: PretrainSettings,
    resume: bool = False,
    patients: Sequence[str] | None = None,
) -> PretrainResult:
    """Learn from a prepared store's video and speech, without labels (sections 2.1 to 2.4).

    The same store, settings and number of threads give the same weights on a CPU, bit for bit, whether the run was
    stopped and resumed or not. Under ``torchrun`` every process takes a part of each batch; the samples and, but for
    rounding, the losses and weights stay those of one process.

    Args:
        store: a folder made by `usvs index` and `usvs prepare`.
        run: a new folder for the run.
        settings: a profile, or one of your own.
        resume: go on with the run that stands in `run`, or begin it where there is none.
        patients: keyed hashes of the patients to use; None for all. A share of them is held out.

    Raises:
        DataError: for a store that cannot serve the objective, or damaged data.
        ConfigError: for a run folder that is taken, or begun with other settings.
        NonFiniteError: when a loss or a gradient is not finite; the last checkpoint is as it was.
        Preempted: after SIGTERM or SIGINT; the state is saved.
    """
    started = time.monotonic()
    store, run = Path(store), Path(run)
    with join_ranks(settings.run.device) as ranks:
        prepared = PreparedStore(store)
        split = split_store(prepared, settings.validation_fraction, patients)
        clips = prepared.clips.select(split.clips_of(split.train, prepared.clips.scan))
        check_objective(clips, settings)
        ranks.on_first(lambda: claim_run(run, settings, resume))
        work = _Run(prepared, run, settings, split, clips, ranks)
        ranks.on_first(lambda: describe_run(run, split, work.trainer.device, ranks.count))
        checkpoint = work.go_on(resume)
    read = [record for record in read_metrics(run) if record["split"] == "held_out"]
    held_out = {name: value for name, value in read[-1].items() if name not in ("step", "split")} if read else {}
    return PretrainResult(run, checkpoint, work.total_steps, time.monotonic() - started, held_out)


def check_objective(clips: ClipTable, settings: PretrainSettings) -> None:
    """Refuse an objective that the clips cannot serve.

    Raises:
        DataError: saying what is missing and what to type instead.
    """
    if not len(clips):
        raise DataError("no clip to learn from: the scans are shorter than one clip, or everybody is held out")
    if not uses_pairs(settings.objective):
        return
    if not clips.has_sound.any():
        raise DataError(
            "no scan to learn from has sound, which this objective needs: learn from video alone by --objective video"
        )
    high = settings.clips.speech_fraction_high
    if settings.objective.affinity and not (clips.speech_fraction >= high).any():
        raise DataError(
            f"no clip has speech in {high:.0%} of its time, which this objective needs: lower"
            " clips.speech_fraction_high, set objective.affinity=false, or learn by --objective video"
        )


class _Run:
    """One run in its folder: loader, trainer, records and checkpoints."""

    def __init__(
        self,
        store: PreparedStore,
        run: Path,
        settings: PretrainSettings,
        split: Split,
        clips: ClipTable,
        ranks: Ranks,
    ) -> None:
        self.folder, self.settings, self.ranks = run, settings, ranks
        seed, batch_clips = settings.run.seed, settings.optimiser.batch_clips
        self.plan = RankPlan(
            clips, settings.clips, settings.objective, seed, batch_clips, rank=ranks.number, ranks=ranks.count
        )
        self.loader = make_loader(store, self.plan, settings.pairs, choose_device(settings.run.device))
        self.total_steps = self.plan.steps_per_epoch * settings.optimiser.epochs
        torch.manual_seed(seed)
        self.model = PretrainModel(settings)
        self.trainer = Trainer(
            self.model, settings.optimiser, settings.run, self.total_steps, self.plan.steps_per_epoch, ranks
        )
        held_out = store.clips.select(split.clips_of(split.validation, store.clips.scan))
        self.held_out = Validation(store, held_out, settings) if len(held_out) and ranks.first else None
        self.fingerprint = _fingerprint(store, clips)
        self.best: dict[str, float] | None = None  # step and held-out loss

    def go_on(self, resume: bool) -> Path:
        """Train from the newest checkpoint, or from the beginning, to the end; return the last checkpoint."""
        if resume:
            self._restore()
        first, checkpoint = self.trainer.step_number, self.folder / CHECKPOINTS
        with (
            stop_on_signals() as stop,
            RunLog(self.folder, first) if self.ranks.first else nullcontext() as log,
            closing(CheckpointSaver(self.folder / CHECKPOINTS, self.settings.run.keep_checkpoints)) as saver,
            closing(self.loader.batches(first, self.total_steps)) as batches,  # type: ignore[type-var]
        ):
            waiting_since = time.perf_counter()
            for batch in track(batches, "pretraining", self.total_steps - first):
                waited = time.perf_counter() - waiting_since
                self._step(batch, log, waited)
                checkpoint = self._save_if_due(stop, saver) or checkpoint
                waiting_since = time.perf_counter()
            return checkpoint if first < self.total_steps else self._save(saver)

    def _step(self, batch: PairBatch, log: RunLog | None, waited: float) -> None:
        run, began = self.settings.run, time.perf_counter()
        place = None
        if self.ranks.count > 1:
            place = BatchShard(torch.from_numpy(self.plan.rows_at(self.trainer.step_number)), self.plan.batch_size)
        try:
            values = self.trainer.step(*model_inputs(batch), place=place)
        except NonFiniteError as error:
            clips = self.plan.global_batch_at(self.trainer.step_number).clip.tolist()
            raise NonFiniteError(f"{error}; clips of the batch: {clips}") from None
        seconds, step = time.perf_counter() - began, self.trainer.step_number
        if log is None:
            return
        if step % run.log_every_steps == 0 or step == self.total_steps:
            known = beside_chance(values, self.settings.objective)
            log.record(step, "train", {**known, "step_seconds": seconds, "wait_seconds": waited})
        if self.held_out and (step % run.validate_every_steps == 0 or step == self.total_steps):
            watched = self.held_out.evaluate(self.model, self.trainer)
            log.record(step, "held_out", watched)
            if self.best is None or watched["total"] < self.best["total"]:
                self.best = {"step": step, "total": watched["total"]}
            logger.info(f"step {step} of {self.total_steps}, held out: {describe_validation(watched)}")

    def _save_if_due(self, stop: StopRequest, saver: CheckpointSaver) -> Path | None:
        step = self.trainer.step_number
        finished, asked = step == self.total_steps, self.ranks.any(bool(stop))
        is_best = self.best is not None and self.best["step"] == step
        if not (asked or finished or is_best or step % self.settings.run.checkpoint_every_steps == 0):
            return None
        saved = self._save(saver)
        if asked and not finished:
            saver.wait()
            where, why = f"step {step} of {self.total_steps}", stop.signal_name or "another process was asked to stop"
            raise Preempted(f"{why}: stopped after {where}, which is saved; go on with --resume")
        return saved

    def _save(self, saver: CheckpointSaver) -> Path:
        state = self.trainer.state_dict()
        about = {
            "kind": "pretrain",
            "usvs": __version__,
            "step": state.step,
            "total_steps": self.total_steps,
            "threads": torch.get_num_threads(),
            "clips_sha256": self.fingerprint,
            "settings": self.settings.model_dump(mode="json"),
            "best": self.best,
        }
        if not self.ranks.first:
            return checkpoint_folder(self.folder / CHECKPOINTS, state.step)
        best_step = None if self.best is None else int(self.best["step"])
        return saver.save(state.step, Checkpoint(state.model, state.optimiser, about), best_step)

    def _restore(self) -> None:
        checkpoint = load_newest_checkpoint(self.folder / CHECKPOINTS)
        if checkpoint is None:
            logger.info(f"no checkpoint in '{self.folder}' yet: beginning at step 0")
            self._agree(0)
            return
        about: dict[str, Any] = checkpoint.state
        if about.get("clips_sha256") != self.fingerprint:
            raise DataError(f"the store's clips are not those that run '{self.folder}' was begun with: name a new run")
        if about.get("threads") != torch.get_num_threads():
            logger.info(
                f"begun with {about.get('threads')} threads, now {torch.get_num_threads()}: last bits may differ"
            )
        self._agree(int(about["step"]))
        self.best = about.get("best")
        self.trainer.load_state_dict(TrainerState(checkpoint.model, checkpoint.optimiser, int(about["step"])))
        logger.info(f"going on after step {self.trainer.step_number} of {self.total_steps}")

    def _agree(self, step: int) -> None:
        """Refuse to go on from different steps."""
        steps = self.ranks.gather_counts((step,)).flatten().tolist()
        if len(set(steps)) > 1:
            raise DataError(
                f"the processes find checkpoints of steps {steps} in '{self.folder}': it must be one folder that all"
                " machines share"
            )


def _fingerprint(store: PreparedStore, clips: ClipTable) -> str:
    """Hash what the plan draws from, so that a resumed run cannot silently see other samples."""
    digest = hashlib.sha256("\n".join(store.scans).encode())
    for column in (clips.scan, clips.start_seconds, clips.speech_fraction):
        digest.update(column.tobytes())
    return digest.hexdigest()
