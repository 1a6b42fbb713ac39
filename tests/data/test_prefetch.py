"""Loading ahead: in order, bounded, with errors in their turn and threads that end."""

import ctypes
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from usvs.data.prefetch import load_in_order
from usvs.errors import ConfigError, DataError


class Batch(NamedTuple):
    large: Tensor
    small: Tensor
    text: str
    empty: Tensor


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("usvs-loader")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept(workers: int):
    def load(step: int) -> int:
        time.sleep(0.002 * (step % 3))
        return step * step

    assert list(load_in_order(load, range(5, 25), workers)) == [step * step for step in range(5, 25)]
    assert not loader_threads()
    assert list(load_in_order(load, range(0), workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_surfaces_in_its_turn_with_step_and_cause(workers: int):
    def load(step: int) -> int:
        if step == 4:
            raise DataError("frame 7 is damaged")
        return step

    got = []
    with pytest.raises(DataError, match="loading step 4: frame 7 is damaged") as raised:
        for step in load_in_order(load, range(10), workers):
            got.append(step)
    assert got == [0, 1, 2, 3]
    assert str(raised.value.__cause__) == "frame 7 is damaged"
    assert not loader_threads()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ConfigError("x"), ConfigError), (OSError("gone"), DataError), (ZeroDivisionError("x"), RuntimeError)],
)
def test_kinds_of_errors(error: Exception, kind: type[Exception]):
    def load(step: int) -> int:
        raise error

    with pytest.raises(kind, match="loading step 0") as raised:
        next(load_in_order(load, range(3), 1))
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_promised_is_loaded_ahead(workers: int):
    started = []

    def load(step: int) -> int:
        started.append(step)
        return step

    batches = load_in_order(load, range(1000), workers)
    next(batches)
    time.sleep(0.1)
    assert len(started) <= 1 + max(2, workers + 1)
    batches.close()


def test_stopping_early_ends_the_threads():
    def load(step: int) -> int:
        time.sleep(0.01)
        return step

    for step in load_in_order(load, range(1000), 2):
        if step == 3:
            break
    assert not loader_threads()


def test_batches_loaded_ahead_are_equal_and_do_not_use_the_heap_of_the_loaders_thread():
    def load(step):
        return Batch(torch.arange(100_000) + step, torch.tensor(step), "name", torch.ones(2, 0))

    ahead, plain = (list(load_in_order(load, range(5), workers)) for workers in (1, 0))
    for one, other in zip(ahead, plain, strict=True):
        assert isinstance(one, Batch) and one.text == other.text
        assert all(torch.equal(one[part], other[part]) for part in (0, 1, 3))
    held = ahead[0].large
    del ahead
    assert torch.equal(held, plain[0].large)  # its pages live as long as the tensor


HEAP = """
import ctypes, torch
from usvs.data.prefetch import load_in_order
from usvs.training.process import keep_freed_memory
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c d e f in_use free g".split()]
library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
def load(step):
    return (torch.full((1 << 20,), float(step)),)
with keep_freed_memory():
    before, kept = library.mallinfo2().in_use, []
    for batch in load_in_order(load, range(20), 1):
        kept.append(batch)
    del batch
    print(library.mallinfo2().in_use - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts the blocks of glibc's malloc")
def test_batches_that_the_consumer_keeps_are_not_in_the_heap():
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4 << 20  # of 80 MiB
