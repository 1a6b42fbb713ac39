"""Process-wide settings: set by `process_settings` alone, restored after it, and untouched by imports and trainers."""

import json
import sys

import pytest
import torch

from tests.support.processes import run_python
from usvs.training.process import process_settings
from usvs.training.random_state import seeded

CPU = torch.device("cpu")

FAULTS = """
import contextlib, resource, sys, torch
from usvs.training.process import process_settings
def faults(mib):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(mib << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def settled(mib):
    for _ in range(8):  # small blocks fill the gaps at first
        faults(mib)
    return faults(mib)
with process_settings(torch.device("cpu")):
    with process_settings(torch.device("cpu")):
        pass
    inside = settled(64)
print(inside, settled(256))  # larger than any gap that the block left in the heap
"""

UNCHANGED = """
import importlib, json, logging, pkgutil
import matplotlib, numpy, torch
def state():
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "dtype": str(torch.get_default_dtype()),
        "torch_rng": hash(torch.get_rng_state().numpy().tobytes()),
        "numpy_rng": hash(numpy.random.get_state()[1].tobytes()),
        "root_level": logging.getLogger().level,
        "root_handlers": len(logging.getLogger().handlers),
        "usvs_level": logging.getLogger("usvs").level,
        "usvs_handlers": len(logging.getLogger("usvs").handlers),
        "backend": str(dict.__getitem__(matplotlib.rcParams, "backend")),
        "third_party_levels": {n: logging.getLogger(n).level for n in ("libav", "pydicom", "matplotlib", "PIL")},
        "av_level": av_level(),
    }
def av_level():
    import av.logging
    return av.logging.get_level()
import tensorboard, pydicom
before = state()
import usvs
missing = []
for module in pkgutil.walk_packages(usvs.__path__, "usvs."):
    if module.name == "usvs.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        missing.append(str(error))
after_import = state()
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.task import PretrainingTask
from tests.support.pretraining_stores import tiny_settings
from tests.training.test_micro_batches import batch
from usvs.training.trainer import Trainer
settings = tiny_settings()
trainer = Trainer(PretrainingTask(settings).module(), settings.optimiser, settings.run, 10, 5)
after_trainer = state()
trainer.step(*batch(0, 6))
after_step = state()
print(json.dumps([before, after_import, after_trainer, after_step]))
"""


def run(program: str) -> str:
    return run_python("-c", program, environment={"PYTHONHASHSEED": "0"}).splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is set")
def test_inside_the_block_freed_memory_is_reused_without_page_faults_and_after_it_returned():
    inside, outside = map(int, run(FAULTS).split())
    assert inside < 1000
    assert outside > 10_000


@pytest.mark.slow
def test_importing_everything_constructing_a_trainer_and_a_step_change_nothing_of_the_process():
    before, *later = json.loads(run(UNCHANGED))
    for state in later:
        assert state == before


def flags() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


@pytest.mark.parametrize("deterministic", [False, True])
def test_flags_are_set_in_the_block_and_restored_after_it_and_after_an_error(deterministic):
    original = flags()
    torch.use_deterministic_algorithms(deterministic)
    try:
        before = flags()
        with pytest.raises(KeyError), process_settings(CPU):
            assert flags() == (True, True, False)
            with process_settings(CPU):
                pass
            assert flags() == (True, True, False)
            raise KeyError
        assert flags() == before
        with process_settings(torch.device("cuda")):
            assert flags() == before
    finally:
        torch.use_deterministic_algorithms(original[0], warn_only=original[1])


def test_the_generator_is_seeded_as_manual_seed_does_and_restored():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(5):
        drawn = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4), drawn)
