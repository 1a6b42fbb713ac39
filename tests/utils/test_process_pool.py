"""Tasks on processes and on executors: in order, few held at a time, a dead process costs its own task only."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from usvs.errors import DataError
from usvs.utils.process_pool import WAITING_PER_WORKER, run_each, run_each_on


def double(number: int) -> int:
    return 2 * number


def die_of_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def counted(limit: int, taken: list[int]) -> Iterator[int]:
    for number in range(limit):
        taken.append(number)
        yield number


def test_tasks_are_taken_as_they_are_needed():
    taken: list[int] = []
    results = run_each(double, counted(1000, taken), workers=1)
    assert next(results) == (0, 0) and len(taken) == 1
    with ThreadPoolExecutor(2) as executor:
        taken.clear()
        results = run_each_on(executor, double, counted(1000, taken), 2)
        assert next(results) == (0, 0) and len(taken) <= 2 * WAITING_PER_WORKER
        assert [result for _, result in results] == [2 * n for n in range(1, 1000)]
    assert list(run_each(double, [], 3)) == []


def test_a_process_that_dies_costs_its_own_task_only():
    results = dict(run_each(die_of_seven, iter(range(12)), workers=2))
    assert list(results) == list(range(12))
    assert isinstance(results[7], DataError) and "died" in str(results[7])
    assert all(results[n] == n for n in range(12) if n != 7)


def linger(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def test_when_the_parent_is_killed_its_processes_end(tmp_path: Path):
    code = f"from tests.utils.test_process_pool import *; list(run_each(linger, [{str(tmp_path)!r}] * 2, workers=2))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as parent:
        at_work = wait_for(lambda: sorted(tmp_path.iterdir()), lambda found: len(found) == 2)
        parent.kill()
    alive = wait_for(lambda: [file for file in at_work if is_alive(int(file.name))], lambda found: not found)
    for file in alive:
        os.kill(int(file.name), signal.SIGKILL)
    assert len(at_work) == 2 and alive == []


def is_alive(process: int) -> bool:
    """Whether it is there and no mere entry that nobody has asked for its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(look: Callable[[], list[Path]], enough: Callable[[list[Path]], bool]) -> list[Path]:
    for _ in range(300):
        if enough(look()):
            break
        time.sleep(0.1)
    return look()


def test_an_executors_last_word_is_a_result():
    class Grumpy(ThreadPoolExecutor):
        def submit(self, function, number):
            future: Future = Future()
            future.set_result(number) if number != 2 else future.set_exception(OSError("lost"))
            return future

    with Grumpy(1) as executor:
        results = [result for _, result in run_each_on(executor, double, range(4), 1)]
    assert results[:2] == [0, 1] and results[3] == 3
    assert isinstance(results[2], DataError) and "OSError" in str(results[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_keep_the_order(workers: int):
    assert [result for _, result in run_each(double, range(30), workers)] == [2 * n for n in range(30)]
