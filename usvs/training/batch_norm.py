"""Batch-norm statistics in training: of the global batch (``sync``), of each rank (``per_rank``), or ``frozen``.

With one process ``sync`` and ``per_rank`` are torch's own batch norm. With several, `RankBatchNorm` can be scripted,
runs on CPUs and accepts a rank without rows; torch's SyncBatchNorm does none of these.
No postponed annotations in this file: TorchScript does not support them.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.models.batch_norm_act import BatchNormAct
from usvs.training.distributed import Ranks

Policy = Literal["per_rank", "sync", "frozen"]
BatchNorm = nn.modules.batchnorm._BatchNorm
_group: Any = None  # of `apply_policy`; an operator takes tensors and numbers only


class RankBatchNorm(nn.Module):
    """Batch norm over the rows of all ranks or of this rank, with torch's names of parameters and buffers.

    Args:
        norm: the module it replaces, whose parameters and buffers it shares.
        synchronised: statistics of all ranks' rows.
    """

    def __init__(self, norm: BatchNorm, synchronised: bool) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.momentum is not None
        self.weight: Tensor
        self.bias: Tensor
        if norm.affine:
            self.weight, self.bias = norm.weight, norm.bias
        else:  # not part of the state dict
            self.register_buffer("weight", torch.ones_like(norm.running_mean), persistent=False)
            self.register_buffer("bias", torch.zeros_like(norm.running_mean), persistent=False)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.eps: float = norm.eps
        self.momentum: float = norm.momentum
        self.synchronised: bool = synchronised
        self.relu: bool = isinstance(norm, BatchNormAct) and norm.relu

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise [N, C] or [N, C, h, w], where N may be 0, and apply the ReLU of the module it replaces."""
        normalised = self._global(rows) if self.training and self.synchronised else self._local(rows)
        return F.relu(normalised, inplace=True) if self.relu else normalised

    def _global(self, rows: Tensor) -> Tensor:
        result, mean, variance, count = torch.ops.usvs.rank_batch_norm(rows, self.weight, self.bias, self.eps)
        counted = (count > 0).to(mean.dtype)  # 0 for a batch without rows on any rank
        unbiased = variance * (count / (count - 1.0).clamp_min(1.0))
        self.running_mean += self.momentum * counted * (mean - self.running_mean)
        self.running_var += self.momentum * counted * (unbiased - self.running_var)
        self.num_batches_tracked += (count > 0).to(torch.int64)
        normalised: Tensor = result
        return normalised

    def _local(self, rows: Tensor) -> Tensor:
        if rows.size(0) == 0:  # torch's backward pass divides by the number of rows
            shape = [1, -1] + [1] * (rows.dim() - 2)
            return rows * self.weight.view(shape) + self.bias.view(shape)
        if self.training:
            self.num_batches_tracked += 1
        return F.batch_norm(
            rows,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


def apply_policy(module: nn.Module, policy: Policy, ranks: Ranks) -> nn.Module:
    """Replace a module's batch norms as the policy needs; to be called before it is compiled.

    With several ranks every network runs on every rank, with no rows where it has none, so that all ranks have the same
    gradients to sum.

    Args:
        module: changed in place.
        policy: whose statistics are used in training.
        ranks: the processes of the run.

    Returns:
        `module`.
    """
    global _group
    if ranks.count == 1:
        return module
    _group = ranks.statistics
    for parent in list(module.modules()):
        if hasattr(parent, "skips_empty"):
            setattr(parent, "skips_empty", False)  # noqa: B010
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNorm):
                setattr(parent, name, RankBatchNorm(child, synchronised=policy == "sync"))
    return module


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether a module contains batch norm."""
    return any(isinstance(child, (BatchNorm, RankBatchNorm)) for child in module.modules())


def freeze_statistics(module: Any) -> None:
    """Set every batch norm of a module, scripted or not, to use its running statistics."""
    for child in module.modules():
        kind = getattr(child, "original_name", type(child).__name__)
        if kind in ("BatchNorm1d", "BatchNorm2d", "BatchNormAct", "RankBatchNorm"):
            child.eval()


@torch.library.custom_op("usvs::rank_batch_norm", mutates_args=())
def rank_batch_norm(rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise rows with the mean and variance of all ranks' rows.

    Args:
        rows: [N, C] or [N, C, h, w] of this rank; N may differ between ranks and be 0.
        weight: [C].
        bias: [C].
        eps: added to the variance.

    Returns:
        The normalised rows; mean [C] and biased variance [C] of all ranks' values; their number [] per channel.
    """
    channels = rows.size(1)
    sums = rows.new_zeros(2 * channels + 1, dtype=torch.float64)  # float64: a difference of squares follows
    if rows.size(0) > 0:
        mean, variance = torch.batch_norm_update_stats(rows, None, None, 0.0)
        sums[:channels], sums[-1] = mean, 1.0
        sums[channels:-1] = variance.double() + mean.double().square()
    sums *= rows.numel() // channels
    dist.all_reduce(sums, group=_group)
    total = sums[-1].clone()
    mean64, square = torch.split(sums[:-1] / total.clamp_min(1.0), channels)
    mean, variance = mean64.to(weight.dtype), (square - mean64**2).clamp_min(0.0).to(weight.dtype)
    result = F.batch_norm(rows, mean, variance, weight, bias, False, 0.0, eps)
    return result, mean, variance, total.to(weight.dtype)


@rank_batch_norm.register_fake
def _(rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tensors of the shapes of `rank_batch_norm`'s, for torch.compile."""
    channels = weight.new_empty(rows.size(1))
    return torch.empty_like(rows), channels, torch.empty_like(channels), weight.new_empty(())


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    rows, weight, _, ctx.eps = inputs
    _, mean, variance, count = output
    ctx.save_for_backward(rows, weight, mean, variance, count)
    ctx.mark_non_differentiable(mean, variance, count)


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    rows, weight, mean, variance, count = ctx.saved_tensors
    # The gradient with mean and variance as constants; the part that flows through them is added after the all-reduce.
    direct, weight_grad, bias_grad = grad, torch.zeros_like(weight), torch.zeros_like(weight)
    if rows.size(0) > 0:
        direct, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            grad, rows, weight, mean, variance, mean, variance, False, ctx.eps, [True, True, True]
        )
    both = torch.cat((weight_grad, bias_grad)).double()
    dist.all_reduce(both, group=_group)
    scaled, plain = torch.split((both / count.clamp_min(1.0)).to(weight.dtype), weight.numel())
    deviation = (variance + ctx.eps).rsqrt()
    slope = -weight * deviation**2 * scaled
    offset = -weight * deviation * plain - slope * mean
    shape = [1, -1] + [1] * (rows.ndim - 2)
    through = torch.addcmul(offset.view(shape), slope.view(shape), rows.to(weight.dtype))
    return direct + through.to(direct.dtype), weight_grad, bias_grad, None


rank_batch_norm.register_autograd(_backward, setup_context=_setup_context)
