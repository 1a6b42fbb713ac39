"""Two nodes of torchrun, which connect over loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from usvs.training.checkpoint import step_folders
from usvs.training.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_machines_share_a_run(tmp_path, noise_store, tiny):
    settings = tmp_path / "settings.json"
    settings.write_text(tiny(run={"compile": "eager"}).model_dump_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def machine(rank: int) -> subprocess.Popen:
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
        launch += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        command = ["-m", "usvs", "pretrain", str(noise_store), str(tmp_path / "run"), "--config", str(settings)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*launch, *command],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    machines = [machine(rank) for rank in (0, 1)]
    logs = [each.communicate(timeout=300) for each in machines]
    assert [each.returncode for each in machines] == [0, 0], logs
    assert "pretrained 6 steps" in logs[0][1]
    assert "pretrain" not in logs[1][1]  # only rank 0 logs progress
    assert step_folders(tmp_path / "run" / "checkpoints")[-1].name == "step_00000006"
    assert [r["step"] for r in read_metrics(tmp_path / "run") if r["split"] == "train"] == list(range(1, 7))
