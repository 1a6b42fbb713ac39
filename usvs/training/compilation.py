"""How a module is compiled; the one place that calls TorchScript.

TorchScript code is interpreted, without its profiling executor, which rewrites a graph after the first calls into one
that rounds differently. Measured on torch 2.13: with it, two equal runs in one process differ in their last bits, and
so does a resumed run. Without it a scripted step equals the eager one bit for bit, in float32 and under bfloat16
autocast.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import torch
from torch import nn

Compile = Literal["torchscript", "inductor", "eager"]
logger: logging.Logger = logging.getLogger(__name__)


class CompiledModule(Protocol):
    """What a trainer needs of a compiled module."""

    def __call__(self, *inputs: Any) -> Any:
        """Run the method that was compiled."""

    def run(self, method: str, *inputs: Any) -> Any:
        """Run another method, which need not be compiled."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode."""

    def modules(self) -> Iterator[Any]:
        """Iterate over all submodules."""


def compile_module(module: nn.Module, how: Compile, method: str = "forward") -> CompiledModule:
    """Return a callable that runs a method of `module` compiled; it shares the module's parameters and buffers.

    A module that TorchScript does not support runs eagerly, which gives the same numbers, with a warning in the log.

    Args:
        module: already on its device and in its memory format; moved later, it would no longer share its parameters.
        how: ``torchscript``, ``inductor`` (torch.compile) or ``eager``.
        method: its name; what ``forward`` calls is compiled with it.
    """
    if how == "torchscript":
        try:
            return ScriptedModule(module, method)
        except Exception as error:  # the compiler raises many kinds; a real fault shows in the eager module too
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            logger.warning(
                f"{type(module).__name__}: TorchScript cannot compile it ({reason}), so it runs eagerly with the same"
                " results; run.compile=eager avoids the attempt"
            )
            how = "eager"
    function = getattr(module, method)
    if how == "inductor":
        # Inductor draws other random numbers than torch; with the fallback, dropout is the same under every compiler.
        function = torch.compile(function, options={"fallback_random": True})
    return EagerModule(module, function)


class EagerModule:
    """A module and the one of its methods that is called."""

    def __init__(self, module: nn.Module, method: Callable[..., Any]) -> None:
        self.module: nn.Module
        self.method: Callable[..., Any]
        self.module, self.method = module, method

    def __call__(self, *inputs: Any) -> Any:
        """Run the method."""
        return self.method(*inputs)

    def run(self, method: str, *inputs: Any) -> Any:
        """Run another method, uncompiled."""
        return getattr(self.module, method)(*inputs)

    def train(self, mode: bool = True) -> "EagerModule":
        """Switch training mode."""
        self.module.train(mode)
        return self

    def modules(self) -> Iterator[Any]:
        """Iterate over all submodules."""
        return self.module.modules()


class ScriptedModule:
    """A scripted module run by the interpreter, without profile-guided rewriting."""

    def __init__(self, module: nn.Module, method: str = "forward") -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            self.module: Any = torch.jit.script(module)
        self.method: Callable[..., Any] = getattr(self.module, method)

    def __call__(self, *inputs: Any) -> Any:
        """Run the method."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.method(*inputs)

    def run(self, method: str, *inputs: Any) -> Any:
        """Run another method of the scripted module."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return getattr(self.module, method)(*inputs)

    def modules(self) -> Iterator[Any]:
        """Iterate over all submodules."""
        modules: Iterator[Any] = self.module.modules()
        return modules

    def train(self, mode: bool = True) -> "ScriptedModule":
        """Switch training mode; a scripted module has a flag of its own."""
        self.module.train(mode)
        return self
