"""Which moments of a recording hold speech, by energy alone.

The detector of the paper's reference [14] (Sakhnov, Verteletskaya and Simak, "Approach for Energy-Based Voice Detector
with Adaptive Scaling Factor", IAENG IJCS 36:4, 2009): a frame is voiced where its RMS exceeds a threshold between the
tracked minimum and maximum, thr = (1 - l) Emax + l Emin with l = (Emax - Emin) / Emax. That is
thr = Emin (2 - Emin / Emax): some 6 dB above the tracked floor; `threshold_ratio` stands for the 2, `scaling_factor`
fixes l. Implementations differ in whether the raise of Emin compounds, how long speech is held and what digital silence
does: options too. A click is louder than the threshold as well, so runs shorter than a syllable do not count. Hum and
rumble, which lie below the voice, are filtered off first (`high_pass_hz`): that is ours. The two recursions are
`usvs.ops.frame_energy` and `usvs.ops.energy_threshold`.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from usvs import ops
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import ConfigError
from usvs.ops.energy_threshold import ADAPTIVE

GROWTH_OF_GROWTH = 1.0001  # of the compounding variant, a frame


def voice_activity(waveform: ArrayLike, rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.bool_]:
    """Say for each whole frame of mono recordings of one length whether it holds speech.

    Args:
        waveform: samples in [-1, 1] or int16 [..., S].
        rate_hz: of the samples.
        settings: frame length and the detector's constants.

    Returns:
        True where there is speech [..., floor(S / frame length)].
    """
    energy = frame_energy(np.asarray(waveform), rate_hz, settings)
    voiced = energy > threshold(energy, settings)
    shortest = round(settings.minimum_run_seconds / settings.frame_seconds)
    hangover = round(settings.hangover_seconds / settings.frame_seconds)
    return _held(_runs_of(voiced, shortest), hangover)


def frame_energy(samples: NDArray[Any], rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the RMS of each whole frame, full scale 1, of what lies above `settings.high_pass_hz` [..., frames].

    Raises:
        ConfigError: where there is nothing above it.
    """
    if settings.high_pass_hz >= rate_hz / 2:
        raise ConfigError(f"voice.high_pass_hz is {settings.high_pass_hz:g}, expected less than half of {rate_hz} Hz")
    length = max(1, round(rate_hz * settings.frame_seconds))
    flat = np.ascontiguousarray(samples, np.float32).reshape(math.prod(samples.shape[:-1]), samples.shape[-1])
    energy: NDArray[np.float64] = ops.frame_energy(
        torch.from_numpy(flat), length, settings.high_pass_hz / rate_hz
    ).numpy()
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    return energy.reshape(*samples.shape[:-1], -1) * scale


def threshold(energy: NDArray[np.float64], settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the adaptive threshold that each frame's energy is held against [..., frames].

    A frame of digital silence neither lowers the floor to zero nor counts as a minimum: the floor stays at or above
    `settings.silence_rms`.
    """
    frames = energy.shape[-1]
    found = ops.energy_threshold(
        torch.from_numpy(np.ascontiguousarray(energy)).reshape(energy.size // max(1, frames), frames),
        settings.threshold_ratio,
        settings.silence_rms,
        settings.floor_growth,
        GROWTH_OF_GROWTH if settings.growth_compounds else 1.0,
        ADAPTIVE if settings.scaling_factor is None else settings.scaling_factor,
    )
    result: NDArray[np.float64] = found.numpy().reshape(energy.shape)
    return result


def speech_fraction(active: NDArray[np.bool_], start_frame: int, end_frame: int) -> float:
    """Return the share of voiced frames in [start_frame, end_frame); NaN where the recording has none of them."""
    part = active[max(start_frame, 0) : end_frame]
    return float(part.mean()) if len(part) else float("nan")


def _runs_of(voiced: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Drop runs of fewer than `shortest` frames."""
    padded = np.pad(voiced, [(0, 0)] * (voiced.ndim - 1) + [(1, 1)])
    changes = padded[..., 1:] != padded[..., :-1]  # [..., frames + 1]
    edges = np.flatnonzero(changes)  # a run's begin and end by turns, row after row
    starts, ends = edges[::2], edges[1::2]
    kept = ends - starts >= shortest
    marks = np.zeros(changes.size, np.int8)
    marks[starts[kept]] += 1
    marks[ends[kept]] -= 1
    inside: NDArray[np.bool_] = np.cumsum(marks, dtype=np.int8).reshape(changes.shape)[..., :-1] > 0
    return inside


def _held(voiced: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    number = np.arange(voiced.shape[-1])
    last = np.maximum.accumulate(np.where(voiced, number, -frames - 1), axis=-1)
    held: NDArray[np.bool_] = number - last <= frames
    return held
