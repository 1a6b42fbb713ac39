"""Voice activity detection with hum, clicks, rumble and digital silence."""

import time

import numpy as np
import pytest

from usvs.audio.settings import VoiceActivitySettings
from usvs.audio.voice_activity import frame_energy, speech_fraction, threshold, voice_activity
from usvs.errors import ConfigError

RATE = 16_000
SETTINGS = VoiceActivitySettings()


def speech_like(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Voiced syllables of a quarter of a second: harmonics of 120 Hz under a half sine, a tenth of a second apart."""
    time_axis = np.arange(round(seconds * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * time_axis + rng.uniform(0, 6)) / k for k in range(1, 20))
    phase = time_axis % 0.35
    return 0.1 * voice * np.where(phase < 0.25, np.sin(np.pi * np.minimum(phase, 0.25) / 0.25), 0)


def recording(speech: list[tuple[float, float]], seconds: float, noise_level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_axis = np.arange(round(seconds * RATE)) / RATE
    sound = noise_level * (np.sqrt(2) * np.sin(2 * np.pi * 50 * time_axis) + 0.3 * rng.standard_normal(len(time_axis)))
    for start, end in speech:
        piece = speech_like(end - start, rng)
        sound[round(start * RATE) : round(start * RATE) + len(piece)] += piece
    return sound


def fraction(active: np.ndarray, start: float, end: float) -> float:
    return speech_fraction(active, round(start / SETTINGS.frame_seconds), round(end / SETTINGS.frame_seconds))


@pytest.mark.parametrize("noise_level", [1e-4, 1e-3, 0.01])
def test_speech_is_separated_from_hum_and_clicks(noise_level: float):
    sound = recording([(4.0, 8.0), (14.0, 16.0)], 20.0, noise_level)
    for click in np.arange(9.05, 13.9, 0.4):  # two ms of full scale, then 20 ms of ringing
        sound[round(click * RATE) : round(click * RATE) + 32] += 0.9
        sound[round(click * RATE) + 32 : round(click * RATE) + 352] += 0.3
    active = voice_activity(sound, RATE, SETTINGS)
    assert len(active) == 2000
    assert fraction(active, 4, 8) > 0.75 and fraction(active, 14, 16) > 0.75
    assert fraction(active, 0, 4) < 0.05 and fraction(active, 16.2, 20) < 0.05
    assert fraction(active, 9, 14) < 0.05, "clicks were detected as speech"


def test_a_beginning_in_digital_silence_does_not_make_noise_speech():
    sound = recording([(10.0, 14.0)], 20.0, 1e-4)
    sound[: 3 * RATE] = 0
    active = voice_activity(sound, RATE, SETTINGS)
    assert fraction(active, 0, 10) < 0.05 and fraction(active, 14.2, 20) < 0.05
    assert fraction(active, 10, 14) > 0.75
    assert not voice_activity(np.zeros(RATE), RATE, SETTINGS).any()


def test_the_floor_follows_a_hum_that_is_switched_on():
    sound = recording([], 200.0, 1e-3)
    sound[20 * RATE :] *= 6
    active = voice_activity(sound, RATE, SETTINGS)
    assert fraction(active, 20, 40) > 0.9  # above the floor tracked so far by as much as speech
    assert fraction(active, 180, 200) < 0.05
    quick = voice_activity(sound, RATE, SETTINGS.model_copy(update={"growth_compounds": True}))
    assert fraction(quick, 30, 200) < 0.05


def test_threshold_is_the_closed_form_of_the_paper():
    energy = np.random.default_rng(1).uniform(0.01, 0.5, 300)
    found = threshold(energy, SETTINGS.model_copy(update={"floor_growth": 1.0, "threshold_ratio": 2.0}))
    lowest, highest = np.minimum.accumulate(energy), np.maximum.accumulate(energy)
    scaling = (highest - lowest) / highest
    np.testing.assert_allclose(found, (1 - scaling) * highest + scaling * lowest, rtol=1e-12)


def test_energy_is_the_rms_of_each_frame_without_the_constant_part():
    sound = np.tile([0.5, 0.1], 4 * 160)
    for settings, tolerance in ((SETTINGS.model_copy(update={"high_pass_hz": 0.0}), 1e-5), (SETTINGS, 1e-4)):
        energy = frame_energy(sound, RATE, settings)
        np.testing.assert_allclose(energy, np.full(8, 0.2), rtol=tolerance)
        as_integers = frame_energy(np.round(sound * 32768).astype(np.int16), RATE, settings)
        np.testing.assert_allclose(as_integers, energy, rtol=1e-3)
        assert len(frame_energy(sound[:100], RATE, settings)) == 0


@pytest.mark.parametrize("high_pass_hz", [80.0, 150.0])
def test_hum_and_rumble_are_filtered_off_by_twelve_decibels_an_octave(high_pass_hz: float):
    """The gain of a Butterworth high-pass of order 2 on the z-plane: (f / fc)^2 / sqrt(1 + (f / fc)^4), warped."""
    settings = SETTINGS.model_copy(update={"high_pass_hz": high_pass_hz})
    tones = np.array([25.0, 50.0, 100.0, 150.0, 400.0, 3000.0])
    sound = 0.5 * np.sin(2 * np.pi * tones[:, None] * np.arange(2 * RATE) / RATE)
    rms = np.sqrt((frame_energy(sound, RATE, settings)[:, 40:] ** 2).mean(1))  # four periods of the lowest at least
    ratio = np.tan(np.pi * tones / RATE) / np.tan(np.pi * high_pass_hz / RATE)
    np.testing.assert_allclose(rms, 0.5 / np.sqrt(2) * ratio**2 / np.sqrt(1 + ratio**4), rtol=2e-3)


def test_speech_is_separated_from_loud_hum_and_rumble():
    """Without the high-pass filter, hum as loud as speech masks it, and the RMS of rumble varies like speech."""
    spoken = [(4.0, 8.0), (14.0, 16.0)]
    humming, rumbling = recording(spoken, 20.0, 0.08), recording(spoken, 20.0, 3e-3)
    rumble = np.random.default_rng(8).standard_normal(len(rumbling))
    for _ in range(3):
        rumble = np.convolve(rumble, np.ones(200), "same")
    rumbling += 0.01 * rumble / rumble.std()
    for sound in (humming, rumbling):
        active = voice_activity(sound, RATE, SETTINGS)
        assert fraction(active, 4, 8) > 0.6 and fraction(active, 14, 16) > 0.6
        assert fraction(active, 0, 4) < 0.05 and fraction(active, 8.2, 14) < 0.05
    without = SETTINGS.model_copy(update={"high_pass_hz": 0.0})
    assert fraction(voice_activity(humming, RATE, without), 4, 8) < 0.5
    assert fraction(voice_activity(rumbling, RATE, without), 0, 4) > 0.5


def test_a_cutoff_above_half_of_the_rate_raises():
    with pytest.raises(ConfigError, match="high_pass_hz: expected less than half of 16000 Hz, got 9000 Hz"):
        frame_energy(np.zeros(RATE), RATE, SETTINGS.model_copy(update={"high_pass_hz": 9000.0}))


def test_short_runs_are_dropped_and_longer_ones_extended():
    sound = np.full(200 * 160, 1e-3) * np.tile([1, -1], 100 * 160)
    sound[20 * 160 : 24 * 160] *= 100  # 40 ms
    sound[60 * 160 : 66 * 160] *= 100  # 60 ms
    active = voice_activity(sound, RATE, SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(active), np.arange(60, 66 + 8))


def test_fraction_of_no_frames_is_nan():
    active = np.array([True, False, True, True])
    assert speech_fraction(active, 0, 4) == 0.75
    assert speech_fraction(active, 2, 9) == 1.0
    assert np.isnan(speech_fraction(active, 4, 8))


def test_half_an_hour_takes_less_than_a_second():
    energy = np.random.default_rng(0).uniform(0.001, 0.1, 180_000)
    before = time.process_time()
    threshold(energy, SETTINGS)
    assert time.process_time() - before < 1.0


def test_a_batch_of_recordings_equals_each_alone():
    rng = np.random.default_rng(4)
    many = np.stack([recording([(1 + n, 3 + n)], 8.0, 1e-3 * 3**n, seed=n) for n in range(4)])
    many[3] = rng.standard_normal(many.shape[1]) * 1e-3
    together = voice_activity(many, RATE, SETTINGS)
    assert together.shape == (4, 800)
    for one, expected in zip(many, together, strict=True):
        np.testing.assert_array_equal(voice_activity(one, RATE, SETTINGS), expected)
    np.testing.assert_array_equal(voice_activity(many.reshape(2, 2, -1), RATE, SETTINGS).reshape(4, -1), together)
    assert voice_activity(many[:, :10], RATE, SETTINGS).shape == (4, 0)


def test_a_fixed_scaling_factor_is_between_floor_and_peak():
    energy = np.array([[0.01, 0.5, 0.02, 0.3]])
    fixed = SETTINGS.model_copy(update={"scaling_factor": 0.9, "floor_growth": 1.0})
    np.testing.assert_allclose(threshold(energy, fixed), [[0.01, 0.059, 0.059, 0.059]], rtol=1e-12)
