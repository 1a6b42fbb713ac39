"""Stops a pretraining at random instants, goes on, and compares what comes out with a run that nobody disturbed.

    python tests/training/interruptions.py [--stops 200] [--seed 0]

Half of the stops are SIGTERM, half SIGKILL. Runs are forked from this process, which has torch already; when one ends,
its weights are compared and the next begins, until there were as many stops as asked for. `make stops` makes 200.
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
from conftest import tiny_settings, write_store

from usvs.errors import UsvsError
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.training.checkpoint import step_folders

torch.set_num_threads(1)
PREEMPTED = 75


def begin(store: Path, run: Path) -> int:
    """Fork a run that begins or goes on; return its process."""
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
    """The exit code; None where it still runs after so many seconds."""
    limit = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, 0 if limit is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if limit is not None and time.monotonic() > limit:
            return None
        time.sleep(0.001)


def weights_sha256(run: Path) -> str:
    """Hash of the weights and the optimiser's state of a run's last checkpoint."""
    last = step_folders(run / "checkpoints")[-1]
    assert last.name == "step_00000006", last
    return hashlib.sha256(
        (last / "model.safetensors").read_bytes() + (last / "optimiser.safetensors").read_bytes()
    ).hexdigest()


def main(stops: int, seed: int) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = write_store(folder / "store")
        began = time.monotonic()
        assert wait(begin(store, folder / "undisturbed")) == 0
        whole, expected = time.monotonic() - began, weights_sha256(folder / "undisturbed")
        made = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        runs, tries = 0, 0
        while sum(made.values()) < stops:
            child = begin(store, folder / f"run{runs}")
            code = wait(child, choose.uniform(0.0, 1.2 * whole))
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
            assert tries < 50 * stops, "runs do not get on"
        assert wait(begin(store, folder / f"run{runs}")) == 0
        assert weights_sha256(folder / f"run{runs}") == expected
        kinds = ", ".join(f"{count} {number.name}" for number, count in made.items())
        print(f"{sum(made.values())} stops ({kinds}) in {runs + 1} runs: every run's weights are the undisturbed run's")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
