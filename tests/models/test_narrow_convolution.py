"""bfloat16 convolutions equal those of float32 at any width; seen red on a processor with AMX."""

import pytest
import torch
from torch import Tensor, nn

from usvs.models.narrow_convolution import WideningConv2d, widen_convolutions


def results(convolution: nn.Module, images: Tensor) -> list[Tensor]:
    """The maps and both gradients, computed with freed memory full of NaNs."""
    images = images.detach().requires_grad_()
    spoiled = [torch.full((1 << size,), float("nan")) for size in range(10, 19)]
    del spoiled
    maps = convolution(images)
    grad = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0)).to(maps.dtype)
    return [maps.detach(), *torch.autograd.grad(maps, (images, *convolution.parameters()), grad)]


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("height", [2, 9])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_bfloat16_convolutions_equal_those_of_float32(stride: int, kernel: int, height: int, width: int):
    torch.manual_seed(0)
    exact = nn.Conv2d(64, 64, kernel, stride, padding=kernel // 2, groups=2).to(torch.bfloat16).float()
    half = nn.Sequential(nn.Conv2d(64, 64, kernel, stride, padding=kernel // 2, groups=2))
    half[0].load_state_dict(exact.state_dict())
    widen_convolutions(half.to(torch.bfloat16))
    images = torch.randn(32, 64, height, width).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        for found, expected in zip(results(half, images), results(exact, images.float()), strict=True):
            assert found.shape == expected.shape
            error = (found.float() - expected).abs().max() / expected.abs().max()
            assert error < 0.02


def test_only_plain_convolutions_are_widened_and_nothing_changes_in_float32():
    class Own(nn.Conv2d):
        pass

    def make() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), Own(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding="same"), nn.Conv2d(8, 8, 1)
        )

    plain, widened = make(), make()
    widen_convolutions(widened)
    assert [type(each) for each in widened] == [WideningConv2d, Own, nn.Conv2d, WideningConv2d]
    assert list(widened.state_dict()) == list(plain.state_dict())
    scripted = torch.jit.script(widened)
    for shape in ((2, 3, 9, 2), (2, 3, 9, 7)):
        images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(widened(images), plain(images))
        assert torch.equal(scripted(images), widened(images))
