"""Global average pooling whose gradient keeps the channels-last memory format.

This file holds a scripted function: no postponed annotations.
"""

from torch import Tensor


def channel_means(maps: Tensor) -> Tensor:
    """Return the means [N, C] over the pixels of feature maps [N, C, h, w].

    Written so that the gradient has the memory format of channels-last maps. That of ``maps.mean((2, 3))`` has not, and
    on a CPU the ops that receive it in backward are slower: an addition 16 times, a batch norm 35 times. The gradient
    of the sum is moreover a view, while that of a mean is written out and divided pixel by pixel.
    """
    return maps.permute(0, 2, 3, 1).flatten(1, 2).sum(dim=1) / (maps.size(2) * maps.size(3))
