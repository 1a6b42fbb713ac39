"""Voice activity detection from the energy of a recording.

The detector of the paper's reference [14] (Sakhnov, Verteletskaya and Simak, "Approach for Energy-Based Voice Detector
with Adaptive Scaling Factor", IAENG IJCS 36:4, 2009): a frame is speech where its RMS exceeds a threshold between the
tracked minimum and maximum, (1 - l) Emax + l Emin with l = (Emax - Emin) / Emax, which is Emin (2 - Emin / Emax), about
6 dB above the tracked floor. `threshold_ratio` replaces the 2, `scaling_factor` fixes l. Descriptions differ in whether
the growth of Emin compounds, how long speech is extended and how digital silence is treated: these are settings. Clicks
exceed the threshold too, so runs shorter than a syllable do not count. Not in the paper: hum and rumble are removed by
a high-pass filter first (`high_pass_hz`). The two recursions are `usvs.ops.frame_energy` and
`usvs.ops.energy_threshold`.
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

GROWTH_OF_GROWTH = 1.0001  # factor per frame of the compounding variant


def voice_activity(waveform: ArrayLike, rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.bool_]:
    """Return which frames of mono recordings contain speech.

    Args:
        waveform: [..., S] samples, floating point in [-1, 1] or int16.
        rate_hz: sampling rate.
        settings: frame length and the detector's constants.

    Returns:
        bool [..., frames], frames = floor(S / samples per frame).

    Raises:
        ConfigError: where the cutoff of the high-pass filter is not below half of the sampling rate.
    """
    energy = frame_energy(np.asarray(waveform), rate_hz, settings)
    voiced = energy > threshold(energy, settings)
    shortest = round(settings.minimum_run_seconds / settings.frame_seconds)
    hangover = round(settings.hangover_seconds / settings.frame_seconds)
    return _extend_runs(_drop_short_runs(voiced, shortest), hangover)


def frame_energy(samples: NDArray[Any], rate_hz: int, settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the RMS of each frame after the high-pass filter, [..., frames], full scale 1.

    Args:
        samples: [..., S], floating point in [-1, 1] or int16.
        rate_hz: sampling rate.
        settings: frame length and cutoff.

    Raises:
        ConfigError: where the cutoff is not below half of the sampling rate.
    """
    if settings.high_pass_hz >= rate_hz / 2:
        raise ConfigError(
            f"voice_activity.high_pass_hz: expected less than half of {rate_hz} Hz, got {settings.high_pass_hz:g} Hz"
        )
    length = max(1, round(rate_hz * settings.frame_seconds))
    flat = np.ascontiguousarray(samples, np.float32).reshape(math.prod(samples.shape[:-1]), samples.shape[-1])
    energy: NDArray[np.float64] = ops.frame_energy(
        torch.from_numpy(flat), length, settings.high_pass_hz / rate_hz
    ).numpy()
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    return energy.reshape(*samples.shape[:-1], -1) * scale


def threshold(energy: NDArray[np.float64], settings: VoiceActivitySettings) -> NDArray[np.float64]:
    """Return the adaptive threshold of each frame's energy, [..., frames], in its unit.

    Args:
        energy: [..., frames] as of `frame_energy`.
        settings: the detector's constants; the floor is at least `silence_rms`, also in digital silence.
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
    """Return the fraction of frames with speech in [start_frame, end_frame); NaN where the recording has none of them.

    Args:
        active: bool [frames], as of `voice_activity`.
        start_frame: first frame; may be negative.
        end_frame: frame after the last; may be beyond the recording.
    """
    inside = active[max(start_frame, 0) : end_frame]
    return float(inside.mean()) if len(inside) else float("nan")


def _drop_short_runs(voiced: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Set runs of fewer than `shortest` frames to False."""
    padded = np.pad(voiced, [(0, 0)] * (voiced.ndim - 1) + [(1, 1)])
    changes = padded[..., 1:] != padded[..., :-1]  # [..., frames + 1]
    edges = np.flatnonzero(changes)  # begin and end of each run, alternating, row after row
    starts, ends = edges[::2], edges[1::2]
    kept = ends - starts >= shortest
    marks = np.zeros(changes.size, np.int8)
    marks[starts[kept]] += 1
    marks[ends[kept]] -= 1
    inside: NDArray[np.bool_] = np.cumsum(marks, dtype=np.int8).reshape(changes.shape)[..., :-1] > 0
    return inside


def _extend_runs(voiced: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """Extend every run by `frames` frames."""
    number = np.arange(voiced.shape[-1])
    last = np.maximum.accumulate(np.where(voiced, number, -frames - 1), axis=-1)
    extended: NDArray[np.bool_] = number - last <= frames
    return extended
