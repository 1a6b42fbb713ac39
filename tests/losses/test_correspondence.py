import math

import pytest
import torch

from usvs.losses.correspondence import correspondence_loss


def test_hand_computed():
    positive = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # p(correspond) = 3/4, 1/2
    negative = torch.tensor([[math.log(4.0), 0.0], [0.0, math.log(9.0)]])  # p(not) = 4/5, 1/10
    loss, accuracy = correspondence_loss(positive, negative)
    expected = -(math.log(3 / 4) + math.log(1 / 2) + math.log(4 / 5) + math.log(1 / 10)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert accuracy.item() == pytest.approx(0.5)  # the tie falls to class 0


def test_chance_is_ln_2():
    loss, accuracy = correspondence_loss(torch.zeros(5, 2), torch.zeros(5, 2))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)
    assert accuracy.item() == 0.5


def test_gradient_raises_class_one_of_positives_and_lowers_it_of_negatives():
    positive, negative = torch.randn(4, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    correspondence_loss(positive, negative)[0].backward()
    assert (positive.grad[:, 1] < 0).all()
    assert (negative.grad[:, 1] > 0).all()


def test_no_pairs_is_zero_with_zero_gradients():
    logits = torch.full((3, 2), float("nan"), requires_grad=True)
    loss, accuracy = correspondence_loss(logits[:0], logits[:0])
    loss.backward()
    assert (loss.item(), accuracy.item()) == (0.0, 0.0)
    assert torch.equal(logits.grad, torch.zeros(3, 2))
