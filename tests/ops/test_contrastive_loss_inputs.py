"""The contrastive loss: strides, threads, memory, saved tensors, and arguments that it refuses."""

import math
from pathlib import Path

import pytest
import torch

from tests.support.contrastive_inputs import embeddings, gradients_of, some_index
from usvs.ops import contrastive_loss


def test_autograd_checks_the_saved_tensors():
    tensors, index = embeddings(4, 9, 8, torch.float32), torch.arange(4)
    losses = contrastive_loss(*tensors, index)
    losses.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        losses.sum().backward()
    losses = contrastive_loss(*tensors, index)
    with torch.no_grad():
        tensors[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()


def test_inputs_may_have_any_strides():
    tensors, index = embeddings(20, 60, 16, torch.float32), some_index(40, 60)[::2]
    strided = [tensor.detach().repeat_interleave(2, dim=1)[:, ::2] for tensor in tensors]
    assert not strided[0].is_contiguous() and not index.is_contiguous()
    assert torch.equal(contrastive_loss(*strided, index), contrastive_loss(*tensors, index))
    turned = [tensor.detach().t().contiguous().t().requires_grad_() for tensor in tensors]
    weights = torch.ones(20)
    for got, expected in zip(
        gradients_of(contrastive_loss(*turned, index), turned, weights),
        gradients_of(contrastive_loss(*tensors, index), tensors, weights),
        strict=True,
    ):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_the_losses_may_have_any_stride(dtype: torch.dtype):
    tensors, index = embeddings(7, 20, 8, dtype), some_index(7, 20)
    doubled = torch.linspace(0.5, 1.5, 14, dtype=dtype)
    losses = contrastive_loss(*tensors, index)
    for strided in (doubled[::2], doubled[:1].expand(7), doubled.flip(0)[::2]):
        got = torch.autograd.grad(losses, tensors, strided, retain_graph=True)
        expected = torch.autograd.grad(losses, tensors, strided.contiguous(), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_the_similarity_of_an_anchor_with_itself_does_not_shift_the_exponentials(simd: str):
    # e^(0.1 - 900) is nothing: were 900 subtracted, no candidate would have a weight.
    anchors = torch.zeros(40, 40).fill_diagonal_(30.0)
    candidates = torch.cat([anchors, torch.full((300, 40), 1 / 300)]).requires_grad_()
    zeros = torch.zeros_like(anchors)
    losses = contrastive_loss(anchors, zeros, zeros, candidates, torch.arange(40), form="ntxent")
    others = torch.tensor(39.0).add(300 * math.exp(0.1)).log()
    torch.testing.assert_close(losses, others.expand(40))
    assert torch.equal(
        contrastive_loss(anchors, zeros, zeros, candidates.detach(), torch.arange(40), form="ntxent"), losses
    )
    (gradient,) = torch.autograd.grad(losses.sum(), candidates)
    torch.testing.assert_close(gradient[-1], (30 * (0.1 - others).exp()).expand(40))


def test_no_anchors():
    tensors = embeddings(0, 5, 3, torch.float32)
    losses = contrastive_loss(*tensors, torch.zeros(0, dtype=torch.int64))
    assert losses.shape == (0,)
    gradients = gradients_of(losses, tensors, torch.zeros(0))
    assert gradients[3].shape == (5, 3) and (gradients[3] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_for_any_number_of_threads(dtype: torch.dtype):
    tensors, index = embeddings(600, 9000, 24, dtype), some_index(600, 9000)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        losses = contrastive_loss(*tensors, index)
        results.append([losses, *gradients_of(losses, tensors, torch.linspace(0, 1, 600))])
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_memory_stays_below_the_matrix_of_similarities():
    resource = pytest.importorskip("resource", reason="peak memory is read through a Unix module")
    n = 6000  # n x 3 n float32 similarities would be 430 MB
    tensors = embeddings(n, 3 * n, 8, torch.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    contrastive_loss(*tensors, torch.arange(n)).mean().backward()
    added_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert added_mib < 60, f"{added_mib:.0f} MiB"


def peak_mib_since_reset() -> float:
    """The largest resident set since `/proc/self/clear_refs` was written."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_memory_without_gradients_does_not_grow_with_the_rows():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is reset and read through /proc")
    n = 4_000_000  # 12 bytes for each row and 8064 candidates would be 46 MiB
    rows, index = torch.zeros(n, 1), torch.full((n,), -1)
    contrastive_loss(rows[:600], rows[:600], rows[:600], rows[:2], index[:600])
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mib_since_reset()
    contrastive_loss(rows, rows, rows, rows[:2], index)
    results = 2 * 4 * n / 2**20  # losses and logsumexp
    assert peak_mib_since_reset() - before < results + 12


def fitting() -> dict:
    names = ("anchors", "positives", "hard_negatives", "candidates")
    return {**dict(zip(names, embeddings(4, 9, 8, torch.float32), strict=True)), "self_index": torch.arange(4)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positives": torch.zeros(4, 7)}, r"positives: expected shape \[4, 8\], got \[4, 7\]"),
        ({"hard_negatives": torch.zeros(3, 8)}, r"hard_negatives: expected shape \[4, 8\], got \[3, 8\]"),
        ({"candidates": torch.zeros(9)}, r"candidates: expected shape \[any, 8\], got \[9\]"),
        ({"candidates": torch.zeros(9, 8, dtype=torch.float64)}, "candidates: expected Float, got Double"),
        ({"self_index": torch.arange(3)}, r"self_index: expected shape \[4\], got \[3\]"),
        ({"self_index": torch.arange(4).int()}, "self_index: expected Long, got Int"),
        ({"self_index": torch.tensor([0, 1, 2, 9])}, r"self_index: expected -1 \.\.\. 8, got 9"),
        ({"self_index": torch.tensor([0, 1, 2, -2])}, r"self_index: expected -1 \.\.\. 8, got -2"),
        (
            {"candidates": torch.zeros(1, 8), "self_index": torch.zeros(4, dtype=torch.int64)},
            r"candidates: expected a row beside the anchor itself, got only the anchor itself \(row 0\)",
        ),
        ({"candidates": torch.zeros(0, 8)}, "candidates: expected at least one row, got none"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, got 0"),
        ({"margin_floor": -1.0}, "margin_floor: expected a finite number above 0, got -1"),
        ({"form": "eq3"}, "form: expected 'eq2', 'ntxent' or 'logsumexp', got 'eq3'"),
    ],
)
def test_invalid_arguments_raise(arguments: dict, message: str):
    with pytest.raises(RuntimeError, match="usvs::contrastive_loss: " + message):
        contrastive_loss(**{**fitting(), **arguments})


def test_float16_raises():
    tensors = [tensor.detach().half() for tensor in embeddings(4, 9, 8, torch.float32)]
    with pytest.raises(RuntimeError, match="anchors: expected float32, float64 or bfloat16, got Half"):
        contrastive_loss(*tensors, torch.arange(4))
