"""An interrupted pretraining that is resumed gives the same bits as one that was not."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.support.pretraining_runs import STEPS, equal, records, stop_after, weights
from usvs.errors import Preempted
from usvs.tasks.pretraining.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("at", [1, pytest.param(4, marks=pytest.mark.slow)])  # in the middle of an epoch
def test_stopped_and_resumed_equals_undisturbed_bit_for_bit(tmp_path, monkeypatch, noise_store, tiny, undisturbed, at):
    with monkeypatch.context() as patch:
        stop_after(patch, at)
        with pytest.raises(Preempted, match=f"SIGTERM: stopped after step {at} of {STEPS}") as stopped:
            pretrain(noise_store, tmp_path / "run", tiny())
    assert stopped.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = pretrain(noise_store, tmp_path / "run", tiny(), resume=True)
    assert resumed.steps == STEPS
    assert equal(weights(resumed.run), weights(undisturbed.run))
    assert records(resumed.run) == records(undisturbed.run)


@pytest.mark.slow
def test_resuming_past_a_damaged_checkpoint_gives_the_same_bits(tmp_path, monkeypatch, noise_store, tiny, undisturbed):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        stop_after(patch, 3)
        pretrain(noise_store, run, tiny())
    damaged = run / "checkpoints" / "step_00000003" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    (run / "checkpoints" / ".writing-step_00000004").mkdir()
    resumed = pretrain(noise_store, run, tiny(), resume=True)  # from step 2
    assert equal(weights(resumed.run), weights(undisturbed.run))
    assert records(run) == records(undisturbed.run)


def test_resuming_a_finished_run_changes_nothing(tmp_path, noise_store, tiny, undisturbed):
    run = tmp_path / "run"
    shutil.copytree(undisturbed.run, run)
    before = weights(run)
    again = pretrain(noise_store, run, tiny(), resume=True)
    assert again.steps == STEPS and again.metrics == undisturbed.metrics
    assert equal(weights(run), before) and records(run) == records(undisturbed.run)


def test_resume_without_a_run_begins_one(tmp_path, noise_store, tiny, undisturbed):
    result = pretrain(noise_store, tmp_path / "new", tiny(), resume=True)
    assert equal(weights(result.run), weights(undisturbed.run))


@pytest.mark.slow
def test_how_a_run_is_carried_out_may_change(tmp_path, monkeypatch, noise_store, tiny, undisturbed):
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        stop_after(patch, 2)
        pretrain(noise_store, tmp_path / "run", tiny(run={"loader_workers": 0}))
    resumed = pretrain(noise_store, tmp_path / "run", tiny(run={"loader_workers": 3}), resume=True)
    assert equal(weights(resumed.run), weights(undisturbed.run))


@pytest.mark.slow
def test_a_real_sigterm_saves_and_a_sigkill_loses_no_more_than_an_interval(tmp_path, noise_store, tiny, undisturbed):
    settings = tmp_path / "settings.json"
    settings.write_text(tiny().model_dump_json())
    script = (
        "import sys, time; from pathlib import Path\n"
        "from usvs.config import load_settings; from usvs.errors import UsvsError\n"
        "from usvs.tasks.pretraining.pretrain import pretrain; from usvs.training.trainer import Trainer\n"
        "from usvs.tasks.pretraining.settings import PretrainSettings\n"
        "step = Trainer.step\n"
        "def slow(self, *batch, **shard):\n    values = step(self, *batch, **shard); time.sleep(0.15); return values\n"
        "Trainer.step = slow\n"
        "store, run, settings = map(Path, sys.argv[1:])\n"
        "try: pretrain(store, run, load_settings(PretrainSettings(), settings), resume=True)\n"
        "except UsvsError as error: sys.exit(error.exit_code)\n"
    )
    run = tmp_path / "run"
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}

    def start_and_send(number: int, after_step: int) -> int:
        arguments = [sys.executable, "-c", script, str(noise_store), str(run), str(settings)]
        process = subprocess.Popen(arguments, env=os.environ | threads)
        try:
            limit = time.monotonic() + 60
            while time.monotonic() < limit and process.poll() is None:
                if (run / "metrics.jsonl").exists() and f'"step": {after_step},' in (run / "metrics.jsonl").read_text():
                    process.send_signal(number)
                    break
                time.sleep(0.02)
            return process.wait(60)
        finally:
            process.kill()

    assert start_and_send(signal.SIGTERM, 1) == 75
    assert start_and_send(signal.SIGKILL, 4) == -signal.SIGKILL
    finished = pretrain(noise_store, run, tiny(), resume=True)
    assert equal(weights(finished.run), weights(undisturbed.run))
    assert records(run) == records(undisturbed.run)
