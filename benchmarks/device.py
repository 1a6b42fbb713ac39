"""Times of both kernels on a device against plain torch, as a part of tests/device/check.sh.

    python -m benchmarks.device --device cuda --out FILE

Device events around each call, buffers that rotate so that inputs are not in the caches, medians. On a CPU, for the
rehearsal of the script, sizes are small and the clock is the host's.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.contrastive_loss_peers import compiled, eager, three_products
from benchmarks.log_spectrogram_peers import torch_stft, torch_unfold_rfft
from tests.device.small import device_name
from usvs.ops import contrastive_loss, log_spectrogram

Run = Callable[[], object]
BUFFERS = 4
SIZES = [(32, 96), (256, 768), (2048, 6144), (8192, 24_576), (65_536, 65_536)]
LARGEST_OF_PEERS = 8192 * 24_576  # logits that plain torch may hold


def median_ms(make: Callable[[int], Run], device: str, seconds: float) -> float:
    """Return the median time of a call; make(seed) prepares one on buffers of its own."""
    runs = [make(seed) for seed in range(BUFFERS)]
    for run in runs:
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
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


def step(inputs: tuple[torch.Tensor, ...]) -> Run:
    """A forward and a backward pass of the op."""
    return lambda: torch.autograd.grad(contrastive_loss(*inputs).mean(), inputs[:4])


def loss_peers(device: str, logits: int, width: int) -> dict[str, Callable[[tuple[torch.Tensor, ...]], Run]]:
    """Return who is measured at a size: plain torch where its logits fit, torch.compile where compiling pays."""
    peers: dict[str, Callable[[tuple[torch.Tensor, ...]], Run]] = {"usvs": step}
    if logits <= LARGEST_OF_PEERS:
        peers |= {"torch eager": eager, "3 products by hand": three_products}
    if device == "cuda" and width == 128 and logits <= LARGEST_OF_PEERS:
        peers["torch.compile"] = compiled
    return peers


def loss_times(device: str, seconds: float) -> dict[str, float]:
    """Return the times of a step of the loss, by name and size."""
    sizes, widths = (SIZES, (128, 512, 1024)) if device == "cuda" else (SIZES[:1], (128,))
    found = {}
    for width, (n, m), dtype in itertools.product(widths, sizes, (torch.float32, torch.bfloat16)):

        def inputs(seed: int, n: int = n, m: int = m, width: int = width, dtype: torch.dtype = dtype) -> tuple:
            torch.manual_seed(seed)
            rows = [F.normalize(torch.randn(count, width, device=device)).to(dtype) for count in (n, n, n, m)]
            return *(tensor.requires_grad_() for tensor in rows), torch.arange(n, device=device)

        for name, peer in loss_peers(device, n * m, width).items():
            label = f"loss, {name}, {dtype}, n = {n}, M = {m}, d = {width}"
            try:
                found[label] = median_ms(lambda seed, p=peer, i=inputs: p(i(seed)), device, seconds)
            except RuntimeError as error:
                print(f"{label}: {str(error).splitlines()[0]}")
            print(label, found.get(label), flush=True)
    return found


def spectrogram_times(device: str, seconds: float) -> dict[str, float]:
    """Return the times of the forward pass of the log-spectrogram, by name and clips."""
    peers: dict[str, Callable[[torch.Tensor], Run]] = {
        "usvs": lambda waveform: lambda: log_spectrogram(waveform),
        "torch.stft chain": torch_stft,
        "unfold + rfft": torch_unfold_rfft,
    }
    found = {}
    for clips in (1, 64, 256) if device == "cuda" else (2,):

        def waveform(seed: int, clips: int = clips) -> torch.Tensor:
            torch.manual_seed(seed)
            return 0.1 * torch.randn(clips, 14_400, device=device)

        for name, peer in peers.items():
            label = f"log-spectrogram, {name}, {clips} clips"
            found[label] = median_ms(lambda seed, p=peer, w=waveform: p(w(seed)), device, seconds)
            print(label, found[label], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, required=True, help="results file, written after each kernel")
    options = parser.parse_args()
    seconds = 0.15 if options.device == "cuda" else 0.01
    results: dict[str, object] = {"device": device_name(options.device), "unit": "ms, median"}
    for measure in (spectrogram_times, loss_times):
        results |= measure(options.device, seconds)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
