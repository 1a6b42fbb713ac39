"""Jobs on processes of their own: order, errors, a process that dies, and signals."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from usvs.errors import ConfigError, DataError, ResourceError
from usvs.training import jobs as jobs_module
from usvs.training.jobs import JOB_BYTES, Job, choose_jobs, run_jobs
from usvs.training.settings import RunSettings

ROOT = Path(__file__).parents[2]


def append(folder: Path, name: str, text: str) -> dict[str, object]:
    """Name the process, and what it finds finished when it starts."""
    found = sorted(path.name for path in folder.iterdir())
    (folder / name).write_text(text)
    return {"found": found, "process": os.getpid(), "threads": torch.get_num_threads()}


def fail(kind: str) -> None:
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    raise DataError("scan 3 is damaged")


def linger(folder: Path, name: str, saves: bool) -> None:
    """Stand for a pretraining that saves its state when it is asked to stop, or for one that only ends."""
    (folder / f"{name}_started").touch()
    try:
        for _ in range(600):
            time.sleep(0.1)
    finally:
        if saves:
            time.sleep(0.3)
            (folder / f"{name}_saved").touch()


@pytest.mark.slow
def test_jobs_are_done_by_several_processes_and_after_those_that_they_need(tmp_path):
    results = {}
    jobs = [Job(f"pretrain_{n}", partial(append, tmp_path, f"pretrain_{n}", "")) for n in range(2)]
    jobs += [Job(f"test_{n}", partial(append, tmp_path, f"test_{n}", ""), f"pretrain_{n % 2}") for n in range(4)]
    jobs.append(Job("last", partial(append, tmp_path, "last", ""), "test_3"))
    run_jobs(jobs, 2, lambda job, result: results.update({job.name: result}), "jobs")
    assert set(results) == {job.name for job in jobs}
    for job in jobs:
        assert job.needs is None or job.needs in results[job.name]["found"]
    assert os.getpid() not in {result["process"] for result in results.values()}
    assert {result["threads"] for result in results.values()} == {max(1, torch.get_num_threads() // 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("raises", DataError, "scan 3 is damaged"),
        ("dies", ResourceError, "repeat the command with fewer than --jobs 2"),
    ],
)
def test_an_error_ends_the_jobs_and_keeps_what_is_finished(tmp_path, kind, error, message):
    stored = []
    jobs = [
        Job("first", partial(append, tmp_path, "first", "")),
        Job("bad", partial(fail, kind), "first"),
        Job("never", partial(append, tmp_path, "never", ""), "bad"),
    ]
    with pytest.raises(error, match=message):
        run_jobs(jobs, 2, lambda job, _: stored.append(job.name), "jobs")
    assert stored == ["first"] and not (tmp_path / "never").exists()


def test_what_cannot_be_sent_to_a_process_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="use --jobs 1"):
        run_jobs([Job("open_file", partial(print, file))], 2, lambda *_: None, "jobs")


@pytest.mark.slow
@pytest.mark.interruption
@pytest.mark.parametrize("number", [signal.SIGINT])
def test_a_signal_lets_the_jobs_save_and_ends_every_process(tmp_path, number):
    code = (
        "from tests.training.test_jobs import *\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "jobs = [Job(n, partial(linger, folder, n, saves)) for n, saves in (('one', True), ('two', False))]\n"
        "try:\n"
        "    run_jobs(jobs, 2, lambda *_: None, 'jobs')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("*_started"))) < 2:
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(number)
        output, _ = parent.communicate(timeout=60)
    assert output.startswith("Preempted") and signal.Signals(number).name in output
    assert (tmp_path / "one_saved").exists()


def test_the_number_of_jobs_is_that_of_threads_for_a_small_network_only(monkeypatch):
    small, large, cpu = nn.Linear(4, 4), nn.Linear(4_000_000, 4, device="meta"), torch.device("cpu")
    four = RunSettings(threads=4)
    monkeypatch.setattr(jobs_module, "available_memory_bytes", lambda: 64 * JOB_BYTES)
    assert choose_jobs(None, small, four, cpu) == 4
    assert choose_jobs(None, large, four, cpu) == 1
    assert choose_jobs(None, small, four, torch.device("cuda")) == 1
    assert choose_jobs(3, large, four, torch.device("cuda")) == 3
    monkeypatch.setattr(jobs_module, "available_memory_bytes", lambda: 2 * JOB_BYTES + 1)
    assert choose_jobs(None, small, four, cpu) == 2
    monkeypatch.setattr(jobs_module, "available_memory_bytes", lambda: 0)
    assert choose_jobs(None, small, four, cpu) == 1


def test_the_memory_of_this_machine_is_read():
    assert 1 << 28 < jobs_module.available_memory_bytes() < 1 << 50
