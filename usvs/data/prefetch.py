"""Loading ahead of the consumer on threads, in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from usvs.errors import ConfigError, DataError, UsvsError

Loaded = TypeVar("Loaded")

LEAST_AHEAD = 2


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
            waiting.append(threads.submit(_load_step, load, step))
            if len(waiting) > max(LEAST_AHEAD, workers + 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _load_step(load: Callable[[int], Loaded], step: int) -> Loaded:
    try:
        return load(step)
    except UsvsError as error:
        raise type(error)(f"loading step {step}: {error}") from error
    except OSError as error:
        raise DataError(f"loading step {step}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"loading step {step}: {type(error).__name__}: {error}") from error
