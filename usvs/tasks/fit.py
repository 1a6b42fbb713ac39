"""Fine-tuning and predicting on one fold: a network is trained on some patients' frames and read on the others'."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import FrameTable, read_frames
from usvs.data.gaze_table import GazeTable, gaze_density
from usvs.data.prefetch import load_in_order
from usvs.data.rank_plan import check_share, dealt_rows
from usvs.data.transforms import (
    crop_grid,
    draw_augment_params,
    evaluation_frames,
    training_frames,
    transform_frames,
    transform_points,
)
from usvs.models.registry import Encoder
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.module import PlaneTask, class_weights
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.features import BATCH_FRAMES, frame_batches
from usvs.tasks.saliency.module import SaliencyTask
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.tasks.settings import FinetuneSettings
from usvs.training.distributed import ALONE, Ranks, gather_rows
from usvs.training.micro_batches import BatchShard
from usvs.training.trainer import NonFiniteError, Trainer
from usvs.utils.permutation import UInt64Array, counter_bits, derive_key, permute
from usvs.utils.progress import track

ORDER, VARIATION, WEIGHTS = range(3)  # what a key of a fold's training is for

# Rows of the training frames and a key for each in, the task's inputs out.
MakeBatch = Callable[[NDArray[np.int64], UInt64Array], tuple[Tensor, Tensor]]


def finetune_fold(
    store: PreparedStore, train: FrameTable, encoder: Encoder, settings: ClassificationSettings, ranks: Ranks = ALONE
) -> tuple[PlaneTask, int]:
    """Train a plane detector from an encoder on labelled frames; returns it with the number of updates made.

    The same settings, frames and encoder give the same weights, bit for bit, on a CPU; but for rounding, with any
    number of ranks.

    Args:
        store: where the frames are.
        train: labelled frames of the training patients.
        encoder: where it starts; trained in place.
        settings: optimiser, schedule, augmentation, class weights and seed.
        ranks: who takes part, each with a part of every batch.
    """
    with _new_weights(settings):
        task = PlaneTask(encoder, len(PLANES), class_weights(train.label, len(PLANES), settings.class_weights))

    def batch(rows: NDArray[np.int64], keys: UInt64Array) -> tuple[Tensor, Tensor]:
        chosen = train.take(rows)
        frames = training_frames(read_frames(store, chosen), keys, settings.model.frame_pixels, settings.augment)
        return frames, torch.from_numpy(chosen.label)

    return task, train_task(task, len(train), batch, settings, ranks)


def finetune_gaze_fold(
    store: PreparedStore, train: GazeTable, encoder: Encoder, settings: SaliencySettings, ranks: Ranks = ALONE
) -> tuple[SaliencyTask, int]:
    """Train a saliency predictor from an encoder; as `finetune_fold`, but the looks move with the frame's variation."""
    with _new_weights(settings):
        task = SaliencyTask(encoder, settings.head_width, settings.nss_weight, settings.correlation_weight)
    pixels, augment = settings.model.frame_pixels, settings.augment

    def batch(rows: NDArray[np.int64], keys: UInt64Array) -> tuple[Tensor, Tensor]:
        chosen = train.take(rows)
        pictures, variation = read_frames(store, chosen.frames), draw_augment_params(keys, augment)
        side, crop = pictures.shape[-1], augment.crop_fraction
        looks = transform_points(chosen.looks, variation, side, pixels, crop)
        truth = gaze_density(looks, chosen.sigma * side / crop_grid(side, pixels, crop).extent, pixels, pixels)
        return transform_frames(pictures, variation, pixels, crop), truth

    return task, train_task(task, len(train), batch, settings, ranks)


def train_task(
    task: nn.Module, rows: int, make_batch: MakeBatch, settings: FinetuneSettings, ranks: Ranks = ALONE
) -> int:
    """Train a task on batches of rows that differ every epoch; returns the number of updates made.

    Args:
        task: what `Trainer` takes; trained in place.
        rows: how many training frames there are.
        make_batch: reads some of them.
        settings: optimiser, schedule and seed.
        ranks: who takes part; the frames of each batch are dealt out to them.

    Raises:
        ConfigError: where there are more ranks than frames in a batch.
        NonFiniteError: when a loss or a gradient is not finite; names the batch's rows.
    """
    batch = min(settings.optimiser.batch_clips, rows)
    check_share(batch, ranks.number, ranks.count)
    mine = dealt_rows(np.arange(batch), ranks.number, ranks.count)
    steps_per_epoch = rows // batch
    total = steps_per_epoch * settings.optimiser.epochs
    trainer = Trainer(task, settings.optimiser, settings.run, total, steps_per_epoch, ranks)
    load = partial(_training_batch, make_batch, rows, batch, mine, settings.run.seed)
    place = BatchShard(torch.from_numpy(mine), batch)
    with closing(load_in_order(load, range(total), settings.run.loader_workers)) as batches:  # type: ignore[type-var]
        for inputs in track(batches, "fine-tuning", total):
            try:
                trainer.step(*inputs, place=place)
            except NonFiniteError as error:
                whole = _training_rows(rows, batch, np.arange(batch), settings.run.seed, trainer.step_number)
                raise NonFiniteError(f"{error}; of the training frames: {whole.tolist()}") from None
    return total


def predict_planes(
    store: PreparedStore, table: FrameTable, task: PlaneTask, settings: ClassificationSettings, ranks: Ranks = ALONE
) -> NDArray[np.int64]:
    """Return the class number [n] the detector gives each frame of the table; each rank reads a part of them."""
    logits = _predict(store, table, task, settings, task.logits, ranks)
    return np.asarray(logits.argmax(dim=1).numpy())


def predict_saliency(
    store: PreparedStore, table: FrameTable, task: SaliencyTask, settings: SaliencySettings, ranks: Ranks = ALONE
) -> Tensor:
    """Return the density [n, P, P] that the predictor gives each frame, float32 on the CPU; as `predict_planes`."""
    return _predict(store, table, task, settings, task.log_density, ranks).exp()


def _predict(
    store: PreparedStore,
    table: FrameTable,
    task: nn.Module,
    settings: FinetuneSettings,
    read: Callable[[Tensor], Tensor],
    ranks: Ranks,
) -> Tensor:
    device = next(task.parameters()).device
    task.eval()
    edges = np.linspace(0, len(table), ranks.count + 1).round().astype(np.int64)
    first, stop = edges[ranks.number : ranks.number + 2].tolist()
    mine = table.take(np.arange(first, max(stop, first + 1)) % len(table))  # one at least, to know the shape
    predicted = []
    total = math.ceil(len(mine) / BATCH_FRAMES)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, settings.run.precision == "bfloat16"):
        for frames in track(frame_batches(store, mine), "predicting", total):
            inputs = evaluation_frames(frames, settings.model.frame_pixels, settings.augment).to(device)
            predicted.append(read(inputs).float().cpu())
    return gather_rows(torch.cat(predicted)[: stop - first], first, len(table), ranks)


def _training_batch(
    make_batch: MakeBatch, rows: int, batch: int, mine: NDArray[np.int64], seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return this rank's inputs of one update; a function of its number alone."""
    chosen = _training_rows(rows, batch, mine, seed, step)
    return make_batch(chosen, counter_bits(derive_key(seed, VARIATION, step // (rows // batch)), chosen, 0))


def _training_rows(rows: int, batch: int, mine: NDArray[np.int64], seed: int, step: int) -> NDArray[np.int64]:
    epoch, place = divmod(step, rows // batch)
    return permute(place * batch + mine, rows, derive_key(seed, ORDER, epoch))


@contextmanager
def _new_weights(settings: FinetuneSettings) -> Iterator[None]:
    """Draw a task's own weights from the seed and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, WEIGHTS) >> 1)
        yield
