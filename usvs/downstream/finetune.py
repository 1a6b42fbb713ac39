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
from usvs.archive.prepared import PreparedStore
from usvs.config import DownstreamSettings, PlanesSettings, SaliencySettings
from usvs.downstream.embed import BATCH_FRAMES, frame_batches
from usvs.downstream.frames import FrameTable, read_frames
from usvs.downstream.gaze_task import SaliencyTask
from usvs.downstream.gaze_truth import GazeTable, gaze_density
from usvs.downstream.plane_task import PlaneTask, class_weights
from usvs.loading.augment import (
    crop_grid,
    draw_variation,
    evaluation_frames,
    training_frames,
    vary_frames,
    vary_points,
)
from usvs.loading.prefetch import load_in_order
from usvs.models.encoders import Encoder
from usvs.progress import track
from usvs.sampling.permutation import UInt64Array, counter_bits, derive_key, permute
from usvs.training.trainer import Trainer

ORDER, VARIATION, WEIGHTS = range(3)  # what a key of a fold's training is for

# Rows of the training frames and a key for each in, the task's inputs out.
MakeBatch = Callable[[NDArray[np.int64], UInt64Array], tuple[Tensor, Tensor]]


def finetune_fold(
    store: PreparedStore, train: FrameTable, encoder: Encoder, settings: PlanesSettings
) -> tuple[PlaneTask, int]:
    """Train a plane detector from an encoder on labelled frames; returns it with the number of updates made.

    The same settings, frames and encoder give the same weights, bit for bit, on a CPU.

    Args:
        store: where the frames are.
        train: labelled frames of the training patients.
        encoder: where it starts; trained in place.
        settings: optimiser, schedule, augmentation, class weights and seed.
    """
    with _new_weights(settings):
        task = PlaneTask(encoder, len(PLANES), class_weights(train.plane, len(PLANES), settings.class_weights))

    def batch(rows: NDArray[np.int64], keys: UInt64Array) -> tuple[Tensor, Tensor]:
        chosen = train.take(rows)
        frames = training_frames(read_frames(store, chosen), keys, settings.model.frame_pixels, settings.augment)
        return frames, torch.from_numpy(chosen.plane)

    return task, train_task(task, len(train), batch, settings)


def finetune_gaze_fold(
    store: PreparedStore, train: GazeTable, encoder: Encoder, settings: SaliencySettings
) -> tuple[SaliencyTask, int]:
    """Train a saliency predictor from an encoder; as `finetune_fold`, but the looks move with the frame's variation."""
    with _new_weights(settings):
        task = SaliencyTask(encoder, settings.head_width, settings.nss_weight, settings.correlation_weight)
    pixels, augment = settings.model.frame_pixels, settings.augment

    def batch(rows: NDArray[np.int64], keys: UInt64Array) -> tuple[Tensor, Tensor]:
        chosen = train.take(rows)
        pictures, variation = read_frames(store, chosen.frames), draw_variation(keys, augment)
        side, crop = pictures.shape[-1], augment.crop_fraction
        looks = vary_points(chosen.looks, variation, side, pixels, crop)
        truth = gaze_density(looks, chosen.sigma * side / crop_grid(side, pixels, crop).extent, pixels, pixels)
        return vary_frames(pictures, variation, pixels, crop), truth

    return task, train_task(task, len(train), batch, settings)


def train_task(task: nn.Module, rows: int, make_batch: MakeBatch, settings: DownstreamSettings) -> int:
    """Train a task on batches of rows that differ every epoch; returns the number of updates made.

    Args:
        task: what `Trainer` takes; trained in place.
        rows: how many training frames there are.
        make_batch: reads some of them.
        settings: optimiser, schedule and seed.
    """
    batch = min(settings.optimiser.batch_clips, rows)
    steps_per_epoch = rows // batch
    total = steps_per_epoch * settings.optimiser.epochs
    trainer = Trainer(task, settings.optimiser, settings.run, total, steps_per_epoch)
    load = partial(_training_batch, make_batch, rows, batch, settings.run.seed)
    with closing(load_in_order(load, range(total), settings.run.loader_workers)) as batches:  # type: ignore[type-var]
        for inputs in track(batches, "fine-tuning", total):
            trainer.step(*inputs)
    return total


def predict_planes(
    store: PreparedStore, table: FrameTable, task: PlaneTask, settings: PlanesSettings
) -> NDArray[np.int64]:
    """Return the class number [n] the detector gives each frame of the table."""
    logits = _predict(store, table, task, settings, task.logits)
    return np.asarray(logits.argmax(dim=1).numpy())


def predict_saliency(store: PreparedStore, table: FrameTable, task: SaliencyTask, settings: SaliencySettings) -> Tensor:
    """Return the density [n, P, P] that the predictor gives each frame of the table, float32 on the CPU."""
    return _predict(store, table, task, settings, task.log_density).exp()


def _predict(
    store: PreparedStore,
    table: FrameTable,
    task: nn.Module,
    settings: DownstreamSettings,
    read: Callable[[Tensor], Tensor],
) -> Tensor:
    device = next(task.parameters()).device
    task.eval()
    predicted = []
    total = math.ceil(len(table) / BATCH_FRAMES)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, settings.run.precision == "bfloat16"):
        for frames in track(frame_batches(store, table), "predicting", total):
            inputs = evaluation_frames(frames, settings.model.frame_pixels, settings.augment).to(device)
            predicted.append(read(inputs).float().cpu())
    return torch.cat(predicted)


def _training_batch(make_batch: MakeBatch, rows: int, batch: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return the inputs of one update; a function of its number alone."""
    epoch, place = divmod(step, rows // batch)
    chosen = permute(np.arange(place * batch, (place + 1) * batch), rows, derive_key(seed, ORDER, epoch))
    return make_batch(chosen, counter_bits(derive_key(seed, VARIATION, epoch), chosen, 0))


@contextmanager
def _new_weights(settings: DownstreamSettings) -> Iterator[None]:
    """Draw a task's own weights from the seed and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, WEIGHTS) >> 1)
        yield
