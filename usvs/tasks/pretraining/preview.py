"""What a pretraining would do and need, from one batch (``usvs pretrain --dry-run``)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usvs.errors import UsvsError
from usvs.store.prepared import PreparedStore, warn_of_other_crop
from usvs.tasks.pretraining.encoders import choose_encoder
from usvs.tasks.pretraining.pretrain import RunSetup, with_patients_of
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.distributed import ALONE
from usvs.training.process import process_settings
from usvs.training.run_folder import RunFolder
from usvs.training.trainer import choose_device
from usvs.utils.preview import Preview, check_disk, free_bytes, peak_memory_bytes, total_memory_bytes
from usvs.utils.text import duration_text, size_text

STEPS = 2  # the first one also compiles


def preview_pretraining(
    store: str | Path,
    run: str | Path,
    settings: PretrainSettings,
    *,
    encoder: nn.Module | str | None = None,
    init: str | Path | None = None,
    init_stores: Sequence[str | Path] = (),
    allow_overlap: bool = False,
    resume: bool = False,
) -> Preview:
    """Load everything and one batch, make two updates of it, and return what the run would do and need.

    Arguments are those of `pretrain`. Nothing is written, and no lock is taken.

    Raises:
        UsvsError: where not even the first batch can be computed, as of `pretrain`.
    """
    refusals: list[UsvsError] = []
    device = choose_device(settings.run.device)
    with process_settings(device):
        try:
            RunFolder(Path(run), resume).check_content(settings)
        except UsvsError as error:
            refusals.append(error)
        video, opened = choose_encoder(encoder, init, settings), PreparedStore(Path(store))
        warn_of_other_crop(opened)
        known = with_patients_of(video, opened, init_stores, allow_overlap)
        setup = RunSetup(opened, settings, known, None, None, ALONE)
        figures, lines = _measure(setup, device)
    disk = figures["disk_bytes"]
    lines.append(f"disk: {size_text(disk)} for checkpoints and metrics, {size_text(free_bytes(Path(run)))} free")
    refusals += check_disk(Path(run), disk)
    if few := setup.too_few_steps():
        lines.append(few)
    return Preview("pretrain", tuple(lines), figures, tuple(refusals))


def _measure(setup: RunSetup, device: torch.device) -> tuple[dict[str, Any], list[str]]:
    data, trainer, settings = setup.data, setup.trainer, setup.settings
    started = time.perf_counter()
    batch = setup.task.batch(setup.loader.batch(0))
    load, updates = time.perf_counter() - started, []
    for _ in range(STEPS):
        started = time.perf_counter()
        trainer.step(*batch)
        updates.append(time.perf_counter() - started)
    step, threads = updates[-1], settings.run.loader_workers
    per_step = max(step, load / threads) if threads else step + load
    state = trainer.state_dict()
    checkpoint = sum(tensor_bytes(tensors) for tensors in (state.model, state.optimiser))
    steps, kept = trainer.total_steps, settings.run.keep_checkpoints + 2  # the best, and one being written
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory_bytes()
    available = torch.cuda.get_device_properties(device).total_memory if on_gpu else total_memory_bytes()
    split = data.split
    figures: dict[str, Any] = {
        "training_clips": len(data.train),
        "validation_clips": len(data.validation),
        "training_patients": len(split.train),
        "validation_patients": len(split.validation),
        "steps": steps,
        "epochs": settings.optimiser.epochs,
        "batch_clips": setup.plan.batch_size,
        "parameters": sum(parameter.numel() for parameter in setup.model.parameters()),
        "device": str(device),
        "step_seconds": step,
        "load_seconds": load,
        "seconds": steps * per_step,
        "memory_bytes": memory,
        "disk_bytes": checkpoint * kept,
    }
    lines = [
        f"clips: {len(data.train)} of {len(split.train)} patients to train on, {len(data.validation)} of"
        f" {len(split.validation)} patients for validation",
        f"steps: {steps} of {setup.plan.batch_size} clips, in {settings.optimiser.epochs} epochs",
        f"network: {figures['parameters'] / 1e6:.2f} million parameters, on {device}",
        f"memory: {size_text(memory)} of {size_text(available)}" + (" of the GPU" if on_gpu else ""),
        f"time: about {duration_text(steps * per_step)}, {step:.2f} s a step, without validation and checkpoints",
    ]
    return figures, lines


def tensor_bytes(tensors: dict[str, Tensor]) -> int:
    """Return the size of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
