"""How a task module is compiled; the one place that scripts.

Interpreted, not re-specialised: TorchScript's profiling executor rewrites a graph after its first calls, and what it
rewrites rounds differently. Measured on torch 2.13: two equal runs in one process then differ in their last bits, and
so does a resumed run. Without those rewrites a scripted step equals the eager one bit for bit, in float32 and under
bfloat16 autocast.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import torch
from torch import nn

Compile = Literal["torchscript", "inductor", "eager"]


class Runnable(Protocol):
    """What a trainer needs of a compiled module."""

    def __call__(self, *inputs: Any) -> Any:
        """Run the method that was compiled."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode."""

    def modules(self) -> Iterator[Any]:
        """Go through all submodules."""


def compile_module(module: nn.Module, how: Compile, method: str = "forward") -> Runnable:
    """Return a callable that runs a method of `module` compiled; it shares the module's parameters and buffers.

    Args:
        module: already on its device and in its memory format, since moving it later would part the two.
        how: ``torchscript``, ``inductor`` (torch.compile) or ``eager``.
        method: its name; forward's callees are compiled with it.
    """
    if how == "torchscript":
        return Scripted(module, method)
    plain = getattr(module, method)
    if how == "inductor":
        # Its own random numbers are others than torch's, and dropout is to be the same whoever compiles.
        plain = torch.compile(plain, options={"fallback_random": True})
    return Plain(module, plain)


class Plain:
    """A module called by one of its methods."""

    def __init__(self, module: nn.Module, method: Callable[..., Any]) -> None:
        self.module, self.method = module, method

    def __call__(self, *inputs: Any) -> Any:
        """Run the method."""
        return self.method(*inputs)

    def train(self, mode: bool = True) -> "Plain":
        """Switch training mode."""
        self.module.train(mode)
        return self

    def modules(self) -> Iterator[Any]:
        """Go through all submodules."""
        return self.module.modules()


class Scripted:
    """A scripted module run by the interpreter, without profile-guided rewriting."""

    def __init__(self, module: nn.Module, method: str = "forward") -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            self.module = torch.jit.script(module)
        self.method = getattr(self.module, method)

    def __call__(self, *inputs: Any) -> Any:
        """Run the method."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.method(*inputs)

    def modules(self) -> Iterator[Any]:
        """Go through all submodules."""
        modules: Iterator[Any] = self.module.modules()
        return modules

    def train(self, mode: bool = True) -> "Scripted":
        """Switch training mode; a scripted module keeps its own flag."""
        self.module.train(mode)
        return self
