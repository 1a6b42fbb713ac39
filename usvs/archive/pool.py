"""One task for each scan on all cores, results in order, no failure of one the failure of all."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from usvs.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

WAITING_PER_WORKER = 4  # tasks handed out ahead: enough to keep all busy, few enough to bound what is held


def run_each(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None
) -> Iterator[tuple[Task, Result | DataError]]:
    """Yield each task with its result, in the tasks' order.

    A process that dies (a decoder that crashes, memory that runs out) costs its own task only: the tasks under way are
    done again, each in a process of its own, and the one that dies again is named by a DataError in its result's place.

    Args:
        function: of a module, so that other processes can import it; it handles its own errors.
        tasks: what to do.
        workers: processes; None is one a core, 1 stays in this process.
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    if workers == 1:
        for task in tasks:
            yield task, function(task)
        return
    done = 0
    while done < len(tasks):
        for task, result in _until_broken(function, tasks[done:], workers):
            done += 1
            yield task, result
        for task in tasks[done : done + workers * WAITING_PER_WORKER]:
            done += 1
            yield task, _alone(function, task)


def _until_broken(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Iterator[tuple[Task, Result]]:
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    todo = iter(tasks)
    with _executor(workers) as executor:
        try:
            for task in todo:
                waiting.append((task, executor.submit(function, task)))
                if len(waiting) >= workers * WAITING_PER_WORKER:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        except BrokenProcessPool:
            return
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _alone(function: Callable[[Task], Result], task: Task) -> Result | DataError:
    with _executor(1) as executor:
        try:
            return executor.submit(function, task).result()
        except BrokenProcessPool:
            return DataError("the process that read the file died (a crash in a decoder, or out of memory)")


def _executor(workers: int) -> Executor:
    # a fork would copy the locks of torch's and the progress bar's threads in whatever state they are
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
