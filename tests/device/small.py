"""Parts of tests/device/check.sh: each op once against its reference, a captured graph, repeated sums, a million rows.

    python -m tests.device.small PART --device cuda --out FILE

It needs torch and numpy, no pytest and nothing of the extras. A part that fails raises; what it measured goes to FILE.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.support.contrastive_inputs import embeddings, some_index
from usvs.ops import (
    build_info,
    contrastive_loss,
    contrastive_loss_reference,
    log_spectrogram,
    log_spectrogram_reference,
    ring_contrastive_loss,
)

Measured = dict[str, object]


def with_gradients(op: Callable[..., Tensor], leaves: list[Tensor], *rest: object) -> list[Tensor]:
    """Return a result and the gradients of its weighted sum."""
    result = op(*leaves, *rest)
    weights = torch.linspace(0.5, 1.5, len(result), device=result.device, dtype=result.dtype)
    total = (result.flatten(1).sum(dim=1) if result.dim() > 1 else result) @ weights
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


def check_close(name: str, found: list[Tensor], expected: list[Tensor], relative: float) -> float:
    """Return the largest error relative to the largest value of a tensor.

    Raises:
        AssertionError: if it is above `relative`.
    """
    worst = 0.0
    for got, right in zip(found, expected, strict=True):
        error = (got.double().cpu() - right.double().cpu()).abs().max()
        worst = max(worst, float(error / right.abs().max().cpu().clamp_min(1e-6)))
    assert worst <= relative, f"{name}: expected an error of at most {relative}, got {worst}"
    return worst


def ops(device: str) -> Measured:
    """Every op once, forward and backward, against its reference in float64."""
    measured: Measured = {"build": build_info(), "device": device_name(device)}
    for dtype, relative in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        for form in ("eq2", "ntxent", "logsumexp"):
            for shape in ((64, 192, 128), (37, 300, 200)):
                tensors, index = loss_inputs(shape, dtype, device)
                temperature = torch.tensor(0.5, device=device)
                exact = [tensor.detach().cpu().double().requires_grad_() for tensor in tensors]
                found = with_gradients(contrastive_loss, tensors, index, temperature, 1.0, form)
                right = with_gradients(contrastive_loss_reference, exact, index.cpu(), 0.5, 1.0, form)
                name = f"contrastive_loss {dtype} {form} {shape}"
                measured[name] = check_close(name, found, right, relative)
    tensors, index = loss_inputs((64, 192, 128), torch.float32, device)
    alone = ring_contrastive_loss(*tensors, index)
    assert torch.equal(alone, contrastive_loss(*tensors, index)), "a ring of one rank is the loss itself"
    waveform = 0.1 * torch.randn(4, 14_400, generator=torch.Generator().manual_seed(1))
    found = with_gradients(log_spectrogram, [waveform.to(device).requires_grad_()])
    right = with_gradients(log_spectrogram_reference, [waveform.double().requires_grad_()])
    measured["log_spectrogram"] = check_close("log_spectrogram", found, right, 1e-2)
    return measured


def tiny(device: str) -> Measured:
    """Small shapes of every kernel, for compute-sanitizer and ncu."""
    for dtype in (torch.float32, torch.bfloat16):
        for shape in ((6, 33, 7), (130, 70, 132), (3, 900, 20)):
            tensors, index = loss_inputs(shape, dtype, device)
            with_gradients(contrastive_loss, tensors, index)
    for n_fft in (64, 512, 4096):
        waveform = 0.1 * torch.randn(2, 2 * n_fft + 77, device=device)
        with_gradients(log_spectrogram, [waveform.requires_grad_()], n_fft, n_fft // 2, 100, 40)
    if device == "cuda":
        torch.cuda.synchronize()
    return {}


def graph(device: str) -> Measured:
    """Capture both passes into a CUDA graph without running them before, and replay it."""
    tensors, index = loss_inputs((20, 3000, 128), torch.float32, device)
    waveform = 0.1 * torch.randn(2, 14_400, device=device)
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
    return {}


def join(device: str) -> Measured:
    """The same bits 200 times, where many blocks add to the same rows."""
    repeats = 200 if device == "cuda" else 5
    for dtype in (torch.float32, torch.bfloat16):
        tensors, index = loss_inputs((32, 20_000, 128), dtype, device)
        first = with_gradients(contrastive_loss, tensors, index)
        for _ in range(repeats):
            for got, right in zip(with_gradients(contrastive_loss, tensors, index), first, strict=True):
                assert torch.equal(got, right), "expected the same bits in every run"
    return {"repeats": repeats}


def million(device: str) -> Measured:
    """A step of a million anchors: its time and the memory beside the inputs."""
    rows = 1_000_000 if device == "cuda" else 2000
    tensors = [torch.randn(rows, 128, device=device).mul_(0.1).requires_grad_() for _ in range(4)]
    index = torch.arange(rows, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    begin = time.perf_counter()
    loss = contrastive_loss(*tensors, index).mean()
    loss.backward()
    value = float(loss.detach())  # waits
    measured: Measured = {"rows": rows, "seconds": time.perf_counter() - begin, "loss": value}
    if device == "cuda":
        measured["bytes"] = torch.cuda.max_memory_allocated() - before
        assert torch.cuda.max_memory_allocated() - before <= 2.5e9
    return measured


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU (rehearsal)"


def results(folder: Path) -> int:
    """Write results.json and results.md from what the parts left; return the number of parts that failed."""
    rows = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    parts = []
    for name, status, seconds, limit in rows:
        outcome = {"0": "passed", "124": "too slow", "137": "too slow"}.get(status, f"failed ({status})")
        file = folder / f"{name}.json"
        measured = json.loads(file.read_text()) if file.exists() else None
        parts.append(
            {"part": name, "outcome": outcome, "seconds": int(seconds), "limit": int(limit), "measured": measured}
        )
    (folder / "results.json").write_text(json.dumps({"parts": parts}, indent=1) + "\n")
    lines = ["| part | outcome | seconds | limit |", "|---|---|---|---|"]
    lines += [f"| {part['part']} | {part['outcome']} | {part['seconds']} | {part['limit']} |" for part in parts]
    (folder / "results.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return sum(part["outcome"] != "passed" for part in parts)


PARTS = {"ops": ops, "tiny": tiny, "graph": graph, "join": join, "million": million}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "results"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, help="file of what was measured; for `results` the folder")
    options = parser.parse_args()
    if options.part == "results":
        return results(options.out)
    measured = PARTS[options.part](options.device)
    if options.out:
        options.out.write_text(json.dumps(measured, indent=1, default=str) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
