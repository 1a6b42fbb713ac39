"""Batch norm with the ReLU that follows it, and in a residual block with the gate and the sum.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from usvs.ops.batch_norm import batch_norm_act


class BatchNormAct(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, its parameters and buffers, and a ReLU.

    Args:
        channels: C.
        relu: whether there is a ReLU.
        eps: added to the variance.

    Attributes:
        relu: as given.
        fuses: compute with `usvs.ops.batch_norm.batch_norm_act` in training; see `fuse_batch_norms`.
    """

    __constants__ = [*nn.BatchNorm2d.__constants__, "relu", "fuses"]  # noqa: RUF012 - read by TorchScript

    def __init__(self, channels: int, relu: bool, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.relu: bool = relu
        self.fuses: bool = False

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        if self.fuses and (self.training or maps.requires_grad):
            return self.fused(maps, self.relu, None, None)
        normalised = F.batch_norm(
            maps,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.count_batch(),
            self.eps,
        )
        return F.relu(normalised, inplace=True) if self.relu else normalised

    def count_batch(self) -> float:
        """Count a batch of training, and return its share of the running statistics."""
        counter = self.num_batches_tracked
        if self.training and counter is not None:
            counter.add_(1)
        if self.momentum is not None:
            return self.momentum
        return 1.0 / float(counter) if self.training and counter is not None else 0.0  # a cumulative average

    def fused(self, maps: Tensor, relu: bool, residual: Tensor | None, squeeze: list[Tensor] | None) -> Tensor:
        """Return relu(batch_norm(maps) * gate + residual); arguments are those of `batch_norm_act`."""
        return batch_norm_act(
            maps,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training,
            self.count_batch(),
            self.eps,
            relu,
            residual,
            squeeze,
        )


def fuse_batch_norms(module: nn.Module, fuses: bool) -> None:
    """Choose how a module computes its batch norms in training, before it is compiled.

    With `fuses`, by `usvs.ops.batch_norm.batch_norm_act`, for a CPU and one process: the same to rounding. Without, by
    torch's ops, as always in evaluation without gradients; a scripted module then needs no op of usvs.
    """
    for child in module.modules():
        if hasattr(child, "fuses"):
            setattr(child, "fuses", fuses)  # noqa: B010
