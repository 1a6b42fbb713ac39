import math

import pytest
import torch

from usvs.losses.frame_order import order_loss


def test_hand_computed():
    logits = torch.zeros(2, 12)
    logits[0, 3] = math.log(11.0)  # probability 1/2
    loss, accuracy = order_loss(logits, torch.tensor([3, 7]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(12)) / 2, rel=1e-6)
    assert accuracy.item() == 0.5


def test_no_clips_is_zero_with_zero_gradients():
    logits = torch.full((2, 12), float("nan"), requires_grad=True)
    loss, accuracy = order_loss(logits[:0], torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert (loss.item(), accuracy.item()) == (0.0, 0.0)
    assert torch.equal(logits.grad, torch.zeros(2, 12))
