"""Fixtures of small stores and runs of pretraining."""

import pytest
import torch

from tests.support.pretraining_stores import noise_store, silent_store, store_writer, tiny
from usvs.tasks.pretraining.pretrain import pretrain

__all__ = ["noise_store", "silent_store", "store_writer", "tiny"]


@pytest.fixture(scope="module")
def one_thread():
    """Bits are promised for a number of threads; what other tests did to this process's pools is not to be in them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(one_thread, tmp_path_factory, noise_store, tiny):
    """A complete run."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    return pretrain(noise_store, run, tiny())
