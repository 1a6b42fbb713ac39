"""Which moments of a recording hold speech, by energy alone.

The detector of the paper's reference [14] (Sakhnov, Verteletskaya and Simak, "Approach for Energy-Based Voice Detector
with Adaptive Scaling Factor", IAENG IJCS 36:4, 2009): a frame is voiced where its RMS exceeds a threshold between the
tracked minimum and maximum, thr = (1 - l) Emax + l Emin with l = (Emax - Emin) / Emax. That is
thr = Emin (2 - Emin / Emax): some 6 dB above the tracked floor; `threshold_ratio` stands for the 2. A click is louder
than that too, so runs shorter than a syllable do not count.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.config import VoiceActivitySettings

GROWTH_OF_GROWTH = 1.0001  # of the compounding variant, a frame


def voice_activity(waveform: ArrayLike, rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.bool_]:
    """Say for each whole frame of a mono recording whether it holds speech.

    Args:
        waveform: samples in [-1, 1] or int16 [S].
        rate_hz: of the samples.
        settings: frame length and the detector's constants.

    Returns:
        True where there is speech [floor(S / frame length)].
    """
    energy = frame_energy(np.asarray(waveform), rate_hz, settings)
    voiced = energy > threshold(energy, settings)
    shortest = round(settings.minimum_run_seconds / settings.frame_seconds)
    hangover = round(settings.hangover_seconds / settings.frame_seconds)
    return _held(_runs_of(voiced, shortest), hangover)


def frame_energy(samples: NDArray[Any], rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the RMS of each whole frame, full scale 1, the recording's constant part taken off [frames]."""
    length = max(1, round(rate_hz * settings.frame_seconds))
    count = len(samples) // length
    if count == 0:
        return np.zeros(0)
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    frames = samples[: count * length].reshape(count, length).astype(np.float32, copy=False)
    mean = float(frames.mean(dtype=np.float64))
    power = (frames * frames).mean(axis=1, dtype=np.float64)
    drift = frames.mean(axis=1, dtype=np.float64)
    energy: NDArray[np.float64] = np.sqrt(np.maximum(power - 2 * mean * drift + mean**2, 0)) * scale
    return energy


def threshold(energy: NDArray[np.float64], settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the adaptive threshold that each frame's energy is held against [frames].

    A frame of digital silence neither lowers the floor to zero nor counts as a minimum: the floor stays at or above
    `settings.silence_rms`.
    """
    ratio, silence = settings.threshold_ratio, settings.silence_rms
    lowest, highest, growth = np.inf, silence, settings.floor_growth
    result = []
    for value in energy.tolist():
        if value > highest:
            highest = value
        if value < lowest:
            lowest = value if value > silence else silence
            growth = settings.floor_growth
        if lowest > highest:
            highest = lowest
        result.append(lowest * (ratio - (ratio - 1.0) * lowest / highest))
        lowest *= growth
        if settings.growth_compounds:
            growth *= GROWTH_OF_GROWTH
    return np.array(result)


def speech_fraction(active: NDArray[np.bool_], start_frame: int, end_frame: int) -> float:
    """Return the share of voiced frames in [start_frame, end_frame); NaN where the recording has none of them."""
    part = active[max(start_frame, 0) : end_frame]
    return float(part.mean()) if len(part) else float("nan")


def _runs_of(voiced: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], voiced, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    kept = ends - starts >= shortest
    marks = np.zeros(len(voiced) + 1, np.int64)
    marks[starts[kept]] += 1
    marks[ends[kept]] -= 1
    return np.cumsum(marks[:-1]) > 0


def _held(voiced: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    number = np.arange(len(voiced))
    last = np.maximum.accumulate(np.where(voiced, number, -frames - 1))
    return number - last <= frames
