"""Recording of the voice in a room: echo, hiss, mains hum, ventilation and clicks of the scanner's buttons."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.narration.narration import Narration
from usvs.utils.seeds import stream

ECHO_SECONDS = 0.12


def record_sound(
    seed: int, rng: np.random.Generator, narration: Narration, noise_db: float = 0.0
) -> NDArray[np.float32]:
    """Return the recorded sound [samples], within plus or minus one.

    Args:
        seed: of the archive; all of its scans are recorded in one room, so that noise does not identify a patient.
        rng: stream of the scan's noise and clicks.
        narration: the clean speech.
        noise_db: added to the room's level of hiss and ventilation, which is 20 to 34 dB below the speech.
    """
    room = stream(seed, "room")
    rate, samples = narration.rate_hz, len(narration.sound)
    voice = narration.sound * 10 ** (room.uniform(-9, 0) / 20)
    voice = voice + _echo(room, voice, rate)
    speech_db = room.uniform(-24, -20)  # a remark's usual level
    hiss = rng.standard_normal(samples, np.float32) * np.float32(
        10 ** ((speech_db - room.uniform(24, 34) + noise_db) / 20)
    )
    rumble = cv2.blur(rng.standard_normal((1, samples), np.float32), (round(rate / 300), 1))[0]
    rumble *= np.float32(10 ** ((speech_db - room.uniform(20, 30) + noise_db) / 20) / rumble.std())
    recorded = voice + hiss + rumble + _hum(room, samples, rate) + _clicks(rng, samples, rate)
    return np.asarray(np.clip(recorded, -0.99, 0.99), np.float32)


def _echo(room: np.random.Generator, voice: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    echo = np.zeros_like(voice)
    for _ in range(5):
        delay = room.uniform(0.008, ECHO_SECONDS)
        late = round(delay * rate)
        echo[late:] += voice[: len(voice) - late] * np.float32(room.choice([-1, 1]) * 0.3 * np.exp(-delay / 0.04))
    return echo


def _hum(room: np.random.Generator, samples: int, rate: int) -> NDArray[np.float32]:
    mains = 50.0 if room.random() < 0.6 else 60.0
    level = 10 ** (room.uniform(-58, -44) / 20)
    tones = tuple((room.uniform(0, 6), room.uniform(0.2, 1)) for _ in range(3))
    return _sum_tones(samples, rate, mains, level, tones)


@lru_cache(maxsize=1)
def _sum_tones(
    samples: int, rate: int, mains: float, level: float, tones: tuple[tuple[float, float], ...]
) -> NDArray[np.float32]:
    """Return harmonics of the mains with these phases and amplitudes: the same in every scan of an archive."""
    seconds = np.arange(samples) / rate
    waves = [
        np.sin(2 * np.pi * mains * k * seconds + phase) * amplitude / k
        for k, (phase, amplitude) in enumerate(tones, start=1)
    ]
    return np.asarray(level * np.sum(waves, axis=0), np.float32)


def _clicks(rng: np.random.Generator, samples: int, rate: int) -> NDArray[np.float32]:
    clicks = np.zeros(samples, np.float32)
    for first in rng.integers(0, samples, rng.poisson(samples / rate / 4)):
        length = min(round(rng.uniform(0.003, 0.012) * rate), samples - first)
        decay = np.exp(-np.arange(length) / (0.2 * length + 1))
        burst = rng.standard_normal(length) * decay * rng.uniform(0.1, 0.4)
        clicks[first : first + length] += burst.astype(np.float32)
    return clicks
