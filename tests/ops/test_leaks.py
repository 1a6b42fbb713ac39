"""Ops free what they allocate: some bytes a call fragment the heap of a training run of thousands of steps."""

import contextlib
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tests.support.heap import leaked_bytes_per_call
from usvs import ops

MOST_BYTES_PER_CALL = 16  # what is allocated once; a string is 48 bytes
GENERATOR = torch.Generator().manual_seed(0)
EMBEDDINGS = [F.normalize(torch.randn(6, 8, generator=GENERATOR), dim=1).requires_grad_() for _ in range(4)]
DETACHED = [embeddings.detach() for embeddings in EMBEDDINGS]
SELF_INDEX = torch.arange(6)
WAVEFORM = torch.randn(2, 700, generator=GENERATOR, requires_grad=True)
MAPS = torch.rand(3, 32, generator=GENERATOR)


def contrast(form: str, temperature: float | torch.Tensor = 0.1) -> None:
    losses = ops.contrastive_loss(*EMBEDDINGS, SELF_INDEX, temperature=temperature, form=form)
    torch.autograd.grad(losses.sum(), EMBEDDINGS, allow_unused=True)


def spectrogram() -> None:
    torch.autograd.grad(ops.log_spectrogram(WAVEFORM, frames=8).sum(), WAVEFORM)


def batch_norm() -> None:
    maps = torch.randn(2, 8, 3, 3, requires_grad=True)
    weight = torch.ones(8, requires_grad=True)
    ops.batch_norm_act(maps, weight, weight, None, None, True, 0.1, 1e-5).sum().backward()


CALLS: dict[str, Callable[[], object]] = {
    "batch_norm_act": batch_norm,
    "contrastive_loss, eq2": lambda: contrast("eq2"),
    "contrastive_loss, ntxent": lambda: contrast("ntxent"),
    "contrastive_loss, logsumexp": lambda: contrast("logsumexp"),
    "contrastive_loss, learned temperature": lambda: contrast("eq2", torch.tensor(0.1, requires_grad=True)),
    "contrastive_loss, no gradient": lambda: ops.contrastive_loss(*DETACHED, SELF_INDEX),
    "log_spectrogram": spectrogram,
    "pair_score": lambda: ops.pair_score(MAPS, MAPS, "kl", 1e-7),
    "saliency_statistics": lambda: ops.saliency_statistics(MAPS, MAPS, MAPS > 0.5, ["kl", "similarity"], 1e-7),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_op_leaks_nothing(name: str):
    assert leaked_bytes_per_call(CALLS[name]) < MOST_BYTES_PER_CALL


def test_an_invalid_argument_leaks_nothing():
    """Its text is freed on the way out too."""

    def refused() -> None:
        with contextlib.suppress(RuntimeError):
            torch.ops.usvs.contrastive_loss_forward(*DETACHED, SELF_INDEX, 1.0, 1.0, "other", None)
            raise AssertionError("expected an error of the form")

    assert leaked_bytes_per_call(refused) < MOST_BYTES_PER_CALL
