"""The log-spectrogram against its reference and torchaudio, and with extreme inputs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.speech_like import RATE_HZ, speech_like
from usvs.ops import log_spectrogram, log_spectrogram_reference

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


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_reference(simd: str, shape: tuple[int, int, int, int, int]):
    n_fft, win_length, hop_length, samples, frames = shape
    waveform = 0.1 * torch.randn(3, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = log_spectrogram_reference(waveform, n_fft, win_length, hop_length, frames)
    exact = log_spectrogram(waveform, n_fft, win_length, hop_length, frames)
    assert exact.shape == (3, 1, n_fft // 2, frames)
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-9)
    error = (log_spectrogram(waveform.float(), n_fft, win_length, hop_length, frames) - expected).abs()
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
    # At full scale, bins that cancel are below the resolution of float32, in torchaudio as well.
    loud = 9 * speech
    exact = by_torchaudio(loud.double())
    assert (log_spectrogram(loud) - exact).abs().max() < 1.5 * (by_torchaudio(loud) - exact).abs().max()


def test_row_of_a_tone_and_column_of_a_click():
    seconds = torch.arange(14_400) / RATE_HZ
    tone = log_spectrogram(torch.sin(2 * math.pi * 3000 * seconds)[None])[0, 0]
    assert (tone[:, 8:-8].argmax(dim=0) == 3000 * 512 // RATE_HZ - 1).all(), "row 0 is bin 1, the lowest band"
    click = torch.zeros(1, 14_400)
    click[0, 120 * 60] = 1.0
    loudest = log_spectrogram(click)[0, 0].mean(dim=0).argmax().item()
    assert abs((loudest + 0.5) * 121 / 256 - 0.5 - 60) < 0.5, "the click is in the middle of frame 60"


def test_tables_are_cached_per_setting():
    waveform = speech_like(1, 4000).double()
    settings = [(512, 240, 120, 64), (256, 240, 120, 64), (512, 200, 120, 64), (512, 240, 121, 64), (512, 240, 120, 65)]
    for samples in (4000, 3950):  # 33 frames and 32
        for each in settings:
            expected = log_spectrogram_reference(waveform[:, :samples], *each)
            torch.testing.assert_close(log_spectrogram(waveform[:, :samples], *each), expected, rtol=0, atol=1e-9)


def test_logarithms_are_exact_to_an_ulp(simd: str):
    # The result for silence is ln(eps): covers every cell of every table, every power of two, and values around 1.
    values = torch.cat([torch.logspace(-37, 37, 300), torch.linspace(0.5, 2.0, 400), torch.tensor([1.0])])
    silence = torch.zeros(1, 64)
    for eps in values.tolist():
        found = log_spectrogram(silence, 64, 8, 32, 17, eps)
        expected = math.log(torch.tensor(eps, dtype=torch.float32).item())
        assert (found.double() - expected).abs().max() < 1e-7 + 1.2e-7 * abs(expected)


def test_silence_is_the_logarithm_of_eps(simd: str):
    silence = log_spectrogram(torch.zeros(2, 4000), eps=1e-5)
    torch.testing.assert_close(silence, torch.full_like(silence, math.log(1e-5)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_stay_in_their_frames(simd: str, bad: float):
    waveform = speech_like(2, 14_400)
    clean = log_spectrogram(waveform, frames=121)
    waveform[0, 7260] = bad  # in the windows of frames 60 and 61 alone
    spectrogram = log_spectrogram(waveform, frames=121)
    touched = torch.zeros(121, dtype=torch.bool)
    touched[60:62] = True
    assert torch.equal(spectrogram[1], clean[1])
    assert torch.equal(spectrogram[0, 0, :, ~touched], clean[0, 0, :, ~touched])
    assert not spectrogram[0, 0, :, 60:62].isfinite().any()


def test_a_power_that_overflows_with_eps_is_nan(simd: str):
    waveform = 1.2e18 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(9)).sign()  # powers around 2e38
    expected = log_spectrogram_reference(waveform, eps=1.7e38)
    found = log_spectrogram(waveform, eps=1.7e38)
    assert expected.isnan().any() and expected.isfinite().any() and not expected.isinf().any()
    assert not found.isinf().any() and (found.isnan() == expected.isnan()).float().mean() > 0.99  # at the limit either


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, 3e38, 1e19])
def test_not_finite_or_huge_samples_give_nan_where_the_reference_does(simd: str, bad: float):
    waveform = 0.1 * torch.randn(3, 14_400, generator=torch.Generator().manual_seed(9))
    waveform[0, [5, 7260]] = bad
    waveform[1, 3000:3400] *= bad  # noise, since the bins of a constant cancel up to rounding
    for frames in (121, 256, 363, 90):
        spectrogram = log_spectrogram(waveform, frames=frames)
        expected = log_spectrogram_reference(waveform, frames=frames)
        finite = expected.isfinite()
        assert torch.equal(spectrogram.isnan(), expected.isnan()) and not spectrogram.isinf().any()
        assert not finite.all() and finite[2].all() and not expected.isinf().any()
        torch.testing.assert_close(spectrogram[finite], expected[finite], rtol=1e-3, atol=5e-3)


def test_the_reference_is_a_short_time_fourier_transform_and_linear_interpolation():
    waveform = speech_like(2, 9000).double()
    for n_fft, win_length, hop_length, frames in ((512, 240, 120, 256), (512, 240, 120, 75), (256, 255, 71, 381)):
        half = n_fft // 2 - (n_fft - win_length) // 2
        padded = F.pad(F.pad(waveform[:, None], (half, half), mode="reflect")[:, 0], (n_fft // 2 - half,) * 2)
        window = torch.hann_window(win_length, dtype=torch.float64)
        spectrum = torch.stft(padded, n_fft, hop_length, win_length, window, center=False, return_complex=True)
        logarithm = (spectrum[:, 1:].abs().square() + 1e-6).log()
        expected = F.interpolate(logarithm, size=frames, mode="linear", align_corners=False)[:, None]
        got = log_spectrogram_reference(waveform, n_fft, win_length, hop_length, frames)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_denormal_and_huge_samples(simd: str):
    tiny = log_spectrogram(torch.full((1, 2000), 1e-42))
    torch.testing.assert_close(tiny, torch.full_like(tiny, math.log(1e-6)))
    huge = 1e18 * speech_like(1, 2000).double()
    torch.testing.assert_close(
        log_spectrogram(huge.float()), log_spectrogram_reference(huge).float(), rtol=1e-3, atol=0.05
    )
    assert not log_spectrogram(1e7 * huge.float()).isfinite().any(), "a power that overflows is not hidden"


def test_overlapping_pieces_add_up_their_gradients():
    recording = torch.randn(150_000, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    offsets = torch.tensor([65_000, 0, 149_000, 65_100, 130_800])  # across the slices in which gradients are added
    weights = torch.randn(5, 1, 32, 50, generator=torch.Generator().manual_seed(8))
    gradients = []
    for op in (log_spectrogram, log_spectrogram_reference):
        leaf = recording.clone().requires_grad_()
        (op(leaf, 64, 40, 30, 50, 1e-3, offsets, 1000) * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(240, 240), (241, 240), (121, 240), (257, 512), (2, 1), (3, 2), (120, 237)], ids=str)
def test_clips_down_to_half_a_window(simd: str, shape: tuple[int, int]):
    samples, win_length = shape
    waveform = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for hop_length in (120, 7, 600):
        leaf = waveform.clone().requires_grad_()
        expected = log_spectrogram_reference(leaf, 512, win_length, hop_length, 40)
        torch.testing.assert_close(log_spectrogram(leaf, 512, win_length, hop_length, 40), expected, rtol=0, atol=1e-9)
        gradients = [
            torch.autograd.grad(op(leaf, 512, win_length, hop_length, 40, 1e-3).sum(), leaf)[0]
            for op in (log_spectrogram, log_spectrogram_reference)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
        found = log_spectrogram(waveform.float(), 512, win_length, hop_length, 40)
        assert (found - log_spectrogram(waveform, 512, win_length, hop_length, 40)).abs().max() < 1e-3


@pytest.mark.parametrize("frames", [256, 250, 5])
def test_bfloat16_is_the_float32_result_rounded(simd: str, frames: int):
    waveform = speech_like(3, 4000)
    waveform[1, 2000] = math.nan
    waveform[2, 100] = math.inf
    spectrogram = log_spectrogram(waveform, frames=frames)
    rounded = log_spectrogram(waveform, frames=frames, dtype=torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded.isnan(), spectrogram.isnan()) and spectrogram.isnan().any()
    assert torch.equal(rounded.nan_to_num(), spectrogram.bfloat16().nan_to_num())
    # Powers of two that cover every kind of rounding tie: ln(power + eps) of silence is ln(eps).
    for upper_half in (0x4048, 0x4049):
        for lower_half in (0x7FFF, 0x8000, 0x8001):
            value = torch.tensor([upper_half << 16 | lower_half], dtype=torch.int32).view(torch.float32).item()
            silence = log_spectrogram(torch.zeros(1, 1000), frames=frames, eps=math.exp(value))
            exact = log_spectrogram(torch.zeros(1, 1000), frames=frames, eps=math.exp(value), dtype=torch.bfloat16)
            assert torch.equal(exact, silence.bfloat16())


def test_gradient_through_bfloat16():
    waveform = speech_like(1, 3000).requires_grad_()
    weights = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    gradients = [
        torch.autograd.grad((op(waveform, dtype=torch.bfloat16) * weights).sum(), waveform)[0]
        for op in (log_spectrogram, log_spectrogram_reference)
    ]
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


@pytest.mark.parametrize(
    "shape",
    [(64, 40, 30, 300, 20), pytest.param((128, 128, 17, 300, 40), marks=pytest.mark.slow), (256, 100, 150, 700, 3)],
    ids=str,
)
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
