"""Interrupts pretraining at random instants, resumes it, and compares the weights with those of an uninterrupted run.

    python -m tests.training.interruptions [--count 200] [--seed 0]

Half of the interruptions are SIGTERM, half SIGKILL. Runs are forked from this process, which has loaded torch already;
when one ends, its weights are compared and the next one starts, until there were `--count` interruptions.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

import tests.support.loaded_before_fork  # noqa: F401
from tests.support.pretraining_stores import tiny_settings, write_store
from usvs.errors import UsvsError
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.training.checkpoint import step_folders

torch.set_num_threads(1)
PREEMPTED = 75


def start(store: Path, run: Path) -> int:
    """Fork a process that starts or resumes a run; return its id."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    try:
        pretrain(store, run, settings(), resume=True)
        os._exit(0)
    except UsvsError as error:
        os._exit(error.exit_code)
    except BaseException:
        os._exit(1)


def settings():
    return tiny_settings(run={"compile": "eager", "loader_workers": 1, "checkpoint_every_steps": 1})


def wait(child: int, seconds: float | None = None) -> int | None:
    """Return the exit code; None where the process still runs after `seconds`."""
    limit = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, 0 if limit is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if limit is not None and time.monotonic() > limit:
            return None
        time.sleep(0.001)


def weights_sha256(run: Path, name: str = "step_00000006") -> str:
    """Return the hash of the weights and the optimiser's state of a run's last checkpoint, which has this name."""
    last = step_folders(run / "checkpoints")[-1]
    assert last.name == name, last
    return hashlib.sha256(
        (last / "model.safetensors").read_bytes() + (last / "optimiser.safetensors").read_bytes()
    ).hexdigest()


def main(count: int, seed: int) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = write_store(folder / "store")
        started = time.monotonic()
        assert wait(start(store, folder / "uninterrupted")) == 0
        duration, expected = time.monotonic() - started, weights_sha256(folder / "uninterrupted")
        made = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        runs, tries = 0, 0
        while sum(made.values()) < count:
            child = start(store, folder / f"run{runs}")
            code = wait(child, choose.uniform(0.0, 1.2 * duration))
            if code is None:
                number = (signal.SIGTERM, signal.SIGKILL)[sum(made.values()) % 2]
                os.kill(child, number)
                code = wait(child)
                made[number] += 1
                assert code in (PREEMPTED, -number, 0), f"{number.name} ended a run with {code}"
            tries += 1
            if code == 0:
                assert weights_sha256(folder / f"run{runs}") == expected, f"run {runs} ended with other weights"
                runs += 1
            assert tries < 50 * count, "runs make no progress"
        assert wait(start(store, folder / f"run{runs}")) == 0
        assert weights_sha256(folder / f"run{runs}") == expected
        kinds = ", ".join(f"{sent} {number.name}" for number, sent in made.items())
        print(f"{sum(made.values())} interruptions ({kinds}) in {runs + 1} runs: all weights are equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
