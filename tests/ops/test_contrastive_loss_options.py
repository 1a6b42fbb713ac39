"""The contrastive loss with a learned temperature, with normalisation, and without terms of pairs."""

import math

import pytest
import torch
from torch import Tensor

from tests.support.contrastive_inputs import embeddings, gradients_of, some_index
from usvs.ops import contrastive_loss, contrastive_loss_reference

FORMS = ("eq2", "ntxent", "logsumexp")
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


def temperature_of(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def tolerance(simd: str, dtype: torch.dtype) -> float:
    """Of a gradient of embeddings, relative to its largest value; see test_contrastive_loss.py."""
    if dtype == torch.bfloat16:
        return 2**-7 if simd == "avx512_bf16" else 2**-8
    return 1e-10 if dtype == torch.float64 else 1e-5


@pytest.mark.parametrize("form", FORMS)
@DTYPES
def test_a_learned_temperature_equals_the_reference(simd: str, dtype: torch.dtype, form: str):
    tensors, index = embeddings(70, 300, 24, dtype, scale=1.7), some_index(70, 300)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    learned, of_reference = temperature_of(0.21), temperature_of(0.21)
    losses = contrastive_loss(*tensors, index, learned, 0.5, form)
    expected = contrastive_loss_reference(*exact, index, of_reference, 0.5, form)
    exactly = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(losses.double(), expected, rtol=exactly, atol=exactly)
    assert torch.equal(losses, contrastive_loss(*tensors, index, learned.item(), 0.5, form))
    some = torch.rand(70, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for weights in (some, torch.full((70,), 0.3, dtype=torch.float64)):  # gradients of the backward and forward pass
        found = gradients_of(losses, [*tensors, learned], weights)
        right = gradients_of(expected, [*exact, of_reference], weights)
        for got, gradient in zip(found[:4], right[:4], strict=True):
            allowed = tolerance(simd, dtype) * gradient.abs().max().clamp_min(1e-6)
            assert (got.double() - gradient).abs().max() <= allowed
        assert found[4].dtype == torch.float32 and found[4].shape == ()
        torch.testing.assert_close(found[4], right[4], rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalise", [False, True])
def test_gradcheck(form: str, normalise: bool):
    tensors, index = embeddings(5, 11, 7, torch.float64, scale=2.0), torch.tensor([0, 1, -1, 3, 10])

    def loss(*inputs: Tensor) -> Tensor:
        return contrastive_loss(*inputs[:4], index, inputs[4], 0.8, form, normalise)

    assert torch.autograd.gradcheck(loss, [*tensors, temperature_of(0.6, torch.float64)])


def test_a_temperature_of_one_element_in_any_shape_dtype_and_alone_with_a_gradient():
    tensors, index = [tensor.detach() for tensor in embeddings(6, 9, 5, torch.float32)], some_index(6, 9)
    (expected,) = torch.autograd.grad(contrastive_loss_reference(*tensors, index, t := temperature_of(0.3)).sum(), t)
    for temperature in (t, temperature_of(0.3).detach()[None].requires_grad_(), temperature_of(0.3, torch.float64)):
        (got,) = torch.autograd.grad(contrastive_loss(*tensors, index, temperature).sum(), temperature)
        assert got.shape == temperature.shape and got.dtype == temperature.dtype
        torch.testing.assert_close(got.reshape(()).float(), expected, rtol=1e-5, atol=1e-6)
    logit_scale = torch.tensor(math.log(1 / 0.3), requires_grad=True)  # as CLIP learns it
    losses = contrastive_loss(*tensors, index, (-logit_scale).exp())
    torch.testing.assert_close(torch.autograd.grad(losses.sum(), logit_scale)[0], -0.3 * expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (torch.tensor([0.1, 0.2]), r"temperature: expected a number, or a tensor of one element, got shape \[2\]"),
        (torch.tensor(0.0), "temperature: expected a finite number above 0, got 0"),
        (torch.tensor(-1.0), "temperature: expected a finite number above 0, got -1"),
        (torch.tensor(math.nan), "temperature: expected a finite number above 0, got nan"),
    ],
)
def test_a_temperature_out_of_range_is_refused(temperature: Tensor, message: str):
    tensors, index = embeddings(6, 9, 5, torch.float32), some_index(6, 9)
    with pytest.raises(RuntimeError, match="usvs::contrastive_loss: " + message):
        contrastive_loss(*tensors, index, temperature)


@DTYPES
def test_normalisation_equals_the_reference(dtype: torch.dtype):
    tensors, index = embeddings(40, 120, 33, dtype, scale=9.0), some_index(40, 120)
    with torch.no_grad():
        tensors[3][7] = 0  # has no direction
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    losses = contrastive_loss(*tensors, index, 0.1, normalise=True)
    expected = contrastive_loss_reference(*exact, index, 0.1, normalise=True)
    close = 0.1 if dtype == torch.bfloat16 else 1e-5  # bfloat16 rounds the scaled embeddings once more
    torch.testing.assert_close(losses.double(), expected, rtol=close, atol=close)
    weights = torch.ones(40)
    for got, right in zip(gradients_of(losses, tensors, weights), gradients_of(expected, exact, weights), strict=True):
        relative = 5e-2 if dtype == torch.bfloat16 else 1e-5
        assert (got.double() - right).norm() <= relative * right.norm()


@DTYPES
def test_logsumexp_alone_reads_no_pairs(simd: str, dtype: torch.dtype):
    anchors, nan, _, candidates = embeddings(300, 515, 17, dtype, scale=1.7)
    index = some_index(300, 515)
    nan = torch.full_like(anchors, math.nan).requires_grad_()
    losses = contrastive_loss(anchors, nan, nan, candidates, index, 0.2, form="logsumexp")
    logits = anchors.detach().double() @ candidates.detach().double().T / 0.2
    logits[index >= 0, index[index >= 0]] = -math.inf
    torch.testing.assert_close(losses.double(), logits.logsumexp(dim=1), rtol=1e-5, atol=1e-5)
    weights = torch.rand(300)
    for each in (weights, torch.full((300,), 0.5)):
        found = torch.autograd.grad(
            (losses * each).sum(), [anchors, nan, candidates], allow_unused=True, retain_graph=True
        )
        assert found[1] is None
        inputs = [tensor.detach().double().requires_grad_() for tensor in (anchors, candidates)]
        reference = contrastive_loss_reference(inputs[0], inputs[0], inputs[0], inputs[1], index, 0.2, form="logsumexp")
        for got, right in zip(found[::2], torch.autograd.grad((reference * each).sum(), inputs), strict=True):
            assert (got.double() - right).abs().max() <= tolerance(simd, dtype) * right.abs().max()


def test_the_logsumexp_of_no_candidates_is_minus_infinity():
    anchors, _, _, candidates = embeddings(3, 1, 4, torch.float32)
    losses = contrastive_loss(anchors, anchors, anchors, candidates, torch.tensor([0, -1, 0]), form="logsumexp")
    assert losses.isneginf().tolist() == [True, False, True]


def op_arguments(dtype: torch.dtype, form: str, temperature: Tensor | None) -> tuple:
    return *embeddings(5, 11, 6, dtype), torch.tensor([0, 1, -1, 3, 10]), 0.5, 1.0, form, temperature


@pytest.mark.parametrize(
    "form", ["eq2", *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS if form != "eq2")]
)
@pytest.mark.parametrize("name", ["contrastive_loss", "contrastive_loss_forward", "contrastive_loss_with_slopes"])
def test_opcheck(name: str, form: str):
    arguments = op_arguments(torch.float64, form, temperature_of(0.5, torch.float64))
    normalise = (True,) if name == "contrastive_loss" else ()
    torch.library.opcheck(getattr(torch.ops.usvs, name).default, (*arguments, *normalise))


class Scripted(torch.nn.Module):
    """The public function in a scripted module, with a number and with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.tensor(0.4))

    def forward(self, anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        learned = contrastive_loss(anchors, positives, negatives, candidates, own, self.temperature, normalise=True)
        return learned + contrastive_loss(anchors, positives, negatives, candidates, own, 0.7, 1.0, "logsumexp")


@pytest.mark.slow
def test_torchscript_and_one_graph_equal_eager_with_gradients():
    eager = Scripted()
    inputs = [*embeddings(5, 11, 6, torch.float32), torch.tensor([0, 1, -1, 3, 10])]
    leaves = [*inputs[:4], eager.temperature]
    expected = gradients_of(eager(*inputs), leaves, torch.ones(5))
    for function in (torch.jit.script(eager), torch.compile(eager, fullgraph=True, backend="aot_eager")):
        for _ in range(3):
            for got, right in zip(gradients_of(function(*inputs), leaves, torch.ones(5)), expected, strict=True):
                torch.testing.assert_close(got, right)
    assert all((gradient != 0).any() for gradient in expected)
