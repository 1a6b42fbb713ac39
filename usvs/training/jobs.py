"""Independent jobs on processes of their own: what is finished is stored, whatever happens to the rest."""

import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn

from usvs.errors import ConfigError, Preempted, ResourceError
from usvs.training.interruption import StopRequest, stop_on_signals
from usvs.training.settings import RunSettings
from usvs.training.threads import plan_threads
from usvs.utils.preview import available_memory_bytes
from usvs.utils.process_pool import process_executor
from usvs.utils.progress import console, track

JOB_BYTES = 2 << 30  # of a process that trains a small network: torch, a batch and the activations
POLL_SECONDS = 0.2
SAVING_SECONDS = 60.0  # what a stopped job may take to save its state

_is_working = False  # in a worker process


class Job(NamedTuple):
    """Work that can be done by another process.

    Attributes:
        name: unique among the jobs.
        work: without arguments; it and its result can be pickled.
        needs: name of the job that has to be finished first.
    """

    name: str
    work: Callable[[], Any]
    needs: str | None = None


def choose_jobs(asked: int | None, module: nn.Module, run: RunSettings, device: torch.device) -> int:
    """Return how many jobs run at once.

    Args:
        asked: by the user; None: one for each thread that may compute where the network is too small to use several,
            as far as memory allows; otherwise one.
        module: a network that the jobs train.
        run: threads.
        device: that the jobs compute on.
    """
    if asked is not None:
        return asked
    if device.type != "cpu" or plan_threads(module, device, run).of_operation > 1:
        return 1
    return max(1, min(run.threads or torch.get_num_threads(), available_memory_bytes() // JOB_BYTES))


def why_not_sendable(job: Job) -> str:
    """Return why a job cannot be sent to another process, such as an own task with an open file; or an empty text."""
    from joblib.externals.loky.backend.reduction import dumps

    try:
        dumps(job.work)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return str(error)
    return ""


def run_jobs(jobs: Sequence[Job], count: int, store: Callable[[Job, Any], None], name: str) -> None:
    """Run all jobs, `count` at once, each in a process of one share of the threads.

    After an error or a signal no job is started any more; those that run get SIGTERM, upon which a pretraining saves
    its state.

    Args:
        jobs: in the order in which they are started, as far as those that they need are finished.
        count: of processes.
        store: called in this process with each finished job and its result.
        name: of the work, on the progress bar.

    Raises:
        ConfigError: where a job cannot be sent to another process.
        ResourceError: where a process dies.
        Preempted: after SIGTERM or SIGINT.
    """
    if not jobs:
        return
    if reason := why_not_sendable(jobs[0]):
        raise ConfigError(
            f"--jobs {count}: expected what another process can be sent, got an error for {jobs[0].name} ({reason});"
            " use --jobs 1"
        )
    count = min(count, len(jobs))
    threads = max(1, torch.get_num_threads() // count)
    executor = process_executor(count, {"OMP_NUM_THREADS": str(threads)})
    running: dict[Future[Any], Job] = {}
    try:
        with stop_on_signals() as stop, closing(_finished(executor, list(jobs), count, running, stop)) as finished:  # type: ignore[type-var]
            for job, future in track(finished, name, len(jobs)):
                store(job, future.result())
    except BrokenProcessPool as error:
        raise ResourceError(
            f"{name}: a process died, of a crash or since memory ran out; finished results are stored: repeat the"
            f" command with fewer than --jobs {count}"
        ) from error
    finally:
        _stop(executor, running)
        executor.shutdown(wait=True, kill_workers=True)


def _finished(
    executor: Any, waiting: list[Job], count: int, running: dict[Future[Any], Job], stop: StopRequest
) -> Iterator[tuple[Job, Future[Any]]]:
    """Yield jobs as they finish, with their futures."""
    unfinished = {job.name for job in waiting}
    while waiting or running:
        for job in [job for job in waiting if job.needs not in unfinished][: count - len(running)]:
            waiting.remove(job)
            running[executor.submit(_work, job.work)] = job
        done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        if stop:
            raise Preempted(
                f"{stop.signal_name}: stopped; finished results are stored, the same command continues (finetune: with"
                " --resume)"
            )
        for future in done:
            job = running.pop(future)
            unfinished.remove(job.name)
            yield job, future


def _stop(executor: Any, running: dict[Future[Any], Job]) -> None:
    """Ask the jobs that run to end, and wait for it."""
    if not running:
        return
    for process in list((executor._processes or {}).values()):
        if process.is_alive():
            process.terminate()
    wait(running, timeout=SAVING_SECONDS)


def _work(work: Callable[[], Any]) -> Any:
    """Run a job in a worker process: the progress bar is the parent's, and SIGTERM ends the job, not the process."""
    global _is_working
    console.quiet = True
    signal.signal(signal.SIGTERM, _end_job)
    _is_working = True
    try:
        return work()
    finally:
        _is_working = False


def _end_job(_number: int, _frame: FrameType | None) -> None:
    if _is_working:
        raise Preempted("SIGTERM: stopped")
