"""Steps of pretraining with the paper's model in bfloat16 on synthetic batches, as a part of tests/device/check.sh.

    python -m tests.device.training torchscript --device cuda --out FILE

On a CPU, for the rehearsal, the network is the quick profile's, and batches are small. It fails where a step did not
run as asked: a trainer falls back to eager code where TorchScript does not compile, and to less memory where it runs
out.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from tests.device.small import Measured, device_name
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.training.compilation import Compile, ScriptedModule
from usvs.training.trainer import Trainer


def synthetic_batch(settings: PretrainSettings, clips: int, device: str) -> tuple[Tensor, ...]:
    """Return the tensors of a batch in the order in which `PretrainModel.forward` takes them; every clip counts."""
    generator = torch.Generator().manual_seed(1)
    pairs, side = settings.clips.groups_per_clip, settings.model.frame_pixels
    samples = round(settings.clips.speech_seconds * settings.spectrogram.rate_hz)
    frames, order_frames = (torch.randn(clips, count, 1, side, side, generator=generator) for count in (pairs, 4))
    speech, negative_speech = (0.1 * torch.randn(clips, pairs, samples, generator=generator) for _ in range(2))
    order_class = torch.randint(0, 12, (clips,), generator=generator)
    every_clip = torch.ones(clips, dtype=torch.bool)  # masks stay on the host
    moved = [tensor.to(device) for tensor in (frames, order_frames, speech, negative_speech)]
    return *moved, every_clip, order_class.to(device), every_clip


def step_times(compiler: Compile, clips: int, device: str, steps: int) -> Measured:
    """Return the first step's seconds, the median of the later ones, the losses and the memory."""
    base = pretrain_profile("paper" if device == "cuda" else "quick")
    run = base.run.model_copy(update={"precision": "bfloat16", "compile": compiler, "device": device, "seed": 1})
    settings = base.model_copy(update={"run": run})
    torch.manual_seed(1)
    trainer = Trainer(PretrainModel(settings), settings.optimiser, run, total_steps=1000, steps_per_epoch=100)
    batch = synthetic_batch(settings, clips, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        losses.append(trainer.step(*batch)["total"])  # a number: the host has waited
        seconds.append(time.perf_counter() - begin)
    measured: Measured = {"first_step_seconds": seconds[0], "step_seconds": statistics.median(seconds[1:])}
    measured |= {"clips_per_second": clips / statistics.median(seconds[1:]), "losses": losses}
    if device == "cuda":
        measured["peak_bytes"] = torch.cuda.max_memory_allocated()
    return measured | how_it_runs(trainer)


def how_it_runs(trainer: Trainer) -> Measured:
    """Return which compiler's code a trainer runs now, and how it saves memory; it falls back where it must."""
    compute = trainer.compute
    if isinstance(compute.compiled, ScriptedModule):
        compiler = "torchscript"
    else:
        compiler = "inductor" if hasattr(compute.compiled.method, "_torchdynamo_orig_callable") else "eager"
    return {"runs as": compiler, "recomputes": compute._recomputes, "clips at a time": compute._micro_clips or "all"}


def fallbacks(compiler: Compile, measured: Measured) -> list[str]:
    """Return the sizes whose figures are not those of a compiler's code with all activations in memory."""
    expected = {"runs as": compiler, "recomputes": False, "clips at a time": "all"}
    return [
        f"{size}: {key}: expected {value}, got {step[key]}"
        for size, step in measured.items()
        if isinstance(step, dict)
        for key, value in expected.items()
        if step[key] != value
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("compiler", choices=get_args(Compile))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, required=True, help="results file, written after each size")
    options = parser.parse_args()
    sizes, steps = ((32, 128), 10) if options.device == "cuda" else ((2,), 1)
    measured: Measured = {"device": device_name(options.device)}
    for clips in sizes:
        measured[f"{clips} clips"] = step_times(options.compiler, clips, options.device, steps)
        print(clips, measured[f"{clips} clips"], flush=True)
        options.out.write_text(json.dumps(measured, indent=1) + "\n")
    if found := fallbacks(options.compiler, measured):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
