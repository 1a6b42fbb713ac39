"""The contrastive loss against its equation in float64, with extreme inputs, and properties of its gradient."""

import math

import pytest
import torch
from torch import Tensor

from tests.support.contrastive_inputs import embeddings, gradients_of, some_index
from usvs.ops import contrastive_loss, contrastive_loss_reference

# n, M, d: one of each; ragged against register tiles, against blocks of 256 anchors and chunks of 252 candidates.
SHAPES = [(1, 2, 1), (5, 11, 7), (64, 192, 128), (257, 515, 33), (300, 1100, 16), (3, 9000, 5)]
SETTINGS = [(1.0, 1.0, "eq2"), (0.1, 0.5, "eq2"), (0.5, 1.0, "ntxent")]


def by_the_equation(
    tensors: list[Tensor], self_index: Tensor, temperature: float, margin_floor: float, form: str
) -> Tensor:
    """The definition once more, in float64 and row by row, sharing nothing with the package."""
    anchors, positives, hard_negatives, candidates = (tensor.double() for tensor in tensors)
    losses = []
    for i in range(anchors.shape[0]):
        others = [k for k in range(candidates.shape[0]) if k != self_index[i]]
        denominator = torch.logsumexp(candidates[others] @ anchors[i] / temperature, dim=0)
        a, b = anchors[i] @ positives[i] / temperature, anchors[i] @ hard_negatives[i] / temperature
        if form == "ntxent":
            numerator = a
        elif a - b >= margin_floor:
            numerator = a + torch.log1p(-torch.exp(b - a))
        else:
            slope = math.exp(-margin_floor) / (1 - math.exp(-margin_floor))
            numerator = a + math.log(1 - math.exp(-margin_floor)) + slope * (a - b - margin_floor)
        losses.append(denominator - numerator)
    return torch.stack(losses)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_equation(settings: tuple[float, float, str]):
    tensors, index = embeddings(12, 40, 6, torch.float64, scale=2.0), some_index(12, 40)
    weights = torch.rand(12, dtype=torch.float64)
    expected = by_the_equation(tensors, index, *settings)
    margins = (tensors[0] * (tensors[1] - tensors[2])).sum(1) / settings[0]
    assert (margins > settings[1]).any() and (margins < settings[1]).any(), "both sides of the floor are met"
    for op in (contrastive_loss, contrastive_loss_reference):
        losses = op(*tensors, index, *settings)
        torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
        for got, right in zip(
            gradients_of(losses, tensors, weights), gradients_of(expected, tensors, weights), strict=True
        ):
            torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_equals_the_reference(
    simd: str, dtype: torch.dtype, shape: tuple[int, int, int], settings: tuple[float, float, str]
):
    n, m, d = shape
    tensors, index = embeddings(n, m, d, dtype, scale=1.7), some_index(n, m)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    losses, expected = (
        contrastive_loss(*tensors, index, *settings),
        contrastive_loss_reference(*exact, index, *settings),
    )
    assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():  # without gradients another code path runs, which saves nothing
        alone = contrastive_loss(*tensors, index, *settings)
    torch.testing.assert_close(alone.double(), expected, rtol=tolerance, atol=tolerance)
    # Gradients for equal weights, as of a mean, are computed in the forward pass; others in the backward pass.
    some = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for weights in (some, torch.full((n,), 0.3, dtype=torch.float64)):
        check_gradients(simd, gradients_of(losses, tensors, weights), gradients_of(expected, exact, weights))


@pytest.mark.slow
def test_equals_the_reference_against_so_many_candidates_that_blocks_are_of_32_anchors(simd: str):
    test_equals_the_reference(simd, torch.float32, (40, 140_000, 1), SETTINGS[0])


def gradient_tolerance(simd: str, dtype: torch.dtype) -> float:
    """Gradients come back in the inputs' dtype, so bfloat16 rounds them to 8 bits.

    Its dot products round two factors before, the weights, and the anchors times their scale: each by 2^-9 of a term,
    where terms of both signs partly cancel in the sum.
    """
    if dtype == torch.bfloat16:
        return 2**-7 if simd == "avx512_bf16" else 2**-8
    return 1e-10 if dtype == torch.float64 else 1e-5


def check_gradients(simd: str, found: list[Tensor], expected: list[Tensor]) -> None:
    names = ("anchors", "positives", "hard negatives", "candidates")
    for name, got, right in zip(names, found, expected, strict=True):
        error = (got.double() - right).abs().max()
        assert error <= gradient_tolerance(simd, got.dtype) * right.abs().max().clamp_min(1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_candidates_make_blocks_of_anchors_smaller(simd: str, dtype: torch.dtype):
    tensors, index = embeddings(260, 33_000, 4, dtype, scale=2.0), some_index(260, 33_000)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    losses, expected = contrastive_loss(*tensors, index), contrastive_loss_reference(*exact, index)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.ones(260, dtype=torch.float64)
    check_gradients(simd, gradients_of(losses, tensors, weights), gradients_of(expected, exact, weights))


def in_blocks(tensors: list[Tensor], index: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The reference in float64, 512 anchors at a time: losses, and the gradients of their mean."""
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    totals, losses = [torch.zeros_like(tensor) for tensor in exact], []
    for rows in range(0, len(index), 512):
        block = slice(rows, rows + 512)
        some = contrastive_loss_reference(*(x[block] for x in exact[:3]), exact[3], index[block])
        losses.append(some.detach())
        for total, gradient in zip(totals, torch.autograd.grad(some.sum() / len(index), exact), strict=True):
            total += gradient
    return torch.cat(losses), totals


@pytest.mark.slow
def test_precision_at_similarities_up_to_80():
    n = 4096
    video, speech, hard = (tensor.detach() for tensor in embeddings(n, 1, 128, torch.float32)[:3])
    tensors = [video, speech, hard, torch.cat((video, speech, hard))]
    index = torch.arange(n)
    logits = video @ tensors[3].T
    logits[index, index] = 0
    scale = (80 / logits.abs().max()).sqrt()
    tensors = [(tensor * scale).requires_grad_() for tensor in tensors]
    losses = contrastive_loss(*tensors, index)
    expected, gradients = in_blocks(tensors, index)
    assert ((losses - expected).abs() / expected.abs().clamp_min(1)).max() < 1e-5
    for got, right in zip(gradients_of(losses, tensors, torch.full((n,), 1 / n)), gradients, strict=True):
        assert (got - right).norm() < 1e-5 * right.norm()
        assert (got - right).abs().max() < 1e-5 * right.abs().max()


def test_exponentials_are_exact_to_a_few_ulp(simd: str):
    # One number an embedding, so that logits are exact, and the gradient of a candidate is its probability.
    logits = torch.cat([torch.zeros(1), -torch.linspace(0, 85, 5000)])[:, None].requires_grad_()
    anchors, zeros = torch.ones(1, 1), torch.zeros(1, 1)
    losses = contrastive_loss(anchors, zeros, zeros, logits, torch.tensor([-1]), form="ntxent")
    probabilities = torch.autograd.grad(losses.sum(), logits)[0].double()
    expected = torch.softmax(logits.detach().double(), dim=0)
    assert ((probabilities - expected).abs() / expected).max() < 1e-6


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradcheck(settings: tuple[float, float, str]):
    tensors, index = embeddings(5, 11, 7, torch.float64), torch.tensor([0, 1, -1, 3, 10])
    assert torch.autograd.gradcheck(lambda *x: contrastive_loss(*x, index, *settings), tensors)


@pytest.mark.parametrize("form", ["eq2", "ntxent"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_finite_and_accurate_at_large_similarities(simd: str, dtype: torch.dtype, form: str):
    tensors, index = embeddings(40, 120, 16, dtype, scale=10.0), some_index(40, 120)
    with torch.no_grad():
        tensors[1][:10], tensors[2][:10] = tensors[0][:10], -tensors[0][:10]  # a = 100, b = -100
        tensors[1][10:20], tensors[2][10:20] = -tensors[0][10:20], tensors[0][10:20]  # a = -100, b = 100
        tensors[2][20:30] = tensors[1][20:30]  # margin 0
        tensors[3][:40] = tensors[0]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    weights = torch.ones(40, dtype=torch.float64)
    losses, expected = (
        contrastive_loss(*tensors, index, form=form),
        contrastive_loss_reference(*exact, index, form=form),
    )
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=2e-5)
    tolerance = 2e-5 if dtype == torch.float32 else gradient_tolerance(simd, dtype)
    for got, right in zip(gradients_of(losses, tensors, weights), gradients_of(expected, exact, weights), strict=True):
        assert got.isfinite().all()
        assert (got.double() - right).abs().max() <= tolerance * right.abs().max().clamp_min(1e-6)


@pytest.mark.parametrize("loud", [0, 9000])
def test_one_candidate_with_a_much_larger_similarity(simd: str, loud: int):
    # Candidates are processed in groups of 8192: the large one is in the first or in the second.
    anchors, candidates = torch.full((2, 1), 100.0), torch.linspace(-1, 1, 9500)[:, None].clone()
    candidates[loud] = 100.0
    zeros, index = torch.zeros(2, 1), torch.tensor([-1, 4])
    candidates.requires_grad_()
    losses = contrastive_loss(anchors, zeros, zeros, candidates, index, form="ntxent")
    torch.testing.assert_close(losses, torch.full((2,), 10_000.0))
    gradient = torch.autograd.grad(losses.sum(), candidates)[0]
    assert gradient[loud] == 200
    assert gradient.count_nonzero() == 1, "e^-9900 is nothing, not something denormal"


def test_no_denormal_number_is_left_of_an_exponential(simd: str):
    # e^-87.4 ... e^-103.9 are denormal in float32, with which the products would be many times slower.
    anchors, zeros = torch.ones(1, 1), torch.zeros(1, 1)
    # The first chunk of 252 candidates has the largest logit; in the second one exp(largest of the chunk) is denormal.
    first, second = torch.linspace(86, 110, 251), torch.full((300,), 95.0)
    logits = torch.cat([torch.zeros(1), -first, -second])[:, None].requires_grad_()
    losses = contrastive_loss(anchors, zeros, zeros, logits, torch.tensor([-1]), form="ntxent")
    smallest = torch.finfo(torch.float32).tiny
    for weight in (1.0, torch.tensor([1.0])):  # the second one recomputes the exponentials
        if isinstance(weight, Tensor):
            anchors, zeros = anchors.expand(2, 1), zeros.expand(2, 1)
            losses = contrastive_loss(anchors, zeros, zeros, logits, torch.tensor([-1, -1]), form="ntxent")
            weight = torch.tensor([1.0, 0.0])
        (probabilities,) = torch.autograd.grad((losses * weight).sum(), logits)
        assert (probabilities[probabilities < smallest] == 0).all()
        assert (probabilities[logits > -87.3] >= smallest).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("form", ["eq2", "ntxent"])
@pytest.mark.parametrize("place", ["anchors", "positives", "hard_negatives"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_nan_of_one_row_stays_in_that_row(simd: str, dtype: torch.dtype, place: str, form: str, bad: float):
    tensors, index = embeddings(300, 515, 17, dtype, scale=1.7), some_index(300, 515)
    clean = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with torch.no_grad():
        tensors[("anchors", "positives", "hard_negatives").index(place)][37, 3] = bad
    some = torch.rand(300, generator=torch.Generator().manual_seed(6))
    others = torch.arange(300) != 37
    for weights in (some, torch.full((300,), 0.3)):
        losses = contrastive_loss(*tensors, index, form=form)
        gradients = gradients_of(losses, tensors, weights)
        assert torch.equal(losses.isfinite(), others | ((form, place) == ("ntxent", "hard_negatives")))
        expected = gradients_of(contrastive_loss_reference(*tensors, index, form=form), tensors, weights)
        without = gradients_of(contrastive_loss(*clean, index, form=form)[others], clean, weights[others])
        close = {"rtol": 2e-2, "atol": 5e-3} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
        for got, right, reference in zip(gradients[:3], without[:3], expected[:3], strict=True):
            torch.testing.assert_close(got[others], right[others], **close)
            torch.testing.assert_close(reference[others], right[others], **close)
        if place == "anchors":
            torch.testing.assert_close(gradients[3], without[3], **close)
            assert not any(gradient[37].isfinite().any() for gradient in gradients[:3])
        torch.testing.assert_close(gradients[3], expected[3], **close)  # and finite
        assert gradients[3].isfinite().all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_gradient_always_raises_the_positive_and_lowers_the_hard_negative(scale: float):
    # Candidates are none of the three, so that the denominator is constant.
    anchors, positives, hard_negatives, candidates = embeddings(200, 50, 8, torch.float64, scale=scale)
    losses = contrastive_loss(anchors, positives, hard_negatives, candidates, torch.full((200,), -1))
    to_positives, to_negatives = torch.autograd.grad(losses.sum(), [positives, hard_negatives])
    a_slope = (to_positives * anchors).sum(1) / anchors.square().sum(1)  # dL/da
    b_slope = (to_negatives * anchors).sum(1) / anchors.square().sum(1)  # dL/db
    assert (a_slope <= -1).all(), "a step against the gradient raises sim(v, s)"
    assert (b_slope > 0).all(), "and lowers sim(v, s')"


def test_the_loss_is_smooth_at_the_floor():
    anchors, zeros = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    positives = torch.tensor([[0.7 - 1e-9], [0.7 + 1e-9]], dtype=torch.float64, requires_grad=True)
    losses = contrastive_loss(anchors, positives, zeros, zeros, torch.tensor([-1, -1]), margin_floor=0.7)
    slopes = torch.autograd.grad(losses.sum(), positives)[0]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-8)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-7)


def test_the_anchor_itself_is_left_out_and_minus_one_leaves_out_none():
    tensors = embeddings(3, 8, 4, torch.float64)
    with_self = contrastive_loss(*tensors, torch.tensor([-1, -1, -1]))
    for i in range(3):
        left_out = contrastive_loss(*tensors, torch.full((3,), i))
        others = [k for k in range(8) if k != i]
        without = contrastive_loss(*tensors[:3], tensors[3][others], torch.tensor([-1, -1, -1]))
        torch.testing.assert_close(left_out, without)
        assert (with_self > left_out).all()
    gradient = torch.autograd.grad(contrastive_loss(*tensors, torch.full((3,), 5)).sum(), tensors[3])[0]
    assert (gradient[5] == 0).all() and (gradient[4] != 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_propagate(simd: str, bad: float):
    tensors = embeddings(4, 9, 8, torch.float32)
    with torch.no_grad():
        tensors[3][7, 2] = bad
    losses = contrastive_loss(*tensors, torch.arange(4))
    reference = contrastive_loss_reference(*tensors, torch.arange(4))
    assert torch.equal(losses.isfinite(), reference.isfinite())  # a logit of -inf has no weight in the denominator
    assert not losses.isfinite().all()
    with torch.no_grad():
        tensors[3][7, 2] = 0.0
        tensors[0][1, 0] = bad
    assert contrastive_loss(*tensors, torch.arange(4)).isfinite().tolist() == [True, False, True, True]
