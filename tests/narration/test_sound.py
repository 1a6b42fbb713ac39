"""All scans of an archive are recorded in one room: its hum is the same in every scan, whoever the patient is."""

import numpy as np
import pytest

from usvs.narration.narration import Narration
from usvs.narration.sound import record_sound
from usvs.utils.seeds import stream

RATE_HZ, SECONDS = 48_000, 60


def hum(seed: int, patient: int) -> np.ndarray:
    """The tones of both mains and their overtones in a recording without speech: complex amplitudes [6]."""
    ticks = SECONDS * 100
    silence = np.zeros(SECONDS * RATE_HZ, np.float32)
    silent_narration = Narration(silence, RATE_HZ, np.zeros(ticks, np.bool_), np.full(ticks, -1, np.int16))
    recorded = record_sound(seed, stream(seed, "patient", patient, "noise"), silent_narration).astype(np.float64)
    tones = np.array([50, 60, 100, 120, 150, 180])
    return 2 * np.exp(-2j * np.pi * tones[:, None] * np.arange(len(recorded)) / RATE_HZ) @ recorded / len(recorded)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_hum_is_recorded_with_every_patient_and_another_in_another_archive(seed):
    first, second, elsewhere = hum(seed, 1), hum(seed, 2), hum(seed + 7, 1)
    size = np.linalg.norm(first)
    assert np.linalg.norm(first - second) < 0.2 * size
    assert np.linalg.norm(first - elsewhere) > 0.5 * size


def test_noise_is_louder_by_as_much_as_stated():
    silence = Narration(np.zeros(48_000, np.float32), RATE_HZ, np.zeros(100, np.bool_), np.full(100, -1, np.int16))
    powers = []
    for noise_db in (0.0, 20.0):
        recorded = record_sound(0, stream(0, "noise"), silence, noise_db).astype(np.float64)
        powers.append(np.median(np.diff(recorded) ** 2))  # the hum is slow, clicks are rare
    assert 10 * np.log10(powers[1] / powers[0]) == pytest.approx(20.0, abs=1.0)
