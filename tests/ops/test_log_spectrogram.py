"""The log-spectrogram against its plain reference and against torchaudio, and what it does with hard input."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from usvs import _C
from usvs.ops import build_info, log_spectrogram, log_spectrogram_reference

RATE_HZ = 24_000
# n_fft, win_length, hop_length, samples, frames: every FFT size; windows full, half, odd, one sample; hops that
# overlap, meet, leave gaps; the shortest waveform; time stretched, kept, shrunk, and more frames than one tile holds.
SHAPES = [
    (64, 64, 16, 33, 40),
    (64, 5, 7, 300, 1),
    (128, 1, 3, 65, 22),
    (128, 64, 64, 1000, 31),
    (256, 255, 100, 3000, 64),
    (512, 240, 120, 14_400, 256),
    (512, 256, 700, 5000, 9),
    (512, 257, 60, 24_000, 97),
    (1024, 600, 1, 513, 600),
    (2048, 2048, 512, 9000, 19),
    (4096, 1000, 333, 2049, 8),
    (4096, 4096, 5000, 20_000, 7),
]


@pytest.fixture(params=build_info()["simd_usable"])
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    before = build_info()["simd"]
    _C.use_simd(request.param)
    yield request.param
    _C.use_simd(before)


def speech_like(batch: int, samples: int, seed: int = 0) -> Tensor:
    """Gliding harmonics under a syllable's envelope, a hiss, and stretches of near silence."""
    generator = torch.Generator().manual_seed(seed)
    seconds = torch.arange(samples) / RATE_HZ
    pitch_hz = 110 + 90 * torch.rand(batch, 1, generator=generator)
    phase = 2 * math.pi * torch.cumsum(pitch_hz * (1 + 0.1 * torch.sin(9 * seconds)) / RATE_HZ, dim=1)
    voice = sum(torch.sin(k * phase) / k for k in range(1, 30))
    envelope = torch.sin(2 * math.pi * 2.3 * seconds).clamp_min(0) ** 2
    return 0.1 * envelope * voice + 1e-3 * torch.randn(batch, samples, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_reference(simd: str, shape: tuple[int, int, int, int, int]):
    n_fft, win_length, hop_length, samples, frames = shape
    waveform = 0.1 * torch.randn(3, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = log_spectrogram_reference(waveform, n_fft, win_length, hop_length, frames)
    exact = log_spectrogram(waveform, n_fft, win_length, hop_length, frames)
    assert exact.shape == (3, 1, n_fft // 2, frames)
    torch.testing.assert_close(exact, wanted, rtol=0, atol=1e-9)
    error = (log_spectrogram(waveform.float(), n_fft, win_length, hop_length, frames) - wanted).abs()
    # A window of one sample gives every band the same power, which may be anything down to none.
    assert error.max() < 1e-3, "nearly empty bins are uncertain in float32, but not by more"
    assert error.mean() < 2e-6


def test_float32_is_as_exact_as_it_can_be(simd: str):
    waveform = 0.1 * torch.randn(16, 14_400, generator=torch.Generator().manual_seed(2))
    error = (log_spectrogram(waveform) - log_spectrogram_reference(waveform.double())).abs()
    assert error.max() < 2e-4
    assert error.mean() < 3e-7


def test_equals_torchaudio_on_speech():
    transforms = pytest.importorskip(
        "torchaudio.transforms", reason="torchaudio does not load here", exc_type=(ImportError, OSError)
    )

    def by_torchaudio(waveform: Tensor) -> Tensor:
        transform = transforms.Spectrogram(n_fft=512, win_length=240, hop_length=120, power=2.0).to(waveform.dtype)
        logarithm = torch.log(transform(waveform)[:, 1:] + 1e-6)
        return F.interpolate(logarithm, size=256, mode="linear", align_corners=False)[:, None].double()

    speech = speech_like(8, 14_400)
    speech *= 0.1 / speech.abs().amax(dim=1, keepdim=True)
    error = (log_spectrogram(speech) - by_torchaudio(speech.double())).abs()
    assert error.max() < 2e-4
    assert error.median() < 1e-6
    # At full scale, bins that cancel lie below what float32 resolves, for torchaudio in float32 as for us.
    loud = 9 * speech
    exact = by_torchaudio(loud.double())
    assert (log_spectrogram(loud) - exact).abs().max() < 1.5 * (by_torchaudio(loud) - exact).abs().max()


def test_rows_of_a_tone_and_columns_of_a_click():
    seconds = torch.arange(14_400) / RATE_HZ
    tone = log_spectrogram(torch.sin(2 * math.pi * 3000 * seconds)[None])[0, 0]
    assert (tone[:, 8:-8].argmax(dim=0) == 3000 * 512 // RATE_HZ - 1).all(), "row 0 is bin 1, the lowest band"
    click = torch.zeros(1, 14_400)
    click[0, 120 * 60] = 1.0
    loudest = log_spectrogram(click)[0, 0].mean(dim=0).argmax().item()
    assert abs((loudest + 0.5) * 121 / 256 - 0.5 - 60) < 0.5, "the click lies in the middle of frame 60"


def test_settings_do_not_borrow_each_others_tables():
    waveform = speech_like(1, 4000).double()
    settings = [(512, 240, 120, 64), (256, 240, 120, 64), (512, 200, 120, 64), (512, 240, 121, 64), (512, 240, 120, 65)]
    for samples in (4000, 3950):  # 33 frames and 32
        for each in settings:
            wanted = log_spectrogram_reference(waveform[:, :samples], *each)
            torch.testing.assert_close(log_spectrogram(waveform[:, :samples], *each), wanted, rtol=0, atol=1e-9)


def test_silence_is_the_logarithm_of_eps(simd: str):
    silence = log_spectrogram(torch.zeros(2, 4000), eps=1e-5)
    torch.testing.assert_close(silence, torch.full_like(silence, math.log(1e-5)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_sample_reaches_only_its_frames(simd: str, bad: float):
    waveform = speech_like(2, 14_400)
    clean = log_spectrogram(waveform, frames=121)
    waveform[0, 7260] = bad  # in the windows of frames 60 and 61 alone
    picture = log_spectrogram(waveform, frames=121)
    touched = torch.zeros(121, dtype=torch.bool)
    touched[60:62] = True
    # Of as many columns as frames, each lies on its frame, and touches the next one with weight zero.
    touched[59] = True
    assert torch.equal(picture[1], clean[1])
    assert torch.equal(picture[0, 0, :, ~touched], clean[0, 0, :, ~touched])
    assert not picture[0, 0, :, 60:62].isfinite().any()


def test_denormal_and_huge_samples(simd: str):
    tiny = log_spectrogram(torch.full((1, 2000), 1e-42))
    torch.testing.assert_close(tiny, torch.full_like(tiny, math.log(1e-6)))
    huge = 1e18 * speech_like(1, 2000).double()
    torch.testing.assert_close(
        log_spectrogram(huge.float()), log_spectrogram_reference(huge).float(), rtol=1e-3, atol=0.05
    )
    assert not log_spectrogram(1e7 * huge.float()).isfinite().any(), "a power that overflows is not hidden"


def test_a_strided_view_is_read_in_place_and_equals_its_copy():
    recording = speech_like(1, 40_000)[0]
    pieces = recording.unfold(0, 14_400, 5000)
    assert torch.equal(log_spectrogram(pieces), log_spectrogram(pieces.contiguous()))
    every_other = speech_like(2, 8000)[:, ::2]
    assert torch.equal(log_spectrogram(every_other), log_spectrogram(every_other.contiguous()))


def test_no_clips_and_no_gradient():
    assert log_spectrogram(torch.zeros(0, 1000)).shape == (0, 1, 256, 256)
    nothing = torch.zeros(0, 1000, requires_grad=True)
    log_spectrogram(nothing).sum().backward()
    assert nothing.grad is not None and nothing.grad.shape == (0, 1000)


def test_the_same_bits_for_any_number_of_threads_and_any_batch():
    waveform = speech_like(5, 30_000).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        picture = log_spectrogram(waveform)
        (gradient,) = torch.autograd.grad(picture.square().sum(), waveform)
        results.append((picture.detach(), gradient))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    assert torch.equal(log_spectrogram(waveform.detach()[3:4]), results[0][0][3:4])


def test_streaming_a_large_result_changes_nothing(simd: str):
    waveform = speech_like(40, 4000)  # 10 MB of result
    whole = log_spectrogram(waveform)
    assert torch.equal(whole[17:19], log_spectrogram(waveform[17:19]))


@pytest.mark.parametrize("shape", [(64, 40, 30, 300, 20), (128, 128, 17, 300, 40), (256, 100, 150, 700, 3)], ids=str)
def test_gradcheck(shape: tuple[int, int, int, int, int]):
    n_fft, win_length, hop_length, samples, frames = shape
    waveform = torch.randn(2, samples, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: log_spectrogram(x, n_fft, win_length, hop_length, frames, 1e-3), (waveform,)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_the_references(simd: str, shape: tuple[int, int, int, int, int]):
    n_fft, win_length, hop_length, samples, frames = shape
    waveform = 0.1 * torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = torch.randn(2, 1, n_fft // 2, frames, generator=torch.Generator().manual_seed(4))
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        gradients = []
        for op, kind in ((log_spectrogram, dtype), (log_spectrogram_reference, torch.float64)):
            leaf = waveform.to(kind, copy=True).requires_grad_()
            (op(leaf, n_fft, win_length, hop_length, frames, 1e-3) * weights).sum().backward()
            gradients.append(leaf.grad.double())
        assert (gradients[0] - gradients[1]).norm() < tolerance * gradients[1].norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"waveform": torch.zeros(2, 256)}, "waveform: wanted more than n_fft / 2 = 256 samples .* got 256"),
        ({"waveform": torch.zeros(1000)}, r"waveform: wanted shape \[any, any\], got \[1000\]"),
        ({"waveform": torch.zeros(1, 1000, dtype=torch.int16)}, "waveform: wanted float32 or float64, got Short"),
        ({"n_fft": 500}, "n_fft: wanted a power of two, got 500"),
        ({"n_fft": 32}, r"n_fft: wanted 64 \.\.\. 4096, got 32"),
        ({"win_length": 513}, r"win_length: wanted 1 \.\.\. 512, got 513"),
        ({"hop_length": 0}, "hop_length: wanted 1 .* got 0"),
        ({"frames": 0}, "frames: wanted 1 .* got 0"),
        ({"eps": 0.0}, "eps: wanted a finite normal number above 0, got 0"),
        ({"eps": math.nan}, "eps: .* got nan"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict, message: str):
    with pytest.raises(RuntimeError, match="usvs::log_spectrogram: " + message):
        log_spectrogram(**{"waveform": torch.zeros(1, 1000), **arguments})
