"""Fine-tuning and predicting on one fold: the detector is trained on some patients' frames and names the others'."""

import math
from contextlib import closing
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.archive.plane_labels import PLANES
from usvs.archive.prepared import PreparedStore
from usvs.config import PlanesSettings
from usvs.downstream.embed import BATCH_FRAMES, frame_batches
from usvs.downstream.frames import FrameTable, read_frames
from usvs.downstream.plane_task import PlaneTask, class_weights
from usvs.loading.augment import evaluation_frames, training_frames
from usvs.loading.prefetch import load_in_order
from usvs.models.resnext_se import SEResNeXt
from usvs.progress import track
from usvs.sampling.permutation import counter_bits, derive_key, permute
from usvs.training.trainer import Trainer

ORDER, VARIATION, WEIGHTS = range(3)  # what a key of a fold's training is for


def finetune_fold(
    store: PreparedStore, train: FrameTable, encoder: SEResNeXt, settings: PlanesSettings
) -> tuple[PlaneTask, int]:
    """Train a detector from an encoder on labelled frames; returns it with the number of updates made.

    The same settings, frames and encoder give the same weights, bit for bit, on a CPU.

    Args:
        store: where the frames are.
        train: labelled frames of the training patients.
        encoder: where it starts; trained in place.
        settings: optimiser, schedule, augmentation, class weights and seed.
    """
    seed = settings.run.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(seed, WEIGHTS) >> 1)
        task = PlaneTask(encoder, len(PLANES), class_weights(train.plane, len(PLANES), settings.class_weights))
    batch = min(settings.optimiser.batch_clips, len(train))
    steps_per_epoch = len(train) // batch
    total = steps_per_epoch * settings.optimiser.epochs
    trainer = Trainer(task, settings.optimiser, settings.run, total, steps_per_epoch)
    load = partial(_training_batch, store, train, settings, batch)
    with closing(load_in_order(load, range(total), settings.run.loader_workers)) as batches:  # type: ignore[type-var]
        for frames, planes in track(batches, "fine-tuning", total):
            trainer.step(frames, planes)
    return task, total


def predict_planes(
    store: PreparedStore, table: FrameTable, task: PlaneTask, settings: PlanesSettings
) -> NDArray[np.int64]:
    """Return the class number [n] the detector gives each frame of the table."""
    device = next(task.parameters()).device
    task.eval()
    predicted = []
    total = math.ceil(len(table) / BATCH_FRAMES)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, settings.run.precision == "bfloat16"):
        for frames in track(frame_batches(store, table), "predicting", total):
            inputs = evaluation_frames(frames, settings.model.frame_pixels, settings.augment).to(device)
            predicted.append(task.logits(inputs).argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted)


def _training_batch(
    store: PreparedStore, train: FrameTable, settings: PlanesSettings, batch: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return varied frames [B, 1, P, P] and class numbers [B] of one update; a function of its number alone."""
    seed = settings.run.seed
    epoch, place = divmod(step, len(train) // batch)
    rows = permute(np.arange(place * batch, (place + 1) * batch), len(train), derive_key(seed, ORDER, epoch))
    keys = counter_bits(derive_key(seed, VARIATION, epoch), rows, 0)
    chosen = train.take(rows)
    frames = training_frames(read_frames(store, chosen), keys, settings.model.frame_pixels, settings.augment)
    return frames, torch.from_numpy(chosen.plane)
