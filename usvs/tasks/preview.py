"""What a fine-tuning would do and need, from one batch (``usvs finetune TASK --dry-run``)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.config import override_settings
from usvs.errors import UsvsError
from usvs.evaluation.folds import GroupBy
from usvs.store.prepared import PreparedStore, warn_of_other_crop
from usvs.tasks.comparison import KIND, Comparison, Patients
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.fit import new_weights, predict_batches, train_module
from usvs.tasks.initial_encoder import Init, initial_encoder
from usvs.tasks.registry import find_task
from usvs.tasks.result_cache import refuse_folder_in_use
from usvs.tasks.settings import FinetuneSettings
from usvs.training.distributed import ALONE
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device
from usvs.utils.permutation import UInt64Array
from usvs.utils.preview import Preview, check_disk, free_bytes, peak_memory_bytes, total_memory_bytes
from usvs.utils.text import duration_text, quantity, size_text

UPDATES = 3  # the first one also compiles


def preview_finetuning(
    task: str,
    store: str | Path,
    run: str | Path,
    settings: FinetuneSettings,
    *,
    inits: Sequence[Init] = ("random",),
    patients: Patients = "all",
    allow_overlap: bool = False,
    init_stores: Sequence[str | Path] = (),
    group_by: GroupBy = "patient",
    resume: bool = False,
) -> Preview:
    """Load everything and one batch, make a few updates of it, and return what the comparison would do and need.

    Arguments are those of `finetune`. Nothing is written.

    Raises:
        UsvsError: where not even the first batch can be computed, as of `finetune`.
    """
    opened = PreparedStore(Path(store))
    warn_of_other_crop(opened)
    kind = find_task(task, opened, getattr(settings, "label_column", None))
    protocols = [name for name in kind.protocols if name in ("finetune", "probe")]
    device, refusals = choose_device(settings.run.device), list[UsvsError]()
    with process_settings(device):
        comparison = Comparison(kind, opened, Path(run), settings, list(inits), protocols, group_by, ALONE)
        try:
            refuse_folder_in_use(comparison.folder, KIND, resume)
        except UsvsError as error:
            refusals.append(error)
        comparison.choose_patients(patients, allow_overlap, init_stores)
        encoders = [initial_encoder(init, settings) for init in comparison.inits.values()]  # all of them can be built
        del encoders
        figures = _measure(comparison, device)
    lines = _lines(comparison, figures, device)
    disk = figures["disk_bytes"]
    lines.append(f"disk: {size_text(disk)} for models and results, {size_text(free_bytes(Path(run)))} free")
    refusals += check_disk(Path(run), disk)
    return Preview("finetune", tuple(lines), figures, tuple(refusals))


def _measure(comparison: Comparison, device: torch.device) -> dict[str, Any]:
    task, store, table, settings = comparison.task, comparison.store, comparison.table, comparison.settings
    fold = comparison.folds[0]
    train, test = table.of_groups(fold.train), task.test_dataset(store, table.of_groups(fold.test), settings)
    batch = min(settings.optimiser.batch_clips, len(train))
    first = train.take(np.arange(batch))
    short = override_settings(settings, **{"optimiser.epochs": UPDATES, "run.loader_workers": 0})
    encoder = initial_encoder(next(iter(comparison.inits.values())), settings)
    with new_weights(settings):
        module = task.module(encoder.to(device), first, settings)
    times: list[float] = []

    def load(rows: NDArray[np.int64], bits: UInt64Array) -> tuple[Tensor, ...]:
        times.append(time.perf_counter())
        return task.batch(store, first, rows, bits, settings)

    train_module(module, batch, load, short, label="one batch")
    times.append(time.perf_counter())
    update = times[-1] - times[-2]
    started = time.perf_counter()
    some = test.take(np.arange(min(len(test), BATCH_FRAMES)))
    for _ in predict_batches(task, store, some, module, settings, "one batch of predictions"):
        pass
    predict = (time.perf_counter() - started) / max(len(some), 1)
    trained = [len(table.of_groups(each.train)) for each in comparison.folds]
    updates = [
        max(rows // min(settings.optimiser.batch_clips, rows), 1) * settings.optimiser.epochs for rows in trained
    ]
    tested, inits = sum(len(table.of_groups(each.test)) for each in comparison.folds), len(comparison.inits)
    weights = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    passes = len(comparison.protocols)
    probed = sum(trained) + tested if "probe" in comparison.protocols else 0
    on_gpu = device.type == "cuda"
    return {
        "inits": inits,
        "folds": len(comparison.folds),
        "patients": len(np.unique(table.group)),
        "labelled_patients": len(fold.train),
        "frames": len(table),
        "training_frames": trained,
        "updates": updates,
        "protocols": list(comparison.protocols),
        "update_seconds": update,
        "seconds": inits * (sum(updates) * update + (tested + probed) * predict),
        "memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory_bytes(),
        "disk_bytes": inits * len(comparison.folds) * weights + passes * inits * len(comparison.folds) * 4096,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _lines(comparison: Comparison, figures: dict[str, Any], device: torch.device) -> list[str]:
    on_gpu = device.type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if on_gpu else total_memory_bytes()
    inits = ", ".join(comparison.inits)
    return [
        f"frames: {figures['frames']} with labels, {comparison.patients}",
        f"inits: {quantity(figures['inits'], 'init')} ({inits}), each in {figures['folds']} folds;"
        f" {' and '.join(figures['protocols'])}",
        f"updates: {', '.join(map(str, figures['updates']))} in the folds, of at most"
        f" {comparison.settings.optimiser.batch_clips} frames",
        f"network: {figures['parameters'] / 1e6:.2f} million parameters, on {device}",
        f"memory: {size_text(figures['memory_bytes'])} of {size_text(available)}" + (" of the GPU" if on_gpu else ""),
        f"time: about {duration_text(figures['seconds'])}, {figures['update_seconds']:.2f} s an update",
    ]
