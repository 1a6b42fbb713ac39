"""Loading ahead of the consumer on threads, in order."""

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from usvs.errors import ConfigError, DataError, UsvsError

Loaded = TypeVar("Loaded")

LEAST_AHEAD = 2
OWN_PAGES_BYTES = 1 << 16  # from this size on a tensor gets pages of its own


def step_range(start_step: int, stop_step: int) -> range:
    """Return the steps start_step .. stop_step - 1.

    Raises:
        ConfigError: unless 0 <= start_step <= stop_step.
    """
    if not 0 <= start_step <= stop_step:
        raise ConfigError(f"steps to load: expected 0 <= start <= stop, got {start_step} .. {stop_step}")
    return range(start_step, stop_step)


def load_in_order(load: Callable[[int], Loaded], steps: range, workers: int) -> Iterator[Loaded]:
    """Yield load(step) for every step, in order, whatever the number of threads.

    JPEG decoding, resizing and reading release the interpreter's lock, so threads suffice and nothing is copied.
    While the consumer uses one result, at most max(2, workers + 1) more are loaded or being loaded. When the consumer
    closes the iterator early, the threads end before `close` returns.

    Large tensors of a tuple are handed over in memory of their own, outside the heap: blocks that one thread allocates
    and another frees, at varying moments, would fragment the thread's heap, which then grows from step to step.

    Args:
        load: a function of the step alone that may be called from any thread.
        steps: what to load.
        workers: number of threads; 0 loads in the consumer's thread, on request.

    Raises:
        UsvsError: what `load` raised, when the iterator reaches that step, with the step before its message and the
            original as its cause. Other exceptions become a RuntimeError.
    """
    if workers == 0:
        for step in steps:
            yield _load_step(load, step)
        return
    waiting: deque[Future[Loaded]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="usvs-loader")
    try:
        for step in steps:
            waiting.append(threads.submit(_load_ahead, load, step))
            if len(waiting) > max(LEAST_AHEAD, workers + 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _load_ahead(load: Callable[[int], Loaded], step: int) -> Loaded:
    loaded: Any = _load_step(load, step)
    if not isinstance(loaded, tuple):
        return loaded  # type: ignore[no-any-return]
    parts = [_in_own_pages(part) if isinstance(part, Tensor) else part for part in loaded]
    moved: Loaded = loaded._make(parts) if hasattr(loaded, "_make") else tuple(parts)  # type: ignore[assignment]
    return moved


def _in_own_pages(tensor: Tensor) -> Tensor:
    """Return a copy in anonymous pages, which the system gets back with the tensor; small tensors as they are."""
    if tensor.device.type != "cpu" or tensor.nbytes < OWN_PAGES_BYTES or not tensor.is_contiguous():
        return tensor
    pages = mmap.mmap(-1, tensor.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)


def _load_step(load: Callable[[int], Loaded], step: int) -> Loaded:
    try:
        return load(step)
    except UsvsError as error:
        raise type(error)(f"loading step {step}: {error}") from error
    except OSError as error:
        raise DataError(f"loading step {step}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"loading step {step}: {type(error).__name__}: {error}") from error
