"""A killed process of an elastic torchrun: it starts the processes again, and `--resume` continues the run."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.training.compare import run_jobs
from tests.training.interruptions import weights_sha256
from usvs.training.checkpoint import step_folders
from usvs.training.distributed import _store_of_restart

ROOT = Path(__file__).resolve().parents[2]


class Elastic:
    """Two processes of one machine, as `docs/processes.md` starts them."""

    def __init__(self, store: Path, run: Path, settings: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "2"]
        launch += ["--max-restarts", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "elastic"]
        launch += ["--rdzv-conf", "last_call_timeout=1"]  # seconds that it waits for a second machine; 30 by default
        command = ["-m", "usvs", "pretrain", str(store), str(run), "--config", str(settings), "--resume"]
        self.run = run
        self.log = run.with_suffix(".log")
        with self.log.open("w") as log:
            self.agent = subprocess.Popen(
                [*launch, *command],
                cwd=run.parent,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def wait_for_step(self, step: int) -> None:
        """Return once a checkpoint of this step or a later one is complete."""
        limit = time.monotonic() + 300
        while not any(int(folder.name[5:]) >= step for folder in step_folders(self.run / "checkpoints")):
            assert self.agent.poll() is None and time.monotonic() < limit, self.log.read_text()[-3000:]
            time.sleep(0.005)

    def kill_rank(self, rank: int) -> None:
        """Kill a process of the run by SIGKILL, which it cannot notice."""
        children = Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split()
        for child in children:
            if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                return
        raise AssertionError(f"no process of rank {rank} among {children}")

    def finish(self) -> str:
        """Return what was logged by a run that ends well."""
        try:
            self.agent.wait(timeout=300)
        finally:
            self.agent.kill()
        text = self.log.read_text()
        assert self.agent.returncode == 0, text[-3000:]
        return text


def test_only_a_restart_on_one_machine_has_keys_of_its_own(monkeypatch):
    shared = dist.HashStore()
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(shared, 1, 2)]))
    for machines, restarts in (("1", "0"), ("2", "1")):
        monkeypatch.setenv("GROUP_WORLD_SIZE", machines)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        assert _store_of_restart() == {}
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    for restarts in ("1", "2"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        made = _store_of_restart()
        assert (made["rank"], made["world_size"]) == (1, 2)
        assert not made["store"].check(["address"])  # of the processes before
        made["store"].set("address", restarts)


LAST = "step_00000024"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_each_killed_rank_is_started_again_and_the_result_is_the_same(tmp_path, noise_store, tiny):
    """First one rank is killed, then the other, whose restart is the second one."""
    run = {"checkpoint_every_steps": 2, "keep_checkpoints": 50, "validate_every_steps": 1000}
    settings = tiny(run=run)
    settings = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update={"epochs": 8})})
    file = tmp_path / "settings.json"
    file.write_text(settings.model_dump_json())
    unbroken = {"call": "run_pretraining", "store": str(noise_store), "settings": str(file), "ranks": 2}
    codes, printed = run_jobs(tmp_path, [{**unbroken, "run": str(tmp_path / "unbroken")}])
    assert codes == [[0, 0]], printed

    killed = Elastic(noise_store, tmp_path / "run", file)
    killed.wait_for_step(4)
    killed.kill_rank(0)
    killed.wait_for_step(int(step_folders(killed.run / "checkpoints")[-1].name[5:]) + 4)
    killed.kill_rank(1)
    log = killed.finish()
    assert log.count("resuming after step") == 2 and "exitcode: -9" in log, log[-3000:]
    assert weights_sha256(killed.run, LAST) == weights_sha256(tmp_path / "unbroken", LAST)
