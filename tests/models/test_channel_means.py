import torch

from usvs.models.channel_means import channel_means


def test_the_gradient_lies_as_the_maps_do():
    maps = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    means = channel_means(maps)
    torch.testing.assert_close(means, maps.mean(dim=(2, 3)))
    (means * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert maps.grad is not None
    assert maps.grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(maps.grad[1, :, 4, 6] * 35, torch.tensor([1.0, 2.0, 3.0]))


def test_maps_in_the_other_layout_have_the_same_means():
    maps = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(channel_means(maps), maps.mean(dim=(2, 3)))
