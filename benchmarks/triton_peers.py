"""Peers of the contrastive loss in Triton, written for this benchmark in the manner of two published libraries.

- `row_chunks_fused`: as Liger-Kernel's fused linear cross entropy (Hsu et al., 2024, arXiv:2410.10989): the logits of
  some rows by torch, one kernel that turns them into their gradient in place, two products by torch.
- `tiles`: as Inf-CL (Cheng et al., 2024, arXiv:2410.17243): no logits in memory; a kernel for the logsumexp, and one
  for each side's gradient that computes the logits again.

Neither is the library's own code. TRITON_INTERPRET=1 executes the kernels on the CPU.
"""

# Triton reads the annotations of a kernel's parameters.
# ruff: noqa: ANN001, ANN202

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchmarks.contrastive_loss_peers import Inputs, Step, by_autograd
from usvs.ops.contrastive_loss_reference import pair_terms

SLICE = 128  # columns of the width whose gradient a program holds
CHUNK_BYTES = 2**28  # of the logits that `row_chunks_fused` holds at a time


@triton.jit
def _similarities(x, y, rows, columns, row_count, column_count, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                  DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    found = tl.zeros([ROWS, COLUMNS], tl.float32)
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        a = tl.load(x + rows[:, None] * width + k[None, :],
                    mask=(rows[:, None] < row_count) & (k[None, :] < width), other=0.0)  # fmt: skip
        b = tl.load(y + columns[None, :] * width + k[:, None],
                    mask=(columns[None, :] < column_count) & (k[:, None] < width), other=0.0)  # fmt: skip
        found = tl.dot(a, b, found, input_precision=PRECISION)
    return found


@triton.jit
def _logsumexp_kernel(anchors, candidates, own, sums, n, m, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                      DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    self_index = tl.load(own + rows, mask=rows < n, other=-1)
    largest = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for begin in range(0, m, COLUMNS):
        columns = begin + tl.arange(0, COLUMNS).to(tl.int64)
        x = _similarities(anchors, candidates, rows, columns, n, m, width, ROWS, COLUMNS, DEPTH, PRECISION)
        x = tl.where((columns[None, :] < m) & (columns[None, :] != self_index[:, None]), x, -float("inf"))
        higher = tl.maximum(largest, tl.max(x, 1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(x - higher[:, None]), 1)
        largest = higher
    tl.store(sums + rows, largest + tl.log(total), mask=rows < n)


@triton.jit
def _gradient_kernel(x, y, own, sums, grad, out, row_count, column_count, width, ANCHORS: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, SLICE: tl.constexpr,
                     PRECISION: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * SLICE + tl.arange(0, SLICE)
    gradient = tl.zeros([ROWS, SLICE], tl.float32)
    if ANCHORS:
        row_self = tl.load(own + rows, mask=rows < row_count, other=-1)
        row_sum = tl.load(sums + rows, mask=rows < row_count, other=float("inf"))
        row_weight = tl.load(grad + rows, mask=rows < row_count, other=0.0)
    for begin in range(0, column_count, COLUMNS):
        columns = begin + tl.arange(0, COLUMNS).to(tl.int64)
        inside = columns < column_count
        logits = _similarities(x, y, rows, columns, row_count, column_count, width, ROWS, COLUMNS, DEPTH, PRECISION)
        if ANCHORS:
            weights = tl.exp(logits - row_sum[:, None]) * row_weight[:, None]
            weights = tl.where(inside[None, :] & (columns[None, :] != row_self[:, None]), weights, 0.0)
        else:
            column_self = tl.load(own + columns, mask=inside, other=-1)
            column_sum = tl.load(sums + columns, mask=inside, other=float("inf"))
            column_weight = tl.load(grad + columns, mask=inside, other=0.0)
            weights = tl.exp(logits - column_sum[None, :]) * column_weight[None, :]
            weights = tl.where(rows[:, None] != column_self[None, :], weights, 0.0)
        values = tl.load(y + columns[:, None] * width + k[None, :],
                         mask=inside[:, None] & (k[None, :] < width), other=0.0)  # fmt: skip
        gradient = tl.dot(weights.to(values.dtype), values, gradient, input_precision=PRECISION)
    tl.store(out + rows[:, None] * width + k[None, :], gradient.to(out.dtype.element_ty),
             mask=(rows[:, None] < row_count) & (k[None, :] < width))  # fmt: skip


@triton.jit
def _gradient_in_place_kernel(logits, own, sums, first, m, scale, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    self_index = tl.load(own + first + row)
    largest = -1e30
    total = 0.0
    for begin in range(0, m, BLOCK):
        columns = begin + tl.arange(0, BLOCK)
        x = tl.load(logits + row * m + columns, mask=(columns < m) & (columns != self_index), other=-float("inf"))
        higher = tl.maximum(largest, tl.max(x.to(tl.float32), 0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(x.to(tl.float32) - higher), 0)
        largest = higher
    logsumexp = largest + tl.log(total)
    tl.store(sums + first + row, logsumexp)
    for begin in range(0, m, BLOCK):
        columns = begin + tl.arange(0, BLOCK)
        x = tl.load(logits + row * m + columns, mask=(columns < m) & (columns != self_index), other=-float("inf"))
        weights = tl.exp(x.to(tl.float32) - logsumexp) * scale
        tl.store(logits + row * m + columns, weights.to(logits.dtype.element_ty), mask=columns < m)


def _launch_sizes(dtype: torch.dtype) -> dict[str, Any]:
    if dtype == torch.bfloat16:
        return {"ROWS": 128, "COLUMNS": 64, "DEPTH": 64, "PRECISION": "ieee", "num_warps": 8, "num_stages": 3}
    return {"ROWS": 64, "COLUMNS": 64, "DEPTH": 32, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 2}


class _Tiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        (n, width), m = anchors.shape, len(candidates)
        sums = anchors.new_empty(n, dtype=torch.float32)
        sizes = _launch_sizes(anchors.dtype)
        _logsumexp_kernel[(triton.cdiv(n, sizes["ROWS"]),)](anchors, candidates, own, sums, n, m, width, **sizes)
        ctx.save_for_backward(anchors, candidates, own, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        anchors, candidates, own, sums = ctx.saved_tensors
        grad, width = grad.contiguous(), anchors.shape[1]
        sizes = _launch_sizes(anchors.dtype)
        found = []
        for x, y, are_anchors in ((anchors, candidates, True), (candidates, anchors, False)):
            out = torch.empty_like(x)
            grid = (triton.cdiv(len(x), sizes["ROWS"]), triton.cdiv(width, SLICE))
            _gradient_kernel[grid](
                x, y, own, sums, grad, out, len(x), len(y), width, ANCHORS=are_anchors, SLICE=SLICE, **sizes
            )
            found.append(out)
        return found[0], found[1], None


class _RowChunks(torch.autograd.Function):
    """The logsumexp's mean, whose gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        n, m = len(anchors), len(candidates)
        sums = anchors.new_empty(n, dtype=torch.float32)
        anchors_grad = torch.empty_like(anchors)
        candidates_grad = torch.zeros_like(candidates, dtype=torch.float32)
        rows = max(1, min(n, CHUNK_BYTES // (m * anchors.element_size())))
        for first in range(0, n, rows):
            v = anchors[first : first + rows]
            logits = v @ candidates.T
            block = min(8192, triton.next_power_of_2(m))
            _gradient_in_place_kernel[(len(v),)](logits, own, sums, first, m, 1 / n, BLOCK=block, num_warps=8)
            torch.mm(logits, candidates, out=anchors_grad[first : first + rows])
            candidates_grad += logits.T @ v
        ctx.save_for_backward(anchors_grad, candidates_grad.to(candidates.dtype))
        return sums.mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        anchors_grad, candidates_grad = ctx.saved_tensors
        return anchors_grad * grad.to(anchors_grad.dtype), candidates_grad * grad.to(candidates_grad.dtype), None


def _with_pairs(logsumexp: Callable[..., Tensor], inputs: Inputs) -> Step:
    def loss(anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        pairs = pair_terms(anchors.float(), positives.float(), negatives.float(), 1.0, 1.0, "eq2")
        return logsumexp(anchors, candidates, own).mean() + pairs.mean()

    return by_autograd(loss, inputs)


def tiles(inputs: Inputs) -> Step:
    """In the manner of Inf-CL."""
    return _with_pairs(_Tiles.apply, inputs)


def row_chunks_fused(inputs: Inputs) -> Step:
    """In the manner of Liger-Kernel."""
    return _with_pairs(_RowChunks.apply, inputs)
