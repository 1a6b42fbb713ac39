"""The loop of a run: steps, validation, logs, callbacks and checkpoints, until the last step or an interruption."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usvs import __version__
from usvs.errors import DataError, Preempted
from usvs.training.callbacks import Callbacks
from usvs.training.checkpoint import Checkpoint, checkpoint_folder, load_newest_checkpoint
from usvs.training.checkpoint_saver import CheckpointSaver
from usvs.training.interruption import StopRequest, stop_on_signals
from usvs.training.loggers import Logger, Split
from usvs.training.micro_batches import BatchShard
from usvs.training.optimiser import learning_rate
from usvs.training.run_folder import CONFIG, RunFolder
from usvs.training.trainer import NonFiniteError, Trainer, TrainerState
from usvs.utils.atomic_files import writing
from usvs.utils.progress import track

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopHooks:
    """What a loop needs to know of its task.

    Attributes:
        name: of the work, on the progress bar.
        batches: the batches of a range of steps, as a generator that is closed when left early.
        inputs: what the module's forward takes of a batch.
        shard: which rows of the global batch of a step this process has; None: all of them.
        describe_batch: names the samples of a step's batch, for the message about a loss that is not finite.
        annotate: adds to the values of a step what is logged beside them, such as chance levels.
        validate: measures the validation metrics, among them ``total``; None where there is nothing to validate on.
            Called on the first rank only.
        summarise: the validation metrics as text for the log line.
    """

    name: str
    batches: Callable[[int, int], Iterator[Any]]
    inputs: Callable[[Any], Sequence[Tensor]]
    shard: Callable[[int], BatchShard | None]
    describe_batch: Callable[[int], str]
    annotate: Callable[[Mapping[str, float]], dict[str, float]]
    validate: Callable[[], dict[str, float]] | None
    summarise: Callable[[Mapping[str, float]], str]


@dataclass
class TrainingLoop:
    """Trains in a run folder; construct it, `restore` a resumed run, then `run`.

    Attributes:
        trainer: with the module, the settings and the ranks.
        folder: of the run; only the first rank writes to it.
        hooks: of the task.
        state: plain values that every checkpoint stores, among them ``kind``.
        fingerprint: hash of the training samples; a checkpoint of others is refused.
        best: step and total of the lowest validation loss so far.
    """

    trainer: Trainer
    folder: RunFolder
    hooks: LoopHooks
    state: Mapping[str, Any]
    fingerprint: str
    best: dict[str, float] | None = None
    _loggers: Sequence[Logger] = ()
    _callbacks: Callbacks = field(default_factory=Callbacks)
    _last_loss: float | None = None

    def restore(self) -> None:
        """Load the newest valid checkpoint of the folder, if it has one.

        Raises:
            DataError: where the checkpoints are damaged, or of other samples or another model, or where the ranks find
                different ones.
        """
        checkpoint = load_newest_checkpoint(self.folder.checkpoints)
        if checkpoint is None:
            logger.info(f"no checkpoint in '{self.folder.path}' yet: starting at step 0")
            self._check_same_step(0)
            return
        state = checkpoint.state
        if state.get("samples_sha256") != self.fingerprint:
            raise DataError(
                f"the store's clips are not those of run '{self.folder.path}' when it was started: choose a new folder"
            )
        if state.get("threads") != torch.get_num_threads():
            logger.warning(
                f"started with {state.get('threads')} threads, resumed with {torch.get_num_threads()}: weights may"
                " differ in their last bits"
            )
        self._check_same_step(int(state["step"]))
        self.best = state.get("best")
        self.trainer.load_state_dict(TrainerState(checkpoint.model, checkpoint.optimiser, int(state["step"])))
        logger.info(f"resuming after step {self.trainer.step_number} of {self.trainer.total_steps}")
        if (before := int(state["total_steps"])) != self.trainer.total_steps:
            self._report_lengthening(before)

    def run(self, claim: Callable[[], None], loggers: Callable[[int], Sequence[Logger]], callbacks: Callbacks) -> Path:
        """Train to the last step.

        Args:
            claim: claims the run folder; called once the first batch has been loaded, so that a run which cannot start
                leaves no folder.
            loggers: constructs the loggers, given the number of updates made so far.
            callbacks: of the first rank.

        Returns:
            The folder of the last checkpoint.

        Raises:
            Preempted: after SIGTERM or SIGINT; the state is saved.
            NonFiniteError: when a loss or a gradient is not finite; the last checkpoint is unchanged.
        """
        first, total = self.trainer.step_number, self.trainer.total_steps
        with ExitStack() as stack:
            stop = stack.enter_context(stop_on_signals())
            batches = stack.enter_context(closing(self.hooks.batches(first, total)))  # type: ignore[type-var]
            head = next(batches, None)
            claim()
            saver = CheckpointSaver(self.folder.checkpoints, self.trainer.run.keep_checkpoints)
            stack.enter_context(closing(saver))
            with writing("metrics"):
                self._loggers = loggers(first)
            for each in self._loggers:
                stack.callback(_close, each)
            self._callbacks = callbacks
            callbacks.call("on_start", self.trainer, total)
            checkpoint = self._save(saver) if head is None else self._train(chain([head], batches), saver, stop)
            saver.wait()
            callbacks.call("on_end", self.trainer.step_number)
            return checkpoint

    def _train(self, batches: Iterator[Any], saver: CheckpointSaver, stop: StopRequest) -> Path:
        total, checkpoint = self.trainer.total_steps, self.folder.checkpoints
        waiting_since = time.perf_counter()
        for batch in track(batches, self.hooks.name, total, done=self.trainer.step_number, note=self._shown_loss):
            waited = time.perf_counter() - waiting_since
            self._step(batch, waited)
            self.folder.started()
            checkpoint = self._save_if_due(stop, saver) or checkpoint
            waiting_since = time.perf_counter()
        return checkpoint

    def _shown_loss(self) -> str:
        return "" if self._last_loss is None else f"loss {self._last_loss:.3f}"

    def _step(self, batch: Any, waited: float) -> None:
        run, started = self.trainer.run, time.perf_counter()
        number = self.trainer.step_number
        try:
            values = self.trainer.step(*self.hooks.inputs(batch), shard=self.hooks.shard(number))
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; {self.hooks.describe_batch(number)}") from None
        seconds, step, last = time.perf_counter() - started, number + 1, number + 1 == self.trainer.total_steps
        if not self.trainer.ranks.first:
            return
        self._last_loss = values.get("total")
        if step % run.log_every_steps == 0 or last:
            timing = {"step_seconds": seconds, "wait_seconds": waited}
            self._log(step, {**self.hooks.annotate(values), **timing}, "train")
        self._callbacks.call("on_step", step, values)
        if self.hooks.validate is not None and (step % run.validate_every_steps == 0 or last):
            self._validate(step, self.hooks.validate())

    def _validate(self, step: int, values: dict[str, float]) -> None:
        self._log(step, values, "validation")
        if self.best is None or values["total"] < self.best["total"]:
            self.best = {"step": step, "total": values["total"]}
        logger.info(f"step {step} of {self.trainer.total_steps}, validation: {self.hooks.summarise(values)}")
        self._callbacks.call("on_validation", step, values)

    def _log(self, step: int, values: Mapping[str, float], split: Split) -> None:
        with writing(f"metrics of step {step}"):
            for each in self._loggers:
                each.log(step, values, split)

    def _save_if_due(self, stop: StopRequest, saver: CheckpointSaver) -> Path | None:
        step, total = self.trainer.step_number, self.trainer.total_steps
        finished, requested = step == total, self.trainer.ranks.any(bool(stop))
        is_best = self.best is not None and self.best["step"] == step
        if not (requested or finished or is_best or step % self.trainer.run.checkpoint_every_steps == 0):
            return None
        saved = self._save(saver)
        if requested and not finished:
            saver.wait()
            reason = stop.signal_name or "another process received a signal to stop"
            raise Preempted(f"{reason}: stopped after step {step} of {total}, which is saved; continue with --resume")
        return saved

    def _save(self, saver: CheckpointSaver) -> Path:
        state = self.trainer.state_dict()
        if not self.trainer.ranks.first:
            return checkpoint_folder(self.folder.checkpoints, state.step)
        values = {
            **self.state,
            "usvs": __version__,
            "step": state.step,
            "total_steps": self.trainer.total_steps,
            "threads": torch.get_num_threads(),
            "samples_sha256": self.fingerprint,
            "best": self.best,
        }
        best_step = None if self.best is None else int(self.best["step"])
        folder = saver.save(state.step, Checkpoint(state.model, state.optimiser, values), best_step)
        self._callbacks.call("on_checkpoint", state.step, folder)
        return folder

    def _report_lengthening(self, before: int) -> None:
        """Log that the run becomes longer than its `before` steps, and what happens to the learning rate."""
        trainer = self.trainer
        logger.info(f"lengthened from {before} to {trainer.total_steps} steps, as '{CONFIG}' records")
        step, schedule = trainer.step_number, trainer.settings.schedule
        if schedule == "one_cycle" and step:
            last, following = (
                learning_rate(number, total, trainer.steps_per_epoch, trainer.settings)
                for number, total in ((step - 1, before), (step, trainer.total_steps))
            )
            logger.warning(
                f"schedule '{schedule}' depends on the number of steps: the learning rate was {last:.3g} in the last"
                f" step and is {following:.3g} in the next, as in a run of {trainer.total_steps} steps; the weights"
                " will differ from those of such a run"
            )

    def _check_same_step(self, step: int) -> None:
        steps = self.trainer.ranks.gather_counts((step,)).flatten().tolist()
        if len(set(steps)) > 1:
            raise DataError(
                f"the processes find checkpoints of steps {steps} in '{self.folder.path}': expected one folder that all"
                " machines share"
            )


def _close(each: Logger) -> None:
    with writing("metrics"):
        each.close()
