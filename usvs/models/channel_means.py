"""Global average pooling that keeps memory channels last, there and back.

This file holds a scripted function: no postponed annotations.
"""

from torch import Tensor


def channel_means(maps: Tensor) -> Tensor:
    """Return the means [N, C] of feature maps [N, C, h, w].

    So written that the gradient lies in memory as the maps do, channels last. That of ``maps.mean((2, 3))`` does not,
    and on a CPU whatever meets it in backward is then slower: an addition 16 times, a batch norm 35 times. Nor is it
    ever written out: a sum's gradient is a view, a mean's is divided pixel by pixel.
    """
    return maps.permute(0, 2, 3, 1).flatten(1, 2).sum(dim=1) / (maps.size(2) * maps.size(3))
