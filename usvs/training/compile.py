"""How a task module is compiled; the one place that scripts.

Interpreted, not re-specialised: TorchScript's profiling executor rewrites a graph after its first calls, and what it
rewrites rounds differently. Measured on torch 2.13: two equal runs in one process then differ in their last bits, and
so does a resumed run. Without those rewrites a scripted step equals the eager one bit for bit, in float32 and under
bfloat16 autocast.
"""

import warnings
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn

Compile = Literal["torchscript", "inductor", "eager"]


class Runnable(Protocol):
    """What a trainer needs of a compiled module."""

    def __call__(self, *inputs: Any) -> Any:
        """Run forward."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode."""


def compile_module(module: nn.Module, how: Compile) -> Runnable:
    """Return a callable that runs `module.forward` compiled; it shares the module's parameters and buffers.

    Args:
        module: already on its device and in its memory format, since moving it later would part the two.
        how: ``torchscript``, ``inductor`` (torch.compile) or ``eager``.
    """
    if how == "eager":
        return module
    if how == "inductor":
        return cast("Runnable", torch.compile(module))
    return Scripted(module)


class Scripted:
    """A scripted module run by the interpreter, without profile-guided rewriting."""

    def __init__(self, module: nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            self.module = torch.jit.script(module)

    def __call__(self, *inputs: Any) -> Any:
        """Run forward."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.module(*inputs)

    def train(self, mode: bool = True) -> "Scripted":
        """Switch training mode; a scripted module keeps its own flag."""
        self.module.train(mode)
        return self
