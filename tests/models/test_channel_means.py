import torch

from usvs.models.channel_means import channel_means


def test_the_gradient_is_a_channels_last_view():
    maps = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    means = channel_means(maps)
    torch.testing.assert_close(means, maps.mean(dim=(2, 3)))
    # autograd.grad, since accumulation into `maps.grad` would copy it to the layout of the maps.
    (gradient,) = torch.autograd.grad((means * torch.tensor([1.0, 2.0, 3.0])).sum(), maps)
    assert gradient.stride(1) == 1
    assert gradient.untyped_storage().nbytes() == 2 * 3 * 4
    torch.testing.assert_close(gradient[1, :, 4, 6] * 35, torch.tensor([1.0, 2.0, 3.0]))


def test_maps_in_the_other_layout_have_the_same_means():
    maps = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(channel_means(maps), maps.mean(dim=(2, 3)))
