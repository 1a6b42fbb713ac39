"""`usvs.pretrain`: from a prepared store and settings to a run folder with an encoder."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from usvs.config import Profile, override_settings
from usvs.data.loader import Loader
from usvs.data.rank_plan import RankPlan
from usvs.errors import ConfigError
from usvs.store.prepared import PreparedStore, warn_of_other_crop
from usvs.tasks.diagnosis.contents import count_contents
from usvs.tasks.diagnosis.losses import RunReading, read_run
from usvs.tasks.diagnosis.verdict import Verdict, give_verdict, too_few_steps
from usvs.tasks.pretraining.chance import with_chance
from usvs.tasks.pretraining.collapse import CollapseWarning
from usvs.tasks.pretraining.encoders import VideoEncoder, choose_encoder, describe_module
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.result import PretrainResult, describe_metrics
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.pretraining.task import PretrainDataset, PretrainingTask, samples_sha256
from usvs.tasks.pretraining.validation import Validation
from usvs.tasks.trained_patients import describe_patients, join_scans, patients_in_store
from usvs.training.callbacks import Callbacks
from usvs.training.distributed import Ranks, join_ranks
from usvs.training.environment import describe_environment
from usvs.training.loggers import Logger, TensorBoardLogger, tensorboard_is_installed
from usvs.training.loop import LoopHooks, TrainingLoop
from usvs.training.metrics_log import JsonlLogger, last_metrics
from usvs.training.micro_batches import BatchShard
from usvs.training.process import process_settings
from usvs.training.run_folder import MODEL_CARD, PATIENTS, RunFolder
from usvs.training.threads import compute_threads
from usvs.training.trainer import Trainer, choose_device

logger: logging.Logger = logging.getLogger(__name__)


def pretrain(
    store: str | Path,
    run: str | Path,
    settings: PretrainSettings | None = None,
    /,
    *,
    profile: Profile = "paper",
    encoder: nn.Module | str | None = None,
    loss: nn.Module | None = None,
    init: str | Path | None = None,
    callbacks: Sequence[object] = (),
    loggers: Sequence[Logger] | None = None,
    resume: bool = False,
    patients: Sequence[str] | None = None,
    init_stores: Sequence[str | Path] = (),
    allow_overlap: bool = False,
    **overrides: Any,
) -> PretrainResult:
    """Learn from a prepared store's video and speech, without labels (sections 2.1 to 2.4).

    On a CPU the same store, settings and number of threads give the same weights, bit for bit, whether the run was
    interrupted and resumed or not. Under ``torchrun`` every process computes a part of each batch; the samples, and
    except for rounding the losses and weights, are those of one process.

    Example:
        >>> usvs.pretrain("STORE", "RUN", profile="quick", optimiser={"epochs": 10}, run={"seed": 1})

    Args:
        store: a folder made by `usvs.index_archive` and `usvs.prepare_store`. This and the next two arguments are
            positional only, since ``run`` is also the name of a settings group.
        run: a new folder for the run.
        settings: of the run; None for those of `profile`.
        profile: ``paper`` or ``quick``; ignored where `settings` are given.
        encoder: of the video stream: a module with ``forward_features`` ([N, 1, P, P] to [N, C, h, w]) and
            ``num_features`` (C), which is trained in place, or a name for `usvs.create_encoder`. None: the SE-ResNeXt
            that setting ``model.video`` describes.
        loss: a `usvs.losses.PretrainingLoss`: a module with the call signature of the joint objective that returns a
            NamedTuple of scalars with a field ``total``. None: the joint objective of setting ``objective``.
        init: initial weights of the video stream: a run folder, ``imagenet:FILE``, ``sononet:FILE`` or ``timm:NAME``;
            all but a run folder also determine the encoder. None: random weights.
        callbacks: objects with some of the methods of `usvs.training.callbacks.Callback`.
        loggers: objects with the methods of `usvs.training.loggers.Logger`. ``metrics.jsonl`` is always written; None
            adds TensorBoard events in the run folder where tensorboard is installed.
        resume: continue the run in `run`, or start it where there is none.
        patients: keyed hashes of the patients to use, a fraction of them for validation; None for all.
        init_stores: other stores that `init` was pretrained on: its patients are found in `store` by their names.
        allow_overlap: use an `init` whose patients are of another store and cannot be compared.
        **overrides: settings that replace those of `settings` or `profile`; see `usvs.config.override_settings`.

    Returns:
        The run folder, the number of steps and the last validation metrics.

    Raises:
        DataError: for a store that cannot serve the objective, or damaged data.
        ConfigError: for a wrong setting, or a run folder that is not empty, in use or of a run with other settings.
        ResourceError: where the device is not available, or memory or disk space runs out.
        NonFiniteError: when a loss or a gradient is not finite; the last checkpoint is unchanged.
        Preempted: after SIGTERM or SIGINT; the state is saved.
    """
    started = time.monotonic()
    if settings is not None and not isinstance(settings, PretrainSettings):
        raise ConfigError(f"settings: expected PretrainSettings, got {type(settings).__name__}")
    chosen = override_settings(settings if settings is not None else pretrain_profile(profile), **overrides)
    with (
        join_ranks(chosen.run.device) as ranks,
        process_settings(choose_device(chosen.run.device)),
        RunFolder(Path(run), resume) as folder,
    ):
        ranks.on_first(lambda: folder.check(chosen))
        video = choose_encoder(encoder, init, chosen)
        opened = PreparedStore(Path(store))
        warn_of_other_crop(opened)
        setup = RunSetup(
            opened, chosen, with_patients_of(video, opened, init_stores, allow_overlap), loss, patients, ranks
        )
        with compute_threads(setup.trainer.compute.threads):
            loop = setup.loop(folder)
            if ranks.first and (warning := setup.too_few_steps()):
                logger.warning(warning)
            if resume:
                ranks.on_first(lambda: folder.check_records(setup.records))
                loop.restore()
            checkpoint = loop.run(
                lambda: ranks.on_first(lambda: setup.claim(folder)),
                lambda step: _make_loggers(folder.path, step, loggers) if ranks.first else (),
                Callbacks(callbacks if ranks.first else ()),
            )
            reading, verdict = setup.diagnose() if ranks.first else (None, None)
    steps, seconds = loop.trainer.total_steps, time.monotonic() - started
    metrics = last_metrics(folder.path, "validation")
    return PretrainResult(folder.path, checkpoint, steps, seconds, metrics, reading, verdict)


class RunSetup:
    """Everything of a run that is constructed before its folder is claimed."""

    def __init__(
        self,
        store: PreparedStore,
        settings: PretrainSettings,
        encoder: VideoEncoder,
        loss: nn.Module | None,
        patients: Sequence[str] | None,
        ranks: Ranks,
    ) -> None:
        self.store: PreparedStore
        self.settings: PretrainSettings
        self.encoder: VideoEncoder
        self.ranks: Ranks
        self.store, self.settings, self.encoder, self.ranks = store, settings, encoder, ranks
        self.task: PretrainingTask = PretrainingTask(settings, loss)
        self.data: PretrainDataset = self.task.dataset(store, patients)
        self.plan: RankPlan
        self.loader: Loader
        self.plan, self.loader = self.task.loader(store, self.data.train, choose_device(settings.run.device), ranks)
        self.model: PretrainModel = self.task.module(encoder.module)
        steps_per_epoch = self.plan.steps_per_epoch
        total = steps_per_epoch * settings.optimiser.epochs
        self.trainer: Trainer = Trainer(self.model, settings.optimiser, settings.run, total, steps_per_epoch, ranks)
        self.model_card: dict[str, Any] = {
            "encoder": encoder.description,
            "loss": None if loss is None else describe_module(loss),
            "init": encoder.init,
        }
        _warn_of_known_patients(encoder.patients.get(store.store_id, frozenset()), self.data)

    def loop(self, folder: RunFolder) -> TrainingLoop:
        """Return the loop that trains in the folder."""
        state = {
            "kind": "pretrain",
            "settings": self.settings.model_dump(mode="json"),
            "model": self.model_card,
        }
        return TrainingLoop(self.trainer, folder, self._hooks(), state, samples_sha256(self.store, self.data.train))

    def too_few_steps(self) -> str:
        """Return a sentence where the steps are too few to leave chance, or an empty text."""
        objective, epochs = self.settings.objective, self.settings.optimiser.epochs
        matches = objective.contrastive_weight > 0 and self.model_card["loss"] is None
        return too_few_steps(self.trainer.total_steps, epochs) if matches else ""

    @property
    def records(self) -> dict[str, Any]:
        """What the run folder records of patients, encoder, loss and initial weights."""
        split = self.data.split
        before, store_id = self.encoder, self.store.store_id
        scans = join_scans(self.store.store, store_id, split.train, before.scans)
        patients = describe_patients(store_id, split.train, split.validation, before.patients, scans)
        return {PATIENTS: patients, MODEL_CARD: self.model_card}

    def claim(self, folder: RunFolder) -> None:
        """Claim the run folder and write what the run is."""
        environment = {**describe_environment(self.trainer.device), "processes": self.ranks.count}
        folder.claim(self.settings, self.records, environment)

    def diagnose(self) -> tuple[RunReading, Verdict]:
        """Measure the trained model on fixed batches of training and of validation patients."""
        data, trainer = self.data, self.trainer
        found = read_run(
            self.model, trainer, self.store, self.settings, data.train, data.validation, trainer.step_number
        )
        return found, give_verdict(count_contents(self.store, self.settings, data.split), found)

    def _hooks(self) -> LoopHooks:
        return LoopHooks(
            name="pretraining",
            batches=self.loader.batches,
            inputs=self.task.batch,
            shard=self._shard,
            describe_batch=lambda step: f"clips of the batch: {self.plan.global_batch_at(step).clip.tolist()}",
            annotate=lambda values: with_chance(values, self.settings.objective),
            validate=self._validate(),
            summarise=describe_metrics,
        )

    def _shard(self, step: int) -> BatchShard | None:
        if self.ranks.count == 1:
            return None
        return BatchShard(torch.from_numpy(self.plan.rows_at(step)), self.plan.batch_size)

    def _validate(self) -> Callable[[], dict[str, float]] | None:
        if not len(self.data.validation) or not self.ranks.first:
            return None
        validation = Validation(self.store, self.data.validation, self.settings)
        collapse = CollapseWarning()

        def validate() -> dict[str, float]:
            values = self.task.score(self.model, validation, self.trainer)
            collapse.check(values)
            return values

        return validate


def _make_loggers(run: Path, step: int, given: Sequence[Logger] | None) -> list[Logger]:
    if given is None:
        given = [TensorBoardLogger(run, step)] if tensorboard_is_installed() else []
    return [JsonlLogger(run, step), *given]


def with_patients_of(
    encoder: VideoEncoder, store: PreparedStore, init_stores: Sequence[str | Path], allow_overlap: bool
) -> VideoEncoder:
    """Return the encoder with the patients of its initial weights as keys of the store, as far as they have such.

    Raises:
        DataError: where they are of another store that is not at hand.
    """
    name = (encoder.init or {}).get("name", "init")
    keys, complete = patients_in_store(encoder.patients, store, name, init_stores, allow_overlap, encoder.scans)
    others = {} if complete else dict(encoder.patients)
    return encoder._replace(patients={**others, store.store_id: keys})


def _warn_of_known_patients(pretrained: frozenset[str], data: PretrainDataset) -> None:
    known = pretrained.intersection(data.split.validation)
    if known:
        logger.warning(
            f"the initial weights were trained on {len(known)} of {len(data.split.validation)} validation patients:"
            " validation metrics are too good"
        )
