"""Recomputing batch-norm statistics on given images."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from usvs.errors import DataError


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute every running mean and variance of `model` on `batches`, in place; no weight changes.

    A control for the evaluation of a frozen, untrained network: any training replaces these statistics, and this alone
    raises the score of a linear probe. Statistics are plain averages over the batches, so batches should be of one
    size. Training modes and momenta are restored.

    Args:
        model: an eager module, called with one batch at a time.
        batches: inputs, for images [N, 1, H, W].

    Raises:
        DataError: when there is no batch.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()  # no dropout; only batch norm runs in training mode
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    try:
        count = 0
        for batch in batches:
            model(batch)
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    if count == 0:
        raise DataError("batch-norm calibration: expected at least one batch, got none")
