"""Times of both kernels on a device against plain torch and Triton, as a part of tests/device/check.sh.

    python -m benchmarks.device --device cuda --out FILE [--until SECONDS]
    python -m benchmarks.device --device cpu --check       every peer once against plain torch

Device events around each call, buffers that rotate so that inputs are not in the caches, medians. The most important
sizes come first, results are written after each one, and what is left when the time is over is not measured. On a CPU,
for the rehearsal of the script, sizes are small and the clock is the host's.
"""

import argparse
import json
import os
import statistics
import time
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
from benchmarks.log_spectrogram_peers import compiled_stft, matrix_dft, torch_stft, torch_unfold_rfft
from tests.device.small import device_name
from usvs.ops import contrastive_loss, log_spectrogram

BUFFERS = 4
SIZES = [(32, 96), (256, 768), (2048, 6144), (8192, 24_576), (65_536, 65_536)]
WIDTHS = (128, 512, 1024)
LARGEST_OF_PEERS = 8192 * 24_576  # logits that plain torch may hold
CHUNK_LOGITS = 2**26  # that row chunks hold at a time
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
    """Return who is measured at a size: plain torch where its logits fit, torch.compile where compiling pays."""
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
    if device == "cuda" and size.width == 128 and size.rows in (256, 8192):
        peers["torch.compile"] = compiled
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


def median_ms(make: Callable[[int], Callable[[], object]], device: str, seconds: float) -> float:
    """Return the median time of a call; make(seed) prepares one on buffers of its own."""
    runs = [make(seed) for seed in range(BUFFERS)]
    runs[0]()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        run = runs[len(times) % BUFFERS]
        if device == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop))
        else:
            begin = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


class Results:
    """What was measured, written to a file after every entry, until the time is over."""

    def __init__(self, device: str, file: Path, until: float) -> None:
        self.device, self.file, self.end = device, file, time.perf_counter() + until
        self.entries: dict[str, object] = {"device": device_name(device), "unit": "ms, median"}
        self.not_measured: list[str] = []

    def measure(self, label: str, make: Callable[[int], Callable[[], object]], seconds: float) -> None:
        """Time a call and write the file; of a peer that fails, as for want of memory, the error is written."""
        if time.perf_counter() >= self.end:
            self.not_measured.append(label)
        else:
            try:
                self.entries[label] = median_ms(make, self.device, seconds)
            except Exception as error:  # of a peer, of any kind: compilers and allocators raise their own
                self.entries[label] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(label, self.entries[label], flush=True)
        self.file.write_text(json.dumps({**self.entries, "not measured": self.not_measured}, indent=1) + "\n")


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

        def waveform(seed: int, clips: int = clips) -> torch.Tensor:
            torch.manual_seed(seed)
            return 0.1 * torch.randn(clips, 14_400, device=results.device)

        named = {**peers, "usvs, both passes": both_passes}
        if results.device == "cuda" and clips == 256:
            named["torch.stft chain, compiled"] = compiled_stft
        for name, peer in named.items():
            results.measure(f"log-spectrogram, {name}, {clips} clips", lambda s, p=peer, w=waveform: p(w(s)), seconds)


def loss_times(results: Results, seconds: float) -> None:
    """Measure a step of the loss, by name and size."""
    for size in sizes_of(results.device):
        for name, peer in loss_peers(results.device, size).items():
            results.measure(
                f"loss, {name}, {size}", lambda s, p=peer, z=size: p(loss_inputs(z, results.device, s)), seconds
            )


def check_peers(device: str) -> dict[str, float]:
    """Compare every peer's loss and gradients with plain torch in float64; return the largest errors.

    Raises:
        AssertionError: if one is above what its arithmetic explains.
    """
    worst: dict[str, float] = {}
    shapes = ((70, 150, 40), (70, 210, 256))
    for size in (Size(*shape, dtype) for shape in shapes for dtype in (torch.float32, torch.bfloat16)):
        inputs = loss_inputs(size, device, 1)
        exact = (*(tensor.detach().double().requires_grad_() for tensor in inputs[:4]), inputs[4])
        loss = plain_loss(*exact).mean()
        expected = [loss, *torch.autograd.grad(loss, exact[:4])]
        for name, peer in loss_peers(device, size).items():
            if name in OTHER_LOSSES:
                peer(inputs)()
                continue
            if name == "3 products by hand" and size.dtype == torch.bfloat16:
                continue  # its weights are bfloat16 numbers below 2^-8
            tolerance = 1e-4 if size.dtype == torch.float32 else 0.05
            for found, right in zip(peer(inputs)(), expected, strict=True):
                error = float((found.detach().double() - right.detach()).abs().max() / right.detach().abs().max())
                assert error <= tolerance, f"{name}, {size}: expected an error of at most {tolerance}, got {error}"
                worst[f"{name}, {size}"] = max(error, worst.get(f"{name}, {size}", 0.0))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--check", action="store_true", help="compare the peers with plain torch instead")
    parser.add_argument("--until", type=float, default=1e9, metavar="SECONDS", help="measure no longer than this")
    parser.add_argument("--out", type=Path, required=True, help="results file, written after each measurement")
    options = parser.parse_args()
    if options.check:
        options.out.write_text(json.dumps(check_peers(options.device), indent=1) + "\n")
        return
    results = Results(options.device, options.out, options.until)
    seconds = 0.06 if options.device == "cuda" else 0.01
    spectrogram_times(results, seconds)
    loss_times(results, seconds)


if __name__ == "__main__":
    main()
