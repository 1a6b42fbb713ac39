"""Gradients in blocks: the same values in fewer pieces of memory, freed when they are released."""

import torch
from torch import nn

from usvs.training import compact_gradients
from usvs.training.compact_gradients import CompactGradients


def test_gradients_are_side_by_side(monkeypatch):
    monkeypatch.setattr(compact_gradients, "BLOCK_BYTES", 1024)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 5)).to(
        memory_format=torch.channels_last
    )
    unused, rows = nn.Linear(2, 2), torch.randn(2, 3, 6, 6)
    layers(rows).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in layers.named_parameters()}
    compact = CompactGradients([*layers.parameters(), *unused.parameters()])
    for backwards in (1, 2):  # the second time, gradients are added to those of the first
        layers.zero_grad()
        compact.release()
        for _ in range(backwards):
            layers(rows).square().sum().backward()
        for name, parameter in layers.named_parameters():
            assert torch.equal(parameter.grad, backwards * expected[name]), name
            assert parameter.grad.stride() == parameter.stride()
        blocks = {parameter.grad.untyped_storage().data_ptr() for parameter in layers.parameters()}
        assert len(blocks) == 2
    assert unused.weight.grad is None
    assert sum(block.values is not None for block in compact._blocks) == 2
