import warnings

import pytest
import torch

from usvs.audio.settings import SpectrogramSettings
from usvs.audio.spectrogram import LogSpectrogram
from usvs.ops import log_spectrogram


def _pieces(pieces=3, samples=14_400):
    return 0.1 * torch.randn(pieces, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", [SpectrogramSettings(), SpectrogramSettings(n_fft=256, frames=64)])
def test_is_the_shifted_and_scaled_op(settings):
    waveform = _pieces()
    log_power = LogSpectrogram(settings)(waveform)
    assert log_power.shape == (3, 1, settings.bands, settings.frames)
    raw = log_spectrogram(waveform, settings.n_fft, 240, 120, settings.frames, settings.eps)
    torch.testing.assert_close(log_power, (raw + 7) / 3)


def test_every_setting_reaches_the_op():
    settings = SpectrogramSettings(n_fft=128, win_length=100, hop_length=50, frames=32, eps=1e-3)
    log_power = LogSpectrogram(settings)(_pieces())
    torch.testing.assert_close(3 * log_power - 7, log_spectrogram(_pieces(), 128, 100, 50, 32, 1e-3))


def test_a_tone_is_in_its_row():
    settings = SpectrogramSettings()
    seconds = torch.arange(14_400) / settings.rate_hz
    row = 100  # the DC band is dropped, so row r is band r + 1
    tone = torch.sin(2 * torch.pi * (row + 1) * settings.rate_hz / settings.n_fft * seconds)
    log_power = LogSpectrogram(settings)(tone[None])[0, 0]
    assert log_power.mean(dim=1).argmax() == row


def test_loudness_is_preserved():
    waveform = _pieces()
    module = LogSpectrogram(SpectrogramSettings(eps=1e-12))
    # Ten times louder is 20 dB: ln(100) in power, a third of it after scaling.
    difference = module(10 * waveform) - module(waveform)
    torch.testing.assert_close(difference, torch.full_like(difference, 4.60517 / 3), rtol=1e-3, atol=1e-3)


def test_by_piece_loudness_is_taken_out_and_silence_stays_zero():
    module = LogSpectrogram(SpectrogramSettings(standardise="piece", eps=1e-12))
    pieces = module(_pieces())
    torch.testing.assert_close(module(10 * _pieces()), pieces, rtol=1e-3, atol=1e-3)
    plain = LogSpectrogram(SpectrogramSettings(eps=1e-12))(_pieces())
    deviation, mean = torch.std_mean(plain, dim=(1, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(pieces, (plain - mean) / (deviation + 0.1), rtol=1e-3, atol=1e-3)
    assert module(torch.zeros(1, 14_400)).abs().max() < 1e-3


def test_pooling_takes_the_means_of_squares():
    plain = LogSpectrogram(SpectrogramSettings(n_fft=256, frames=64))(_pieces())
    pooled = LogSpectrogram(SpectrogramSettings(n_fft=256, frames=64, pool=2))(_pieces())
    assert pooled.shape == (3, 1, 64, 32)
    torch.testing.assert_close(pooled, plain.view(3, 1, 64, 2, 32, 2).mean(dim=(3, 5)))


@pytest.mark.parametrize("changes", [{}, {"standardise": "piece", "pool": 2}])
def test_scripted_equals_eager(changes):
    module = LogSpectrogram(SpectrogramSettings(n_fft=256, frames=64, **changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
    for _ in range(3):
        assert torch.equal(scripted(_pieces()), module(_pieces()))


def test_empty_batch():
    assert LogSpectrogram(SpectrogramSettings())(_pieces(pieces=0)).shape == (0, 1, 256, 256)


def test_speech_has_mean_zero_and_deviation_one():
    """The constants are those of speech: synthesised words, not noise."""
    voice = pytest.importorskip("usvs.narration.voice")
    pytest.importorskip("espeakng_loader", reason="the phantom's voices are not installed")
    import soxr

    with voice.Speakers([voice.draw_voice(seed=1, sonographer=0)]) as speaker:
        words = speaker.synthesize("here is the four chamber view of the heart, and now we look at the femur")
        rate = speaker.rate_hz
    sound = torch.from_numpy(soxr.resample(words, rate, 24_000).astype("float32"))
    pieces = sound[: len(sound) // 14_400 * 14_400].view(-1, 14_400)
    pieces = 0.3 * pieces / pieces.abs().max() + 1e-3 * torch.randn_like(pieces)
    log_power = LogSpectrogram(SpectrogramSettings())(pieces)
    assert abs(log_power.mean()) < 0.6
    assert 0.6 < log_power.std() < 1.5
