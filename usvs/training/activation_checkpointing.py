"""Activation checkpointing: the blocks of an encoder keep only their input and are run again in the backward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from usvs.models.se_resnext import Bottleneck
from usvs.models.sononet import SonoNetEncoder
from usvs.training.micro_batches import preserve_buffers


def recompute_blocks(module: nn.Module) -> int:
    """Make every `Bottleneck` and every stage of SonoNet keep only its input for the backward pass.

    Losses, gradients and running statistics stay equal bit for bit. For eager modules only: checkpointing cannot be
    scripted.

    Args:
        module: changed in place.

    Returns:
        How many blocks were found.
    """
    blocks: list[nn.Module] = [child for child in module.modules() if isinstance(child, Bottleneck)]
    for encoder in module.modules():
        blocks += encoder.features if isinstance(encoder, SonoNetEncoder) else ()
    for block in blocks:
        block.forward = partial(_run, block, type(block).forward.__get__(block))
    return len(blocks)


def _run(block: nn.Module, forward: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    if not (block.training and torch.is_grad_enabled()):
        return forward(maps)
    result: Tensor = checkpoint(
        forward, maps, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, block)
    )
    return result


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), preserve_buffers(block)  # running statistics are updated by the first run only
