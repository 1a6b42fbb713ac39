"""Parts of tests/device/check.sh: each op once against its reference, a captured graph, repeated sums, a million rows.

    python -m tests.device.small PART --device cuda --out FILE

It needs torch and numpy, no pytest and nothing of the extras. A part that fails raises; what it measured goes to FILE.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.support.contrastive_inputs import embeddings, some_index
from usvs.errors import MissingDependencyError
from usvs.ops import (
    build_info,
    contrastive_loss,
    contrastive_loss_reference,
    log_spectrogram,
    log_spectrogram_reference,
    ring_contrastive_loss,
)

Measured = dict[str, object]
# Sizes of the loss, whose purpose tests/device/test_plans.py checks. A panel of weights for the anchors' gradients does
# not have all columns: sums are carried to the next. The sums of a row are added in two levels.
CARRIED, JOINED = (1024, 8400, 136), (3, 9000, 20)


def with_gradients(op: Callable[..., Tensor], leaves: list[Tensor], *rest: object) -> list[Tensor]:
    """Return a result and the gradients of its weighted sum."""
    result = op(*leaves, *rest)
    weights = torch.linspace(0.5, 1.5, len(result), device=result.device, dtype=result.dtype)
    # No product of matrices: cuBLAS starts up at its first one, which a graph that is being captured does not allow.
    total = ((result.flatten(1).sum(dim=1) if result.dim() > 1 else result) * weights).sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    zeros = (
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    )
    return [result.detach(), *zeros]


def loss_inputs(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> tuple[list[Tensor], Tensor]:
    """Return embeddings on a device and the indices of the anchors among the candidates."""
    n, m, d = shape
    tensors = [tensor.detach().to(device).requires_grad_() for tensor in embeddings(n, m, d, dtype, scale=1.7)]
    return tensors, some_index(n, m).to(device)


def largest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest error relative to the largest value of a tensor; infinite where a value is not finite."""
    worst = 0.0
    for got, right in zip(found, expected, strict=True):
        error = (got.double().cpu() - right.double().cpu()).abs().max()
        relative = float(error / right.abs().max().cpu().clamp_min(1e-6))
        worst = max(worst, relative if math.isfinite(relative) else math.inf)
    return worst


def ops(device: str, measured: Measured) -> None:
    """Every op once, forward and backward, against its reference in float64; fails after all were measured."""
    measured |= {"build": built(), "device": device_name(device)}
    too_large = []

    def check(name: str, found: list[Tensor], expected: list[Tensor], relative: float) -> None:
        measured[name] = error = largest_error(found, expected)
        if error > relative:
            too_large.append(f"{name}: expected an error of at most {relative}, got {error}")

    for dtype, relative in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        for form in ("eq2", "ntxent", "logsumexp"):
            shapes = [(64, 192, 128), (37, 300, 200), (150, 260, 512)]
            if device == "cuda" and form == "eq2":
                shapes.append(CARRIED)
            for shape in shapes:
                tensors, index = loss_inputs(shape, dtype, device)
                temperature = torch.tensor(0.5, device=device)
                exact = [tensor.detach().cpu().double().requires_grad_() for tensor in tensors]
                found = with_gradients(contrastive_loss, tensors, index, temperature, 1.0, form)
                right = with_gradients(contrastive_loss_reference, exact, index.cpu(), 0.5, 1.0, form)
                check(f"contrastive_loss {dtype} {form} {shape}", found, right, relative)
    tensors, index = loss_inputs((64, 192, 128), torch.float32, device)
    alone = ring_contrastive_loss(*tensors, index)
    if not torch.equal(alone, contrastive_loss(*tensors, index)):
        too_large.append("ring_contrastive_loss: expected the loss itself of a ring of one rank")
    waveform = 0.1 * torch.randn(4, 14_400, generator=torch.Generator().manual_seed(1))
    found = with_gradients(log_spectrogram, [waveform.to(device).requires_grad_()])
    right = with_gradients(log_spectrogram_reference, [waveform.double().requires_grad_()])
    check("log_spectrogram", found, right, 1e-2)
    assert not too_large, "\n".join(too_large)


def tiny(device: str, measured: Measured) -> None:
    """Small shapes of every kernel, for compute-sanitizer."""
    for dtype in (torch.float32, torch.bfloat16):
        for shape in ((6, 33, 7), (130, 70, 132), (3, 900, 20), JOINED, (20, 140, 264)):
            tensors, index = loss_inputs(shape, dtype, device)
            with_gradients(contrastive_loss, tensors, index)
    for n_fft in (64, 512, 4096):
        waveform = 0.1 * torch.randn(2, 2 * n_fft + 77, device=device)
        with_gradients(log_spectrogram, [waveform.requires_grad_()], n_fft, n_fft // 2, 100, 40)
    if device == "cuda":
        torch.cuda.synchronize()


def profiled(device: str, measured: Measured) -> None:
    """Every kernel once at a size that fills a device, for ncu, which runs a kernel many times."""
    is_device = device == "cuda"
    clips = 256 if is_device else 2
    waveform = 0.1 * torch.randn(clips, 14_400, device=device)
    with_gradients(log_spectrogram, [waveform.requires_grad_()])
    for dtype in (torch.bfloat16, torch.float32):
        # At width 512 one panel of weights for each side; of 2048 rows there would be several, and more launches.
        for width, rows in ((128, 2048), (512, 1024)):
            rows = rows if is_device else 32
            tensors, index = loss_inputs((rows, 3 * rows, width), dtype, device)
            with_gradients(contrastive_loss, tensors, index)
    if is_device:
        torch.cuda.synchronize()


def graph(device: str, measured: Measured) -> None:
    """Capture both passes into a CUDA graph without running them before, and replay it."""
    tensors, index = loss_inputs((20, 3000, 128), torch.float32, device)
    waveform = 0.1 * torch.randn(2, 14_400, device=device)
    torch.autograd.grad((tensors[0] * 2).sum(), tensors[0])  # starts autograd's thread
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        losses = with_gradients(contrastive_loss, tensors, index)
        spectrogram = log_spectrogram(waveform)
    captured.replay()
    torch.cuda.synchronize()
    for got, right in zip(losses, with_gradients(contrastive_loss, tensors, index), strict=True):
        assert torch.equal(got, right), "a replayed graph: expected the bits of a launch"
    assert torch.equal(spectrogram, log_spectrogram(waveform))


def join(device: str, measured: Measured) -> None:
    """The same bits 200 times, where many blocks add to the same rows."""
    measured["repeats"] = repeats = 200 if device == "cuda" else 5
    for dtype in (torch.float32, torch.bfloat16):
        for width in (128, 300):
            tensors, index = loss_inputs((32, 20_000 if device == "cuda" else 3000, width), dtype, device)
            first = with_gradients(contrastive_loss, tensors, index)
            for _ in range(repeats):
                for got, right in zip(with_gradients(contrastive_loss, tensors, index), first, strict=True):
                    assert torch.equal(got, right), "expected the same bits in every run"


def million(device: str, measured: Measured) -> None:
    """A step of a million anchors: its time and the memory beside the inputs; bfloat16 first, which takes less time."""
    rows = 1_000_000 if device == "cuda" else 2000
    for dtype in (torch.bfloat16, torch.float32):
        tensors = [torch.randn(rows, 128, device=device).mul_(0.1).to(dtype).requires_grad_() for _ in range(4)]
        index = torch.arange(rows, device=device)
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        begin = time.perf_counter()
        loss = contrastive_loss(*tensors, index).mean()
        loss.backward()
        entry: Measured = {"rows": rows, "loss": float(loss.detach())}  # waits for the forward pass
        if device == "cuda":
            torch.cuda.synchronize()
            entry["bytes"] = torch.cuda.max_memory_allocated() - before
        entry["seconds"] = time.perf_counter() - begin
        measured[str(dtype)] = entry
        print(dtype, entry, flush=True)
        assert device == "cpu" or torch.cuda.max_memory_allocated() - before <= 2.5e9
        del tensors, loss


def built() -> dict[str, object] | str:
    """Return how the libraries were built, or why that is unknown: the ops work where usvs._C cannot be built."""
    try:
        return build_info()
    except MissingDependencyError as error:
        return str(error)


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU (rehearsal)"


PARTS = {"ops": ops, "tiny": tiny, "profiled": profiled, "graph": graph, "join": join, "million": million}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, help="file of what was measured")
    options = parser.parse_args()
    measured: Measured = {}
    try:
        PARTS[options.part](options.device, measured)
    finally:
        if options.out:
            options.out.write_text(json.dumps(measured, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
