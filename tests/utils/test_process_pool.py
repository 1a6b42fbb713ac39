"""Tasks on processes and on executors: in order, few held at a time, a dead process fails its own task only."""

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
from usvs.utils.process_pool import PENDING_PER_WORKER, count_workers, map_tasks, map_tasks_on


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


def test_one_worker_per_core_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1000")
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})  # as a job that has one core of a node
        assert count_workers(None) == count_workers(None, 9) == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert count_workers(5) == 5 and count_workers(5, 3) == 3 and count_workers(5, 0) == 1


def test_tasks_are_taken_as_they_are_needed():
    taken: list[int] = []
    results = map_tasks(double, counted(1000, taken), workers=1)
    assert next(results) == (0, 0) and len(taken) == 1
    with ThreadPoolExecutor(2) as executor:
        taken.clear()
        results = map_tasks_on(executor, double, counted(1000, taken), 2)
        assert next(results) == (0, 0) and len(taken) <= 2 * PENDING_PER_WORKER
        assert [result for _, result in results] == [2 * n for n in range(1, 1000)]
    assert list(map_tasks(double, [], 3)) == []


@pytest.mark.slow
def test_a_process_that_dies_fails_its_own_task_only():
    results = dict(map_tasks(die_of_seven, iter(range(12)), workers=2))
    assert list(results) == list(range(12))
    assert isinstance(results[7], DataError) and "died" in str(results[7])
    assert all(results[n] == n for n in range(12) if n != 7)


def linger(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.slow
def test_when_the_parent_is_killed_its_processes_end(tmp_path: Path):
    code = f"from tests.utils.test_process_pool import *; list(map_tasks(linger, [{str(tmp_path)!r}] * 2, workers=2))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as parent:
        at_work = wait_for(lambda: sorted(tmp_path.iterdir()), lambda found: len(found) == 2)
        parent.kill()
    alive = wait_for(lambda: [file for file in at_work if is_alive(int(file.name))], lambda found: not found)
    for file in alive:
        os.kill(int(file.name), signal.SIGKILL)
    assert len(at_work) == 2 and alive == []


def is_alive(process: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(observe: Callable[[], list[Path]], enough: Callable[[list[Path]], bool]) -> list[Path]:
    for _ in range(300):
        if enough(observe()):
            break
        time.sleep(0.1)
    return observe()


SCRIPT = """
from tests.utils.test_process_pool import double
from usvs.utils.process_pool import map_tasks

print("main")
print([result for _, result in map_tasks(double, range(5), workers=2)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stdin", "own function"])
def test_a_script_without_a_main_guard_runs_once(tmp_path: Path, source: str):
    script = SCRIPT
    if source == "own function":
        script = script.replace("from tests.utils.test_process_pool import double", "def double(n): return 2 * n")
    (tmp_path / "script.py").write_text(script)
    arguments = [] if source == "stdin" else [str(tmp_path / "script.py")]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, *(arguments or ["-"])],
        input=script if source == "stdin" else None,
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "main\n[0, 2, 4, 6, 8]\n"


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_prints_one_traceback(tmp_path: Path):
    # a process that a shell starts in the background ignores SIGINT, and so do its children
    handled = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"from tests.utils.test_process_pool import *; list(map_tasks(linger, [{str(tmp_path)!r}] * 2, workers=2))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{handled}; {code}"],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        at_work = wait_for(lambda: sorted(tmp_path.iterdir()), lambda found: len(found) == 2)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        error = parent.communicate(timeout=30)[1]
    alive = wait_for(lambda: [file for file in at_work if is_alive(int(file.name))], lambda found: not found)
    assert len(at_work) == 2 and alive == []
    assert error.count("Traceback") == 1 and error.rstrip().endswith("KeyboardInterrupt")


def test_an_exception_of_an_executor_is_a_result():
    class Failing(ThreadPoolExecutor):
        def submit(self, function, number):
            future: Future = Future()
            future.set_result(number) if number != 2 else future.set_exception(OSError("lost"))
            return future

    with Failing(1) as executor:
        results = [result for _, result in map_tasks_on(executor, double, range(4), 1)]
    assert results[:2] == [0, 1] and results[3] == 3
    assert isinstance(results[2], DataError) and "OSError" in str(results[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_keep_the_order(workers: int):
    assert [result for _, result in map_tasks(double, range(30), workers)] == [2 * n for n in range(30)]
