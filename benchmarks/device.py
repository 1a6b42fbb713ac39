"""Times of both kernels on a device against plain torch and Triton, as a part of tests/device/check.sh.

    python -m benchmarks.device --device cuda --out FILE [--until SECONDS]
    python -m benchmarks.device --device cpu --check       every peer once against plain torch

What the times are: benchmarks/device_results.py. The most important sizes come first, results are written after each
one, and what is left when the time is over is not measured. The exit status says whether every measurement of usvs
succeeded. On a CPU, for the rehearsal of the script, sizes are small.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.contrastive_loss_peers import (
    Inputs,
    Step,
    checkpointed,
    compiled,
    eager,
    eager_without_upcast,
    plain_loss,
    sigmoid_chunks,
    three_products,
)
from benchmarks.device_results import Results, error_text
from benchmarks.log_spectrogram_peers import compiled_stft, matrix_dft, torch_stft, torch_unfold_rfft
from tests.device.small import largest_error
from usvs.ops import contrastive_loss, log_spectrogram

SIZES = [(32, 96), (256, 768), (2048, 6144), (8192, 24_576), (65_536, 65_536)]
WIDTHS = (128, 512, 1024)
LARGEST_OF_PEERS = 8192 * 24_576  # logits that plain torch may hold
CHUNK_LOGITS = 2**26  # that row chunks hold at a time
CHECKED = {"cuda": [(70, 210, 200)], "cpu": [(70, 150, 40), (70, 210, 256)]}  # on a device each takes compiling
OTHER_LOSSES = ("SigLIP chunks (another loss)",)


@dataclass(frozen=True)
class Size:
    """Anchors, candidates, width and dtype of a measurement."""

    rows: int
    columns: int
    width: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.dtype}, n = {self.rows}, M = {self.columns}, d = {self.width}"


def usvs_step(inputs: Inputs) -> Step:
    """A forward and a backward pass of the op."""

    def run() -> list[torch.Tensor]:
        loss = contrastive_loss(*inputs).mean()
        return [loss, *torch.autograd.grad(loss, inputs[:4])]

    return run


def triton_peers(device: str, dtype: torch.dtype) -> dict[str, Callable[[Inputs], Step]]:
    """Return the peers in Triton; none where it is absent, or on a CPU unless its interpreter is asked for.

    The interpreter of Triton 3.6 multiplies the bits of bfloat16 numbers as integers: on a CPU float32 alone is tried.
    """
    try:
        from benchmarks.triton_peers import row_chunks_fused, tiles
    except ImportError:
        return {}
    if device == "cpu" and (os.environ.get("TRITON_INTERPRET") != "1" or dtype == torch.bfloat16):
        return {}
    return {"Triton, tiles as Inf-CL's": tiles, "Triton, row chunks as Liger's": row_chunks_fused}


def loss_peers(device: str, size: Size) -> dict[str, Callable[[Inputs], Step]]:
    """Return who is measured at a size: plain torch where its logits fit."""
    peers: dict[str, Callable[[Inputs], Step]] = {"usvs": usvs_step, **triton_peers(device, size.dtype)}
    logits = size.rows * size.columns
    if logits <= LARGEST_OF_PEERS:
        peers["torch eager"] = eager
        if size.dtype == torch.bfloat16:
            peers["torch eager without upcast"] = eager_without_upcast
    if size.rows <= 8192:
        peers["3 products by hand"] = three_products
    peers["row chunks"] = partial(checkpointed, block_rows=max(1, min(size.rows, CHUNK_LOGITS // size.columns)))
    peers["SigLIP chunks (another loss)"] = sigmoid_chunks
    return peers


def loss_inputs(size: Size, device: str, seed: int) -> Inputs:
    torch.manual_seed(seed)
    counts = (size.rows, size.rows, size.rows, size.columns)
    anchors, positives, negatives, candidates = (
        F.normalize(torch.randn(count, size.width, device=device)).to(size.dtype).requires_grad_() for count in counts
    )
    return anchors, positives, negatives, candidates, torch.arange(size.rows, device=device)


def sizes_of(device: str) -> Iterator[Size]:
    """Yield the sizes, most important first: bfloat16 before float32, d = 128 before wider embeddings."""
    if device == "cpu":
        yield from (
            Size(32, 96, 128, torch.bfloat16),
            Size(32, 96, 128, torch.float32),
            Size(32, 96, 512, torch.float32),
        )
        return
    for width in WIDTHS:
        for dtype in (torch.bfloat16, torch.float32):
            for rows, columns in (SIZES[3], SIZES[0], SIZES[1], SIZES[2], SIZES[4]):
                if rows < 65_536 or dtype == torch.bfloat16:
                    yield Size(rows, columns, width, dtype)


def spectrogram_times(results: Results, seconds: float) -> None:
    """Measure the forward pass of the log-spectrogram, and ours with its backward pass."""
    peers: dict[str, Callable[[torch.Tensor], Callable[[], object]]] = {
        "usvs": lambda waveform: lambda: log_spectrogram(waveform),
        "torch.stft chain": torch_stft,
        "unfold + rfft": torch_unfold_rfft,
        "products with a DFT matrix": matrix_dft,
    }

    def both_passes(waveform: torch.Tensor) -> Callable[[], object]:
        waveform.requires_grad_()
        return lambda: torch.autograd.grad(log_spectrogram(waveform).sum(), waveform)

    for clips in (1, 64, 256) if results.device == "cuda" else (2,):
        for name, peer in {**peers, "usvs, both passes": both_passes}.items():
            label = f"log-spectrogram, {name}, {clips} clips"
            make = partial(lambda p, c: p(waveforms(results.device, c)), peer, clips)
            results.measure(label, make, seconds, name.startswith("usvs"))


def waveforms(device: str, clips: int) -> torch.Tensor:
    torch.manual_seed(1)
    return 0.1 * torch.randn(clips, 14_400, device=device)


def loss_times(results: Results, seconds: float) -> None:
    """Measure a step of the loss, by name and size."""
    for size in sizes_of(results.device):
        for name, peer in loss_peers(results.device, size).items():
            make = partial(lambda p, z: p(loss_inputs(z, results.device, 1)), peer, size)
            results.measure(f"loss, {name}, {size}", make, seconds, name == "usvs")


def compiled_times(results: Results, seconds: float) -> None:
    """Measure torch.compile after all others, since compiling takes longer; nothing of a size serves the next one."""
    makes: dict[str, Callable[[], Callable[[], object]]] = {}
    for rows, columns in (SIZES[3], SIZES[1]):
        for dtype in (torch.bfloat16, torch.float32):
            size = Size(rows, columns, WIDTHS[0], dtype)
            makes[f"loss, torch.compile, {size}"] = partial(lambda z: compiled(loss_inputs(z, results.device, 1)), size)
    makes["log-spectrogram, torch.stft chain, compiled, 256 clips"] = lambda: compiled_stft(
        waveforms(results.device, 256)
    )
    for label, make in makes.items():
        torch.compiler.reset()
        results.measure(label, make, seconds, required=False)


def check_peers(device: str, measured: dict[str, object], write: Callable[[], None] = lambda: None) -> None:
    """Compare every peer's loss and gradients with plain torch in float64.

    Args:
        device: cuda or cpu.
        measured: where the largest error of each is put.
        write: called after each.

    Raises:
        AssertionError: after all, if an error is above what arithmetic explains, or a peer fails.
    """
    wrong = []
    for size in (Size(*shape, dtype) for shape in CHECKED[device] for dtype in (torch.float32, torch.bfloat16)):
        inputs = loss_inputs(size, device, 1)
        exact = (*(tensor.detach().double().requires_grad_() for tensor in inputs[:4]), inputs[4])
        loss = plain_loss(*exact).mean()
        expected = [loss.detach(), *torch.autograd.grad(loss, exact[:4])]
        tolerance = 1e-4 if size.dtype == torch.float32 else 0.05
        for name, peer in loss_peers(device, size).items():
            if name == "3 products by hand" and size.dtype == torch.bfloat16:
                continue  # its weights are bfloat16 numbers below 2^-8
            label = f"{name}, {size}"
            try:
                found = [tensor.detach() for tensor in peer(inputs)()]
            except Exception as error:
                measured[label] = error_text(error)
                wrong.append(f"{label}: {error_text(error)}")
            else:
                if name not in OTHER_LOSSES:
                    measured[label] = worst = largest_error(found, expected)
                    if worst > tolerance:
                        wrong.append(f"{label}: expected an error of at most {tolerance}, got {worst}")
            write()
    assert not wrong, "\n".join(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--check", action="store_true", help="compare the peers with plain torch instead")
    parser.add_argument("--until", type=float, default=1e9, metavar="SECONDS", help="measure no longer than this")
    parser.add_argument("--out", type=Path, required=True, help="results file, written after each measurement")
    options = parser.parse_args()
    if options.check:
        errors: dict[str, object] = {}
        check_peers(options.device, errors, lambda: options.out.write_text(json.dumps(errors, indent=1) + "\n"))
        return
    results = Results(options.device, options.out, options.until)
    seconds = 0.06 if options.device == "cuda" else 0.01
    spectrogram_times(results, seconds)
    loss_times(results, seconds)
    if options.device == "cuda":
        compiled_times(results, seconds)
    results.finish()


if __name__ == "__main__":
    main()
