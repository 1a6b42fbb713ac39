"""Convolutions whose output is one column wide, for bfloat16 on a CPU.

On processors with AMX, oneDNN's bfloat16 convolutions (torch 2.13) of a stride above 1 compute maps of one column, and
their weights' gradients, from memory that was never written: results are wrong or not finite. Other strides of its AMX
convolutions were wrong before (github.com/uxlfoundation/oneDNN/pull/5494, github.com/pytorch/pytorch/issues/169688).

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WideningConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` that computes two columns where its output has one, and returns the first."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', h, w]."""
        stride, covered = self.stride[1], self.dilation[1] * (self.kernel_size[1] - 1) + 1
        columns = (input.size(3) + 2 * int(self.padding[1]) - covered) // stride + 1
        widens = columns == 1 and stride > 1 and covered > 1
        maps: Tensor = self._conv_forward(F.pad(input, [0, stride]) if widens else input, self.weight, self.bias)
        return maps[:, :, :, :1].contiguous(memory_format=torch.channels_last) if widens else maps


def widen_convolutions(module: nn.Module) -> None:
    """Let the convolutions of a module compute at least two columns, before it is compiled.

    Those of subclasses of `torch.nn.Conv2d`, and those that pad with other values than zeros, are left as they are.
    """
    for child in module.modules():
        if type(child) is nn.Conv2d and child.padding_mode == "zeros" and not isinstance(child.padding, str):
            child.__class__ = WideningConv2d
