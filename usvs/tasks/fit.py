"""Training a task's module on one fold's rows, and evaluating it on the others: the one training loop of all tasks."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usvs.data.prefetch import load_in_order
from usvs.data.rank_plan import check_ranks, rank_rows
from usvs.models.encoder import Encoder
from usvs.models.narrow_convolution import widen_convolutions
from usvs.store.prepared import PreparedStore
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.key_purpose import KeyPurpose
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import MetricsT, TableT, Task
from usvs.training.distributed import ALONE, Ranks, gather_rows
from usvs.training.micro_batches import BatchShard
from usvs.training.trainer import NonFiniteError, Trainer
from usvs.utils.permutation import UInt64Array, counter_bits, derive_key, permute
from usvs.utils.progress import track

# Rows of the training table and augmentation bits for each in, the inputs of the module out.
MakeBatch = Callable[[NDArray[np.int64], UInt64Array], tuple[Tensor, ...]]


def fit_module(
    task: Task[TableT, Any, Any],
    store: PreparedStore,
    train: TableT,
    encoder: Encoder,
    settings: FinetuneSettings,
    ranks: Ranks = ALONE,
    label: str = "fine-tuning",
) -> tuple[nn.Module, int]:
    """Build a task's module around an encoder and train it.

    The same settings, rows and encoder give the same weights, bit for bit, on a CPU; with several ranks they are the
    same except for rounding.

    Args:
        task: what is learnt.
        store: where the frames are.
        train: rows of the training patients.
        encoder: the initial encoder; trained in place.
        settings: optimiser, schedule, augmentation and seed.
        ranks: the processes that take part, each with a part of every batch.
        label: of the progress bar.

    Returns:
        The trained module, and the number of updates.

    Raises:
        ConfigError: where there are more ranks than frames in a batch.
        NonFiniteError: when a loss or a gradient is not finite; the message names the rows of the batch.
    """
    with new_weights(settings):
        module = task.module(encoder, train, settings)

    def batch(rows: NDArray[np.int64], bits: UInt64Array) -> tuple[Tensor, ...]:
        return task.batch(store, train, rows, bits, settings)

    return module, train_module(module, len(train), batch, settings, ranks, label)


def train_module(
    module: nn.Module,
    rows: int,
    make_batch: MakeBatch,
    settings: FinetuneSettings,
    ranks: Ranks = ALONE,
    label: str = "fine-tuning",
) -> int:
    """Train a module on batches of rows that are dealt anew in every epoch; return the number of updates.

    Args:
        module: what `Trainer` takes; trained in place.
        rows: number of training rows.
        make_batch: reads some of them.
        settings: optimiser, schedule and seed.
        ranks: the processes that take part; the rows of each batch are dealt out to them.
        label: of the progress bar.

    Raises:
        ConfigError: where there are more ranks than rows in a batch.
        NonFiniteError: when a loss or a gradient is not finite; the message names the rows of the batch.
    """
    batch = min(settings.optimiser.batch_clips, rows)
    check_ranks(batch, ranks.number, ranks.count)
    own = rank_rows(np.arange(batch), ranks.number, ranks.count)
    steps_per_epoch = rows // batch
    total = steps_per_epoch * settings.optimiser.epochs
    trainer = Trainer(module, settings.optimiser, settings.run, total, steps_per_epoch, ranks)
    load = partial(_training_batch, make_batch, rows, batch, own, settings.run.seed)
    shard, losses = BatchShard(torch.from_numpy(own), batch), [math.nan]
    with closing(load_in_order(load, range(total), settings.run.loader_workers)) as batches:  # type: ignore[type-var]
        for inputs in track(batches, label, total, note=lambda: f"loss {losses[-1]:.3f}"):
            try:
                losses[:] = [trainer.step(*inputs, shard=shard)["total"]]
            except NonFiniteError as error:
                chosen = _training_rows(rows, batch, np.arange(batch), settings.run.seed, trainer.step_number)
                raise NonFiniteError(f"{error}; rows of the training table: {chosen.tolist()}") from None
    return total


def evaluate_module(
    task: Task[TableT, Any, MetricsT],
    store: PreparedStore,
    test: TableT,
    module: nn.Module,
    settings: FinetuneSettings,
    ranks: Ranks = ALONE,
    label: str = "predicting",
) -> MetricsT:
    """Predict the rows of a table, batch by batch, and return the scores; no prediction is kept.

    Args:
        task: what was learnt.
        store: where the frames are.
        test: rows of `Task.test_dataset`.
        module: a trained module of the task; it is left in evaluation mode.
        settings: input size and precision.
        ranks: the processes that take part; each predicts a part of the rows and gets the scores of all.
        label: of the progress bar.
    """
    first, stop = _part_of(len(test), ranks)
    own = test.take(np.arange(first, max(stop, first + 1)) % len(test))  # at least one row, to know the shape
    scored = [
        task.score_rows(prediction, own.take(rows))
        for rows, prediction in predict_batches(task, store, own, module, settings, label)
    ]
    return task.metrics(gather_rows(torch.cat(scored)[: stop - first], first, len(test), ranks), test)


def predict_batches(
    task: Task[TableT, Any, Any],
    store: PreparedStore,
    table: TableT,
    module: nn.Module,
    settings: FinetuneSettings,
    label: str = "predicting",
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield row numbers [b] and the prediction of these rows, float32 [b, ...] on the host, for all rows of a table.

    Args:
        task: what was learnt.
        store: where the frames are.
        table: the rows to predict.
        module: a trained module of the task; it is left in evaluation mode.
        settings: input size and precision.
        label: of the progress bar.
    """
    device = next(module.parameters()).device
    module.eval()
    starts = range(0, len(table), BATCH_FRAMES)
    use_bfloat16 = settings.run.precision == "bfloat16"
    if use_bfloat16 and device.type == "cpu":
        widen_convolutions(module)
    for start in track(starts, label, math.ceil(len(table) / BATCH_FRAMES)):
        rows = np.arange(start, min(start + BATCH_FRAMES, len(table)))
        inputs = task.inputs(store, table.take(rows), settings).to(device)
        # Entered for each batch: a generator's contexts would otherwise stay active in its consumer.
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, use_bfloat16):
            prediction = task.predict(module, inputs).float().cpu()
        yield rows, prediction


@contextmanager
def new_weights(settings: FinetuneSettings) -> Iterator[None]:
    """Draw a module's own weights from the seed and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(settings.run.seed, KeyPurpose.WEIGHTS) >> 1)
        yield


def _part_of(rows: int, ranks: Ranks) -> tuple[int, int]:
    """Return the first row of this rank and the one after its last."""
    edges = np.linspace(0, rows, ranks.count + 1).round().astype(np.int64)
    first, stop = edges[ranks.number : ranks.number + 2].tolist()
    return first, stop


def _training_batch(
    make_batch: MakeBatch, rows: int, batch: int, own: NDArray[np.int64], seed: int, step: int
) -> tuple[Tensor, ...]:
    """Return this rank's inputs of one update; a function of its number alone."""
    chosen = _training_rows(rows, batch, own, seed, step)
    key = derive_key(seed, KeyPurpose.AUGMENTATION, step // (rows // batch))
    return make_batch(chosen, counter_bits(key, chosen, 0))


def _training_rows(rows: int, batch: int, own: NDArray[np.int64], seed: int, step: int) -> NDArray[np.int64]:
    epoch, position = divmod(step, rows // batch)
    return permute(position * batch + own, rows, derive_key(seed, KeyPurpose.ORDER, epoch))
