import math

import pytest
import torch

from usvs.losses.contrastive import GlobalPairs, batch_contrastive, margin_term


def _embeddings(pairs, width, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(pairs, width, generator=generator, dtype=dtype)).requires_grad_() for _ in range(3)]


def _by_hand(video, positive, negative, temperature, floor, form):
    """Eq. 2 pair by pair, in Python floats."""
    everything = [*video.tolist(), *positive.tolist(), *negative.tolist()]
    total = 0.0
    for i, anchor in enumerate(video.tolist()):
        similarities = [sum(x * y for x, y in zip(anchor, other, strict=True)) / temperature for other in everything]
        a, b = similarities[len(video) + i], similarities[2 * len(video) + i]
        denominator = sum(math.exp(value) for k, value in enumerate(similarities) if k != i)
        if form == "ntxent":
            total += -math.log(math.exp(a) / denominator)
        elif a - b >= floor:
            total += -math.log((math.exp(a) - math.exp(b)) / denominator)
        else:
            tangent = math.log(1 - math.exp(-floor)) + (a - b - floor) / (math.exp(floor) - 1)
            total += -a - tangent + math.log(denominator)
    return total / len(video)


@pytest.mark.parametrize("form", ["eq2", "ntxent"])
@pytest.mark.parametrize("normalise", [False, True])
def test_equals_the_equation_by_hand(form, normalise):
    video, positive, negative = _embeddings(5, 4)
    terms = batch_contrastive(video, positive, negative, normalise, 0.5, 0.8, form)
    scaled = [torch.nn.functional.normalize(part, dim=1) if normalise else part for part in (video, positive, negative)]
    assert terms.loss.item() == pytest.approx(_by_hand(*scaled, 0.5, 0.8, form), rel=1e-6)


def test_one_pair_by_hand():
    video, positive, negative = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([[0.0]])
    # a = 2, b = 0: -log((e^2 - 1) / (e^2 + 1)), the anchor itself excluded from the sum.
    terms = batch_contrastive(video, positive, negative, False, 1.0, 1.0, "eq2")
    assert terms.loss.item() == pytest.approx(-math.log((math.e**2 - 1) / (math.e**2 + 1)), rel=1e-5)
    assert terms.margin_mean.item() == pytest.approx(2.0)
    assert terms.margin_term.item() == pytest.approx(-math.log(1 - math.e**-2), rel=1e-5)
    assert terms.chance.item() == pytest.approx(math.log(2) + margin_term(torch.zeros(()), 1.0).item(), rel=1e-5)


@pytest.mark.parametrize("form", ["eq2", "ntxent"])
def test_chance_is_the_loss_of_equal_embeddings(form):
    ones = torch.ones(6, 3)
    terms = batch_contrastive(ones, ones, ones, True, 0.1, 0.7, form)
    assert terms.loss.item() == pytest.approx(terms.chance.item(), rel=1e-5)
    if form == "ntxent":
        assert terms.chance.item() == pytest.approx(math.log(17), rel=1e-6)


@pytest.mark.parametrize("form", ["eq2", "ntxent"])
def test_speech_candidates_leave_the_frames_out(form):
    video, positive, negative = _embeddings(5, 4)
    terms = batch_contrastive(video, positive, negative, False, 0.5, 0.8, form, "speech")
    similarities = video @ torch.cat((positive, negative)).T / 0.5
    both = batch_contrastive(video, positive, negative, False, 0.5, 0.8, form)
    every = (video @ torch.cat((video, positive, negative)).T / 0.5).fill_diagonal_(float("-inf"))
    # Only the sum of the denominator differs.
    expected = both.loss + (similarities.logsumexp(dim=1) - every.logsumexp(dim=1)).mean()
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    ones = torch.ones(6, 3)
    equal = batch_contrastive(ones, ones, ones, True, 0.1, 0.7, form, "speech")
    assert equal.loss.item() == pytest.approx(equal.chance.item(), rel=1e-5)


def test_margin_term_and_the_rest_make_the_loss():
    video, positive, negative = _embeddings(6, 4, dtype=torch.float32)
    eq2 = batch_contrastive(video, positive, negative, False, 1.0, 1.0, "eq2")
    ntxent = batch_contrastive(video, positive, negative, False, 1.0, 1.0, "ntxent")
    assert (eq2.loss - eq2.margin_term).item() == pytest.approx(ntxent.loss.item(), rel=1e-5)
    assert ntxent.margin_term.item() == 0


@pytest.mark.parametrize("form", ["eq2", "ntxent"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0])
def test_gradients_are_finite_and_raise_the_positive_and_lower_the_negative(form, scale):
    video, positive, negative = _embeddings(8, 16, seed=3, scale=scale, dtype=torch.float32)
    batch_contrastive(video, positive, negative, False, 1.0, 1.0, form).loss.backward()
    assert all(part.grad.isfinite().all() for part in (video, positive, negative))
    # With one pair there are no other anchors: the gradient of s is parallel to -v, that of s' to v.
    for i in range(8):
        one = [part.detach()[i : i + 1].clone().requires_grad_() for part in (video, positive, negative)]
        batch_contrastive(*one, False, 1.0, 1.0, form).loss.backward()
        assert (one[1].grad * one[0]).sum() <= 0
        assert (one[2].grad * one[0]).sum() >= 0
        if form == "eq2" and scale < 1:  # for larger ones the probability rounds to 1 in float32
            assert (one[1].grad * one[0]).sum() < 0 < (one[2].grad * one[0]).sum()


def test_metrics_by_hand():
    video = torch.eye(4)
    positive = torch.eye(4)[[0, 1, 3, 2]]  # two of four retrieved, both ways
    negative = torch.zeros(4, 4)
    negative[0] = 2 * torch.eye(4)[0]  # one margin below 0: 1 - 2; then 1 - 0, 0 - 0, 0 - 0
    terms = batch_contrastive(video, positive, negative, False, 0.5, 1.0, "ntxent")
    assert terms.retrieval_top1.item() == 0.5
    assert terms.retrieval_top1_speech_to_video.item() == 0.5
    assert terms.retrieval_chance.item() == 0.25
    assert terms.margin_mean.item() == pytest.approx((-1 + 1 + 0 + 0) / 0.5 / 4)
    assert terms.margin_negative_fraction.item() == 0.75


def test_the_two_directions_of_retrieval_differ():
    video = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    positive = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # both frames are most similar to the second piece, ...
    terms = batch_contrastive(video, positive, -positive, False, 1.0, 1.0, "ntxent")
    assert terms.retrieval_top1.item() == 0.5
    assert terms.retrieval_top1_speech_to_video.item() == 0.5
    third = torch.tensor([[0.1, 5.0], [3.0, 0.0]])  # ... and here each piece is most similar to another frame
    terms = batch_contrastive(video, third, -third, False, 1.0, 1.0, "ntxent")
    assert (terms.retrieval_top1.item(), terms.retrieval_top1_speech_to_video.item()) == (0.5, 0.0)


def test_bfloat16_is_normalised_in_float32():
    video, positive, negative = (part.detach().bfloat16() for part in _embeddings(5, 64, dtype=torch.float32))
    terms = batch_contrastive(video, positive, negative, True, 0.1, 1.0, "eq2")
    exact = batch_contrastive(video.double(), positive.double(), negative.double(), True, 0.1, 1.0, "eq2")
    assert terms.loss.item() == pytest.approx(exact.loss.item(), rel=1e-5)


def test_retrieval_of_a_large_batch_is_taken_from_its_first_pairs():
    video = torch.randn(600, 8)
    terms = batch_contrastive(video, video, -video, True, 0.1, 1.0, "ntxent")
    assert terms.retrieval_chance.item() == pytest.approx(1 / 512)
    assert terms.retrieval_top1.item() == 1.0


@pytest.mark.parametrize("candidates", ["all", "speech"])
@pytest.mark.parametrize("normalise", [False, True])
def test_parts_of_a_global_batch_add_up_to_it(candidates, normalise):
    pairs = _embeddings(7, 4)
    settings = (normalise, 0.5, 0.8, "eq2", candidates)
    complete = batch_contrastive(*pairs, *settings)
    complete.loss.backward()
    expected = [part.grad.clone() for part in pairs]
    for part in pairs:
        part.grad = None
    parts = [
        batch_contrastive(*(part[rows] for part in pairs), *settings, GlobalPairs(*pairs, rows.start))
        for rows in (slice(0, 3), slice(3, 3), slice(3, 7))
    ]
    for name in complete._fields:
        total = sum(getattr(part, name) for part in parts)
        torch.testing.assert_close(total.double(), getattr(complete, name).double(), msg=name, rtol=1e-6, atol=1e-6)
    sum(part.loss for part in parts).backward()
    for part, gradient in zip(pairs, expected, strict=True):
        torch.testing.assert_close(part.grad, gradient)
