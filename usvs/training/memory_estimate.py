"""The memory of a training step, counted before it is made on torch's meta device, where nothing is computed."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from usvs.ops.recompute import recomputing
from usvs.training import threads
from usvs.training.meta_copy import meta_copy

SMALL_INPUT_BYTES = 4 << 20  # SonoNet, a small network by its parameters, keeps 850 times its input
STATE_COPIES = 3  # beside the parameters: gradients, and two moments of AdamW (SGD has one)
HALF_SHARE = 0.62  # of the activations' bytes under bfloat16 autocast: norms and weights stay float32
WORKING_SHARE = 1.15  # of the activations: what a layer needs while it computes

logger: logging.Logger = logging.getLogger(__name__)


def estimate_bytes(
    module: nn.Module, batch: Sequence[Tensor], precision: str, recomputes_norms: bool = False
) -> int | None:
    """Return the memory that a step takes beside the parameters; None where it is little or the network cannot say.

    Args:
        module: whose forward takes the batch; it is not changed.
        batch: the inputs; masks (bool) are read.
        precision: ``float32`` or ``bfloat16``.
        recomputes_norms: as `usvs.training.settings.RunSettings.recompute_norms`, where it applies.
    """
    inputs = sum(tensor.numel() * tensor.element_size() for tensor in batch)
    if threads.is_small(module) and inputs < SMALL_INPUT_BYTES:
        return None
    parameters = sum(parameter.numel() for parameter in module.parameters())
    try:
        saved = _saved_bytes(module, batch, recomputes_norms)
    except Exception as error:  # an own module may do what the meta device cannot
        logger.debug(f"the memory of {type(module).__name__} cannot be estimated: {error}")
        return None
    share = HALF_SHARE if precision == "bfloat16" else 1.0
    return int(WORKING_SHARE * share * saved + 4 * STATE_COPIES * parameters)


def _saved_bytes(module: nn.Module, batch: Sequence[Tensor], recomputes_norms: bool) -> int:
    """Return the size of what autograd keeps of a forward pass for the backward pass."""
    shapes = meta_copy(module).train()
    own = {parameter.untyped_storage()._cdata for parameter in shapes.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.device.type == "meta" and storage._cdata not in own:
            kept[storage._cdata] = storage  # alive, so that no other storage gets its address
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with recomputing(keep) if recomputes_norms else hooks:
        result = shapes(*(tensor if tensor.dtype == torch.bool else tensor.to("meta") for tensor in batch))
    del result
    return sum(storage.nbytes() for storage in kept.values())
