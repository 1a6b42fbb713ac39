"""What a step frees stays with the process: asking for it again costs no page faults."""

import subprocess
import sys

import pytest
import torch

from usvs.training import trainer
from usvs.training.settings import OptimiserSettings, RunSettings

PROGRAM = """
import resource, sys, torch
from usvs.training.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(8):  # small things lie down in the gaps at first
    faults()
print(faults())
"""


def faults_of_asking_again(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is asked")
def test_memory_that_was_freed_is_there_without_page_faults():
    assert faults_of_asking_again("keep") < 1000
    assert faults_of_asking_again("leave") > 10_000, "or this test could not fail"


def test_a_trainer_on_a_cpu_asks_for_it(monkeypatch: pytest.MonkeyPatch):
    asked: list[bool] = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: asked.append(True))
    trainer.Trainer(torch.nn.Linear(2, 2), OptimiserSettings(), RunSettings(device="cpu"), 1, 1)
    assert asked == [True]
