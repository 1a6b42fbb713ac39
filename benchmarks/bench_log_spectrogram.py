"""`usvs.ops.log_spectrogram` compared with other implementations; 0.6 s of audio at 24 kHz to 256 x 256.

Run: `python -m pytest benchmarks/bench_log_spectrogram.py --benchmark-json FILE`, then
`python -m benchmarks.table FILE`.
"""

import pytest
import torch
from torch import Tensor

from benchmarks.interleaved import Comparison
from benchmarks.log_spectrogram_peers import NUMPY_PEERS, TORCH_PEERS, stft_chain
from benchmarks.machine_limits import machine_limits
from usvs.ops import log_spectrogram, log_spectrogram_reference

SAMPLES = 14_400
# Counted by hand: additions, multiplications and fused ones, 16 lanes at once, of the pruned transform, the logarithm
# and the resize of one clip; and the bytes that have to be read and written.
LANE_OPERATIONS_A_CLIP = 92_000 * 16
BYTES_A_CLIP = 4 * (SAMPLES + 256 * 256)


def waveforms(clips: int, device: str) -> Tensor:
    """Noise with the level of speech, [B, S]."""
    return (0.1 * torch.randn(clips, SAMPLES, generator=torch.Generator().manual_seed(1))).to(device)


def limit_seconds(device: str) -> float | None:
    """Return a lower bound for one clip on one core: the time of its arithmetic or of its bytes."""
    limits = machine_limits() if device == "cpu" else {}
    if not limits:
        return None
    return max(LANE_OPERATIONS_A_CLIP / limits["lane_operations"], BYTES_A_CLIP / limits["write_bytes"])


@pytest.mark.parametrize("output", ["reused", "fresh", "bfloat16"])
@pytest.mark.parametrize("clips", [1, 64, 256])
def bench_log_spectrogram(comparison: Comparison, device: str, threads: int, clips: int, output: str) -> None:
    waveform = waveforms(clips, device)
    exact = log_spectrogram_reference(waveform.double())
    dtype = torch.bfloat16 if output == "bfloat16" else torch.float32
    out = None if output == "fresh" else torch.zeros(clips, 1, 256, 256, dtype=dtype, device=device)

    def check(picture: Tensor) -> None:
        error = (picture.double() - exact).abs()
        # Bins that cancel are uncertain in float32, whoever computes them; the mean shows a different definition.
        assert error.mean() < (1e-2 if picture.dtype == torch.bfloat16 else 1e-6)
        assert error.max() < (5e-2 if picture.dtype == torch.bfloat16 else 1e-2)

    def run_usvs() -> Tensor:
        return log_spectrogram(waveform, out=out)

    check(run_usvs())
    for name, make in (TORCH_PEERS if device == "cuda" else {**TORCH_PEERS, **NUMPY_PEERS}).items():
        comparison.add(name, lambda make=make: make(waveform), check)
    limit = limit_seconds(device)
    comparison.run(run_usvs, 20 if clips == 1 else 1, clips, "clip", limit / threads if limit else None)


def bench_pieces_of_a_recording(comparison: Comparison, device: str, threads: int) -> None:
    """64 pieces of one long recording, read where they lie, against copying them first."""
    recording = waveforms(40, device).flatten()
    offsets = torch.randint(recording.numel() - SAMPLES, (64,), generator=torch.Generator().manual_seed(2)).to(device)
    out = torch.zeros(64, 1, 256, 256, device=device)

    def run_usvs() -> Tensor:
        return log_spectrogram(recording, offsets=offsets, length=SAMPLES, out=out)

    def copied() -> Tensor:
        pieces = recording[offsets[:, None] + torch.arange(SAMPLES, device=device)]
        return log_spectrogram(pieces)

    expected = run_usvs().clone()
    comparison.add("pieces copied first", lambda: copied, lambda picture: torch.testing.assert_close(picture, expected))
    comparison.add(
        "reference",
        lambda: lambda: log_spectrogram_reference(recording, offsets=offsets, length=SAMPLES),
        lambda _: None,
    )
    comparison.run(run_usvs, 1, 64, "clip")


def bench_backward(comparison: Comparison, device: str, threads: int) -> None:
    """Forward and backward of 64 clips."""
    waveform = waveforms(64, device).requires_grad_()
    weights = torch.randn(64, 1, 256, 256, generator=torch.Generator().manual_seed(3)).to(device)

    def gradient(op) -> Tensor:  # noqa: ANN001
        return torch.autograd.grad((op(waveform) * weights).sum(), waveform)[0]

    expected = gradient(log_spectrogram)

    def check(found: Tensor) -> None:
        assert (found - expected).norm() < 1e-2 * expected.norm()

    comparison.add("torch.stft chain", lambda: lambda: gradient(stft_chain), check)
    comparison.run(lambda: gradient(log_spectrogram), 1, 64, "clip")
