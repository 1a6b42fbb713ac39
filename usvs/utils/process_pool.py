"""One task for each scan on all cores, results in order, no failure of one the failure of all."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from usvs.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

WAITING_PER_WORKER = 4  # tasks handed out ahead: enough to keep all busy, few enough to bound what is held
DIED = "the process that read the file died (a crash in a decoder, or out of memory)"


def run_each(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Iterator[tuple[Task, Result | DataError]]:
    """Yield each task with its result, in the tasks' order; of the tasks, only those under way are held.

    A process that dies (a decoder that crashes, memory that runs out) costs its own task only: the tasks under way are
    done again, each in a process of its own, and the one that dies again is named by a DataError in its result's place.

    Args:
        function: of a module, so that other processes can import it; it handles its own errors.
        tasks: what to do.
        workers: processes; None is one a core, 1 stays in this process.
    """
    workers = workers or os.cpu_count() or 1
    if isinstance(tasks, Sized):
        workers = min(workers, max(1, len(tasks)))
    todo = iter(tasks)
    if workers == 1:
        for task in todo:
            yield task, function(task)
        return
    under_way: deque[tuple[Task, Future[Result]]] = deque()
    while True:
        with _executor(workers) as executor:
            yield from _until_broken(executor, function, todo, workers, under_way)
        if not under_way:
            return
        while under_way:
            task, _ = under_way.popleft()
            yield task, _alone(function, task)


def run_each_on(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result | DataError]]:
    """Do as `run_each`, on an executor that looks after its workers itself, such as a cluster's.

    Args:
        executor: does a task again whose worker died; an exception of a future is its last word on the task.
        function: as of `run_each`.
        tasks: what to do.
        workers: how many tasks can be under way at once.
    """
    under_way: deque[tuple[Task, Future[Result]]] = deque()
    todo = iter(tasks)
    while True:
        for task in islice(todo, workers * WAITING_PER_WORKER - len(under_way)):
            under_way.append((task, executor.submit(function, task)))
        if not under_way:
            return
        task, future = under_way.popleft()
        error = future.exception()
        yield task, future.result() if error is None else DataError(f"{DIED}; {type(error).__name__}")


def _until_broken(
    executor: Executor,
    function: Callable[[Task], Result],
    todo: Iterator[Task],
    workers: int,
    under_way: deque[tuple[Task, Future[Result]]],
) -> Iterator[tuple[Task, Result]]:
    """Work until all is done or a process dies; what is not done then stays in `under_way`."""
    try:
        while True:
            while len(under_way) < workers * WAITING_PER_WORKER and (new := list(islice(todo, 1))):
                under_way.append((new[0], Future()))  # first, so that it is not lost where the pool is broken already
                under_way[-1] = (new[0], executor.submit(function, new[0]))
            if not under_way:
                return
            task, future = under_way[0]
            result = future.result()
            under_way.popleft()
            yield task, result
    except BrokenProcessPool:
        return
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _alone(function: Callable[[Task], Result], task: Task) -> Result | DataError:
    with _executor(1) as executor:
        try:
            return executor.submit(function, task).result()
        except BrokenProcessPool:
            return DataError(DIED)


def _executor(workers: int) -> Executor:
    # a fork would copy the locks of torch's and the progress bar's threads in whatever state they are
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Watch the process that hands out the tasks: when it is killed, nobody else ends this one or holds the lock."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def _wait_and_end(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
