"""The contrastive loss round a ring of ranks against the reference over gathered candidates."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.support.contrastive_inputs import embeddings
from usvs.ops import (
    contrastive_loss,
    contrastive_loss_reference,
    ring_contrastive_loss,
    ring_contrastive_loss_reference,
)

pytestmark = pytest.mark.distributed
RANKS, WIDTH = 3, 12
SETTINGS = [
    (torch.float32, "eq2", False, (40, 40, 40)),
    (torch.float64, "ntxent", True, (5, 31, 17)),
    (torch.bfloat16, "eq2", False, (9, 20, 20)),
    (torch.float32, "logsumexp", False, (1, 0, 6)),  # one candidate, which is an anchor itself; a rank without any
]


def rows_of(counts: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """All ranks' anchors, positives, hard negatives and candidates; the anchors are among the candidates."""
    total = sum(counts)
    tensors = [tensor.detach() for tensor in embeddings(total, total, WIDTH, dtype, scale=1.7)]
    tensors[3] = tensors[3].clone()
    index = torch.arange(total)
    index[::3] = -1
    tensors[3][index >= 0] = tensors[0][index >= 0]
    return tensors, index


def run_rank(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    results = []
    for dtype, form, normalise, counts in SETTINGS:
        tensors, index = rows_of(counts, dtype)
        own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        functions = [ring_contrastive_loss]
        functions += [ring_contrastive_loss_reference] if len(set(counts)) == 1 and dtype != torch.bfloat16 else []
        for function in functions:
            leaves = [tensor[own].clone().requires_grad_() for tensor in tensors]
            temperature = torch.tensor(0.3, requires_grad=True)
            losses = function(*leaves, index[own], temperature, 0.5, form, normalise)
            weights = torch.linspace(0.5, 1.5, sum(counts))[own].to(losses)
            gradients = torch.autograd.grad((losses * weights).sum(), [*leaves, temperature], allow_unused=True)
            results.append([losses.detach(), *gradients])
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def expected_of(dtype: torch.dtype, form: str, normalise: bool, counts: tuple[int, ...]) -> list[Tensor]:
    tensors, index = rows_of(counts, dtype)
    leaves = [tensor.double().requires_grad_() for tensor in tensors]
    temperature = torch.tensor(0.3, requires_grad=True)
    losses = contrastive_loss_reference(*leaves, index, temperature, 0.5, form, normalise)
    weights = torch.linspace(0.5, 1.5, sum(counts)).to(losses)
    gradients = torch.autograd.grad((losses * weights).sum(), [*leaves, temperature], allow_unused=True)
    return [losses.detach(), *(torch.zeros(0) if gradient is None else gradient for gradient in gradients)]


@pytest.mark.slow
def test_a_ring_of_three_ranks_equals_gathered_candidates(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(run_rank, (port, str(tmp_path)), nprocs=RANKS, start_method="spawn")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    order = [
        setting for setting in SETTINGS for _ in range(2 if setting[0] == torch.float32 and setting[1] == "eq2" else 1)
    ]
    assert [len(results) for results in ranks] == [len(order)] * RANKS
    for place, setting in enumerate(order):
        expected = expected_of(*setting)
        relative = 2**-7 if setting[0] == torch.bfloat16 else 1e-5
        for number, right in enumerate(expected):
            parts = [results[place][number] for results in ranks]
            if parts[0] is None:
                assert right.numel() == 0 or not right.any()
                continue
            got = sum(parts) if number == 5 else torch.cat(parts)
            assert (got.double() - right).abs().max() <= relative * right.abs().max().clamp_min(1e-6), (setting, number)


def test_one_rank_is_the_loss_itself():
    tensors, index = embeddings(5, 11, 6, torch.float32), torch.tensor([0, 1, -1, 3, 10])
    expected = contrastive_loss(*tensors, index, 0.4, form="ntxent")
    assert torch.equal(ring_contrastive_loss(*tensors, index, 0.4, form="ntxent"), expected)
    assert torch.allclose(ring_contrastive_loss_reference(*tensors, index, 0.4, form="ntxent"), expected, atol=1e-5)
