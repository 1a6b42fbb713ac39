"""Results that are cheap to compute again: the backward pass gets a recipe for them, and not their values.

Activations are most of the memory of a training step. Each normalised map of a residual network is kept beside the map
that it was computed from, although one pass over memory computes it again (in-place activated batch norm, Rota Bulò et
al., CVPR 2018, and the memory-efficient DenseNet, Pleiss et al., 2017, do so inside of their layers). Here the op that
computes such a result says how (`offer`), and inside of `recomputing` whatever saves that result, in any compiled or
eager code, keeps what the op said instead. The same op on the same inputs gives the same bits.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_current = threading.local()


class Recipe:
    """How a result is computed again.

    Results build on each other through residual sums, so the first of a chain that is needed computes those before it;
    they stay until they have been used themselves, by the backward pass in its order.

    Args:
        compute: computes the result; its argument is the residual.
        residual: the recipe of the residual, or its values, or None.
    """

    def __init__(self, compute: Callable[[Tensor | None], Tensor], residual: "Recipe | Tensor | None") -> None:
        self._compute, self._residual = compute, residual
        self._expected_uses = 0
        self._value: Tensor | None = None

    def expect_use(self) -> None:
        """Say that `use` will be called once more."""
        self._expected_uses += 1

    def use(self) -> Tensor:
        """Return the result, and keep it no longer than it is expected to be used."""
        self._expected_uses -= 1
        value = self._computed()
        if self._expected_uses <= 0:
            self._value = None
        return value

    def _computed(self) -> Tensor:
        if self._value is not None:
            return self._value
        chain = [self]  # this one, and the ones that it builds on
        while isinstance(chain[-1]._residual, Recipe) and chain[-1]._residual._value is None:
            chain.append(chain[-1]._residual)
        below = chain[-1]._residual
        value = below._value if isinstance(below, Recipe) else below
        for recipe in reversed(chain):
            value = recipe._compute(value)
            if recipe._expected_uses > 0:
                recipe._value = value
        assert value is not None
        return value


class _Offer:
    """A result and its recipe; the result itself is not kept alive."""

    def __init__(self, result: Tensor, recipe: Recipe) -> None:
        self.recipe = recipe
        self._result, self._version = weakref.ref(result), result._version

    def describes(self, tensor: Tensor) -> bool:
        """Return whether a tensor of the same storage is the result as it was offered."""
        result = self._result()
        return (
            result is not None
            and tensor._version == self._version
            and tensor.dtype == result.dtype
            and tensor.shape == result.shape
            and tensor.stride() == result.stride()
            and tensor.storage_offset() == result.storage_offset()
        )


@contextmanager
def recomputing(keep: Callable[[Tensor], Any] | None = None) -> Iterator[None]:
    """Inside of the block, keep recipes for the backward pass instead of the results that `offer` was called for.

    Casts of parameters, as autocast makes them, are also made again. For one thread; blocks must not be nested, and
    inside of torch's `saved_tensors_hooks` those apply.

    Args:
        keep: called with each tensor that is kept as it is.
    """
    _current.offers = {}

    def pack(tensor: Tensor) -> Recipe | Tensor:
        recipe = _find(tensor) or _recipe_of_cast(tensor)
        if recipe is not None:
            recipe.expect_use()
            return recipe
        if keep is not None:
            keep(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
            yield
    finally:
        del _current.offers


def offer(result: Tensor, compute: Callable[[Tensor | None], Tensor], residual: Tensor | None) -> None:
    """Say how a result is computed again; called by the op that made it, outside of `recomputing` without effect.

    Args:
        result: of the op.
        compute: gives the same bits again; it must not hold `result` or the graph of its inputs.
        residual: argument of `compute`.
    """
    offers = getattr(_current, "offers", None)
    if offers is not None:
        known = None if residual is None else _find(residual)
        before = None if residual is None else residual.detach()
        offers[result.untyped_storage()._cdata] = _Offer(result, Recipe(compute, known or before))


def _find(tensor: Tensor) -> Recipe | None:
    known: _Offer | None = _current.offers.get(tensor.untyped_storage()._cdata)
    return known.recipe if known is not None and known.describes(tensor) else None


def _recipe_of_cast(tensor: Tensor) -> Recipe | None:
    """Return how a parameter's cast is made again; None where the tensor is no such cast."""
    node = tensor.grad_fn
    if node is None or node.name() != "ToCopyBackward0":
        return None
    parameter = getattr(node.next_functions[0][0], "variable", None)
    if parameter is None or parameter.shape != tensor.shape or parameter.device != tensor.device:
        return None
    dtype = tensor.dtype
    return Recipe(lambda _: parameter.detach().to(dtype), None)


def _unpack(kept: Recipe | Tensor) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    with torch.no_grad():
        return kept.use()
