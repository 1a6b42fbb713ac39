"""Copies of networks on torch's meta device, where shapes are known and nothing is computed."""

import copy
from typing import TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def meta_copy(module: ModuleT) -> ModuleT:
    """Return a copy of a module on the meta device, without its hooks: they are for computations of the module."""
    copied = copy.deepcopy(module).to("meta")
    for child in copied.modules():
        for hooks in HOOKS:
            getattr(child, hooks).clear()
    return copied
