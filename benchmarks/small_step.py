"""Where a loss step of 64 anchors spends its time, and what other ways to dispatch it cost.

Run: `python -m benchmarks.small_step`. Figures are processor time of one thread, in µs, medians of interleaved rounds:
other work on the machine lengthens them less than wall-clock time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench_contrastive_loss import inputs_of, limit_seconds
from benchmarks.contrastive_loss_peers import by_autograd, eager
from usvs.ops import contrastive_loss
from usvs.ops.contrastive_loss import _backward_from_slopes, _LossesWithSlopes, _with_slopes

ANCHORS, WIDTH = 64, 128
SETTINGS = (1.0, 1.0, "eq2", None)


class _LayerNorm(torch.autograd.Function):
    """torch's layer norm as a Python node: what it costs beyond torch's own node is the cost of such a node."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            result, *kept = torch.native_layer_norm(rows, [rows.shape[1]], weight, bias, 1e-5)
        ctx.save_for_backward(rows, weight, bias, *kept)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, weight, bias, *kept = ctx.saved_tensors
        return torch.ops.aten.native_layer_norm_backward.default(
            grad.contiguous(), rows, [rows.shape[1]], *kept, weight, bias, [True] * 3
        )


def contenders() -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name."""
    inputs = inputs_of(ANCHORS, WIDTH, torch.float32, "cpu")
    plain = [tensor.detach() for tensor in inputs]
    kept = _with_slopes(*plain, *SETTINGS)[1]
    grad = torch.tensor(1 / ANCHORS).expand(ANCHORS)
    small = [torch.randn(*shape).requires_grad_() for shape in ((64, 8), (8,), (8,))]
    without_wrapper = super(torch.autograd.Function, _LossesWithSlopes).apply
    return {
        "torch eager": eager(inputs),
        "usvs": by_autograd(contrastive_loss, inputs),
        "usvs, Function.apply without its Python wrapper": by_autograd(
            lambda *x: without_wrapper(*x, *SETTINGS), inputs
        ),
        "usvs, register_autograd": by_autograd(lambda *x: _with_slopes(*x, *SETTINGS)[0], inputs),
        "forward op alone": lambda: _with_slopes(*plain, *SETTINGS),
        "backward op alone": lambda: _backward_from_slopes(grad, *plain, kept, *SETTINGS),
        "mean and its gradient": lambda: torch.autograd.grad(small[0].mean(), small[:1]),
        "layer norm 64 x 8, C++ node": lambda: torch.autograd.grad(
            torch.layer_norm(small[0], [8], small[1], small[2]).mean(), small
        ),
        "layer norm 64 x 8, Python node": lambda: torch.autograd.grad(_LayerNorm.apply(*small).mean(), small),
    }


def measure(rounds: int, calls: int = 50) -> dict[str, float]:
    """Return the processor time of each contender, in µs."""
    functions = contenders()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            begin = time.thread_time()
            for _ in range(calls):
                function()
            times[name].append((time.thread_time() - begin) / calls * 1e6)
    return {name: round(statistics.median(found[1:]), 1) for name, found in times.items()}


def main() -> None:
    """Print one line for each contender, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.rounds)
    limit = limit_seconds(ANCHORS, WIDTH, torch.float32, "cpu")
    if limit:
        found["limit of the machine: three products"] = round(limit * 1e6, 1)
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, microseconds in found.items():
            print(f"{microseconds:8.1f} µs  {name}")


if __name__ == "__main__":
    main()
