"""The log-spectrogram on a real CUDA device (`make test-gpu`): what the emulator cannot show."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.ops.test_log_spectrogram import SHAPES as SHAPES_OF_CPU
from usvs.ops import log_spectrogram, log_spectrogram_reference

pytestmark = pytest.mark.gpu

SHAPES = [(64, 33, 9, 1500, 150), (1024, 1000, 111, 2500, 41), (4096, 4095, 5000, 20_000, 7), *SHAPES_OF_CPU[3:7]]
SHAPES += [shape for shape in SHAPES_OF_CPU if shape[0] == 2048]
PAPER = SHAPES[3]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def noise(clips: int, samples: int, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def settings(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    return (*shape[:3], shape[4])


@shapes
def test_equals_the_reference(shape: tuple[int, ...]):
    waveform = noise(5, shape[3])
    error = log_spectrogram(waveform.cuda(), *settings(shape)).cpu() - log_spectrogram_reference(
        waveform.double(), *settings(shape)
    )
    assert error.abs().max() < 1e-3, "nearly empty bins are uncertain in float32, but not by more"
    assert error.abs().mean() < 2e-6


def test_float32_is_as_exact_as_it_can_be():
    waveform = noise(64, 14_400)
    error = (log_spectrogram(waveform.cuda()).cpu() - log_spectrogram_reference(waveform.double())).abs()
    assert error.max() < 1e-4
    assert error.mean() < 3e-7


@shapes
def test_gradient_equals_the_references(shape: tuple[int, ...]):
    waveform = noise(2, shape[3])
    weights = torch.randn(2, 1, shape[0] // 2, shape[4], generator=torch.Generator().manual_seed(2))
    gradients = []
    for op, leaf in ((log_spectrogram, waveform.cuda()), (log_spectrogram_reference, waveform.double())):
        leaf.requires_grad_()
        (op(leaf, *settings(shape), 1e-3) * weights.to(leaf.device)).sum().backward()
        gradients.append(leaf.grad.double().cpu())
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


def test_rows_at_unaligned_addresses():
    recording = noise(1, 40_000)[0].cuda()
    for pieces in (recording[1:].unfold(0, 14_400, 5001), recording[3:30_003].view(3, 10_000)):
        assert torch.equal(log_spectrogram(pieces), log_spectrogram(pieces.contiguous()))


def test_pieces_bfloat16_and_out():
    recording, offsets = noise(1, 40_000)[0].cuda(), torch.tensor([17, 20_001, 0, 9000], device="cuda")
    copies = torch.stack([recording[at : at + 14_400] for at in offsets.tolist()])
    expected = log_spectrogram(copies)
    assert torch.equal(log_spectrogram(recording, offsets=offsets, length=14_400), expected)
    assert torch.equal(log_spectrogram(copies, dtype=torch.bfloat16), expected.bfloat16())
    out = torch.empty_like(expected)
    assert torch.equal(log_spectrogram(copies, out=out), expected) and torch.equal(out, expected)


def test_the_same_bits_every_time_on_any_stream_and_in_any_batch():
    waveform = noise(32, 14_400).cuda()
    first = log_spectrogram(waveform)
    for _ in range(20):
        assert torch.equal(log_spectrogram(waveform), first)
    assert torch.equal(log_spectrogram(waveform[7:9]), first[7:9])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        other = log_spectrogram(waveform)
    stream.synchronize()
    assert torch.equal(other, first)


def test_a_captured_graph_runs_again_on_other_samples():
    waveform = noise(4, 14_400).cuda().requires_grad_()

    def passes() -> tuple[Tensor, Tensor]:
        spectrogram = log_spectrogram(waveform)
        (gradient,) = torch.autograd.grad(spectrogram.square().sum(), waveform)
        return spectrogram, gradient

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        passes()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = passes()
    with torch.no_grad():
        waveform.copy_(noise(4, 14_400, seed=9))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, passes(), strict=True))


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_no_host_synchronisation(no_waiting: None):
    waveform = torch.zeros(4, 14_400, device="cuda", requires_grad=True)
    log_spectrogram(waveform).sum().backward()


def test_second_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device here: there is no second")
    waveform = noise(3, 14_400)
    assert torch.equal(log_spectrogram(waveform.to("cuda:1")).cpu(), log_spectrogram(waveform.to("cuda:0")).cpu())


def test_opcheck():
    arguments = (noise(2, 1000).cuda().requires_grad_(), 64, 48, 16, 20, 1e-3)
    torch.library.opcheck(torch.ops.usvs.log_spectrogram.default, arguments)
