"""Tasks on worker processes or on another executor: results in order, and a process that dies fails its own task only.

The processes are loky's (kept by the joblib project, https://github.com/joblib/loky), not the standard library's,
because loky does not import the caller's main module again: a plain script without ``if __name__ == "__main__"`` and
a notebook work. joblib, which scikit-learn needs, contains it.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from threading import Thread
from typing import Any, TypeVar

from usvs.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

PENDING_PER_WORKER = 4  # tasks submitted ahead: enough to keep all workers busy, few enough to bound the memory
PARENT_CHECK_SECONDS = 0.5
PROCESS_DIED = "the worker process died (a crash in a decoder, or out of memory)"


def count_workers(asked: int | None, tasks: int | None = None) -> int:
    """Return how many processes run tasks: no more than there are tasks.

    Args:
        asked: by the user; None is one per core that this process may use: by its affinity (a job of a cluster), the
            quota of its container, and LOKY_MAX_CPU_COUNT.
        tasks: their number, where it is known.
    """
    if asked is None:
        from joblib import cpu_count

        asked = int(cpu_count())
    return asked if tasks is None else min(asked, max(1, tasks))


def map_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Generator[tuple[Task, Result | DataError], None, None]:
    """Yield each task with its result, in the order of the tasks; only the pending tasks are held in memory.

    A process that dies (a decoder crashes, memory runs out) fails its own task only: the pending tasks are run again,
    each in a process of its own, and the result of a task whose process dies again is a DataError.

    Args:
        function: a function of a module, so that other processes can import it; it handles its own errors.
        tasks: its arguments.
        workers: number of processes, see `count_workers`; 1 runs the tasks in this process.
    """
    workers = count_workers(workers, len(tasks) if isinstance(tasks, Sized) else None)
    remaining = iter(tasks)
    if workers == 1:
        for task in remaining:
            yield task, function(task)
        return
    pending: deque[tuple[Task, Future[Result]]] = deque()
    while True:
        yield from _map_until_broken(function, remaining, workers, pending)
        if not pending:
            return
        while pending:
            task, _ = pending.popleft()
            yield task, _run_in_own_process(function, task)


def map_or_raise(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None, command: str
) -> Iterator[Result]:
    """Yield each task's result, in the order of the tasks; arguments as of `map_tasks`.

    Raises:
        DataError: with the name of the command, where a process dies twice.
    """
    for _, result in map_tasks(function, tasks, workers):
        if isinstance(result, DataError):
            raise DataError(f"{command}: {result}; use fewer workers")
        yield result


def map_tasks_on(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Generator[tuple[Task, Result | DataError], None, None]:
    """Do as `map_tasks` on an executor that restarts its own workers, such as a Dask cluster's.

    Args:
        executor: repeats a task whose worker died; the exception of a future is final.
        function: as of `map_tasks`.
        tasks: its arguments.
        workers: number of tasks that run at once.
    """
    pending: deque[tuple[Task, Future[Result]]] = deque()
    remaining = iter(tasks)
    while True:
        for task in islice(remaining, workers * PENDING_PER_WORKER - len(pending)):
            pending.append((task, executor.submit(function, task)))
        if not pending:
            return
        task, future = pending.popleft()
        error = future.exception()
        yield task, future.result() if error is None else DataError(f"{PROCESS_DIED}; {type(error).__name__}")


def _map_until_broken(
    function: Callable[[Task], Result],
    remaining: Iterator[Task],
    workers: int,
    pending: deque[tuple[Task, Future[Result]]],
) -> Iterator[tuple[Task, Result]]:
    """Run tasks until all are done or a process dies; what is not done then stays in `pending`."""
    executor = process_executor(workers)
    is_done = False
    try:
        while True:
            while len(pending) < workers * PENDING_PER_WORKER and (new := list(islice(remaining, 1))):
                pending.append((new[0], Future()))  # before submit, which raises where the pool is broken already
                pending[-1] = (new[0], executor.submit(function, new[0]))
            if not pending:
                is_done = True
                return
            task, future = pending[0]
            result = future.result()
            pending.popleft()
            yield task, result
    except BrokenProcessPool:
        return
    finally:
        # an interrupted caller does not wait for the tasks that run
        executor.shutdown(wait=True, kill_workers=not is_done)


def _run_in_own_process(function: Callable[[Task], Result], task: Task) -> Result | DataError:
    executor = process_executor(1)
    try:
        result: Result = executor.submit(function, task).result()
        return result
    except BrokenProcessPool:
        return DataError(PROCESS_DIED)
    finally:
        executor.shutdown(wait=True, kill_workers=True)


def process_executor(workers: int, environment: Mapping[str, str] | None = None) -> Any:
    """Return an executor of processes that leave Ctrl-C to this one and end with it.

    Args:
        workers: their number.
        environment: variables that they have besides this process's.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    variables = None if environment is None else dict(environment)
    return ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),), env=variables)


def _start_worker(parent: int) -> None:
    """Let the parent alone handle Ctrl-C, and end this process when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # loky's workers wait for tasks for ever when their parent is killed with SIGKILL, which nothing can handle
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)
