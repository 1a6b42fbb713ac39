"""`usvs.ops.contrastive_loss`, a training step forward and backward, compared with other implementations.

Run: `python -m pytest benchmarks/bench_contrastive_loss.py --benchmark-json FILE`, then
`python -m benchmarks.table FILE`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contrastive_loss_peers import OTHER_LOSS, PEERS, Inputs, by_autograd
from benchmarks.interleaved import Comparison
from benchmarks.machine_limits import machine_limits
from usvs.ops import contrastive_loss

ROOT = Path(__file__).resolve().parents[1]
# With more anchors the peers that store all similarities do not fit into the memory of a small machine.
MAX_ANCHORS_STORED = 8192
MIB = 1 << 20


def inputs_of(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    """Return n anchors, positives and hard negatives of norm 3, with all 3 n of them as candidates."""
    generator = torch.Generator().manual_seed(0)
    video, speech, hard = (
        F.normalize(torch.randn(n, d, generator=generator), dim=1).mul(3).to(device, dtype) for _ in range(3)
    )
    candidates = torch.cat((video, speech, hard))
    leaves = [tensor.detach().requires_grad_() for tensor in (video, speech, hard, candidates)]
    return leaves[0], leaves[1], leaves[2], leaves[3], torch.arange(n, device=device)


def limit_seconds(n: int, d: int, dtype: torch.dtype, device: str) -> float | None:
    """Return what one core needs at least for the three products of matrices of a step.

    In bfloat16 the faster of its dot products and multiply-adds of float32 is the limit.
    """
    limits = machine_limits() if device == "cpu" else {}
    names = ("fma_flops", "bfloat16_flops") if dtype == torch.bfloat16 else ("fma_flops",)
    rate = max((limits[name] for name in names if name in limits), default=None)
    return 3 * 2 * n * (3 * n) * d / rate if rate else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("n", "d"), [(64, 128), (1024, 128), (8192, 128), (8192, 256)])
def bench_contrastive_loss(
    comparison: Comparison, device: str, threads: int, n: int, d: int, dtype: torch.dtype
) -> None:
    inputs = inputs_of(n, d, dtype, device)
    run_usvs = by_autograd(contrastive_loss, inputs)
    expected = run_usvs()
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4

    def check(found: list[Tensor]) -> None:
        for got, right in zip(found, expected, strict=True):
            assert (got.double() - right.double()).norm() <= tolerance * right.double().norm()

    if dtype == torch.float32:
        for name, make in PEERS.items():
            comparison.add(name, lambda make=make: make(inputs), check)
        for name, make in OTHER_LOSS.items():
            comparison.add(name, lambda make=make: make(inputs), lambda _: None)
    else:
        wide = inputs_of(n, d, torch.float32, device)
        comparison.add("usvs in float32", lambda: by_autograd(contrastive_loss, wide), lambda _: None)
        comparison.add("torch eager", lambda: PEERS["torch eager"](inputs), check)
    if n >= MAX_ANCHORS_STORED:
        comparison.rounds = min(comparison.rounds, 3)
    limit = limit_seconds(n, d, dtype, device)
    comparison.run(run_usvs, 20 if n == 64 else 1, 1, "step", limit / threads if limit else None)


MEASURE = """
import json, sys
from benchmarks.bench_contrastive_loss import inputs_of, step_of
from benchmarks.memory import memory_mib
import torch
name, n, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
step_of(name, inputs_of(64, d, torch.float32, "cpu"))()  # what loads once is not counted
inputs = inputs_of(n, d, torch.float32, "cpu")
before = memory_mib("VmHWM")
step_of(name, inputs)()
print(json.dumps(memory_mib("VmHWM") - before))
"""


def step_of(name: str, inputs: Inputs):
    """One training step of a contender by its name."""
    return by_autograd(contrastive_loss, inputs) if name == "usvs" else PEERS[name](inputs)


@pytest.mark.parametrize(
    ("n", "names"),
    [(8192, ["usvs", "torch, 3 products by hand", "torch eager"]), (32_768, ["usvs"])],
    ids=["8192", "32768"],
)
def bench_peak_memory(benchmark, device: str, n: int, names: list[str]) -> None:  # noqa: ANN001
    """MiB above the inputs of one step, d = 128, results included, each in a process of its own."""
    if device != "cpu":
        pytest.skip("read from the operating system, which does not see a GPU's memory")

    def measure() -> dict[str, float]:
        return {
            f"{name}, MiB above the inputs": json.loads(
                subprocess.run(
                    [sys.executable, "-c", MEASURE, name, str(n), "128"],
                    cwd=ROOT, capture_output=True, text=True, check=True,
                ).stdout
            )
            for name in names
        }  # fmt: skip

    benchmark.extra_info.update(benchmark.pedantic(measure, rounds=1, iterations=1))
