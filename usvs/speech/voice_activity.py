"""Which moments of a recording hold speech, by energy alone.

The detector of the paper's reference [14] (Sakhnov, Verteletskaya and Simak, "Approach for Energy-Based Voice Detector
with Adaptive Scaling Factor", IAENG IJCS 36:4, 2009): a frame is voiced where its RMS exceeds a threshold between the
tracked minimum and maximum, thr = (1 - l) Emax + l Emin with l = (Emax - Emin) / Emax. That is
thr = Emin (2 - Emin / Emax): some 6 dB above the tracked floor; `threshold_ratio` stands for the 2, `scaling_factor`
fixes l. Implementations differ in whether the raise of Emin compounds, how long speech is held and what digital silence
does: options too. A click is louder than the threshold as well, so runs shorter than a syllable do not count. Hum and
rumble, which lie below the voice, are filtered off first (`high_pass_hz`): that is ours. The recursion is
`usvs.ops.energy_threshold`.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from usvs import ops
from usvs.config import VoiceActivitySettings
from usvs.errors import ConfigError
from usvs.ops.energy_threshold import ADAPTIVE

GROWTH_OF_GROWTH = 1.0001  # of the compounding variant, a frame
HIGH_PASS_ORDER = 2  # Butterworth
FRAMES_AT_ONCE = 6000  # filtered samples of so many are in memory


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
    length = max(1, round(rate_hz * settings.frame_seconds))
    count = samples.shape[-1] // length
    frames = samples[..., : count * length].reshape(*samples.shape[:-1], count, length)
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    if settings.high_pass_hz == 0 or count == 0:
        return _rms_without_mean(frames) * scale
    if settings.high_pass_hz >= rate_hz / 2:
        raise ConfigError(f"voice.high_pass_hz is {settings.high_pass_hz:g}, wanted less than half of {rate_hz} Hz")
    return _high_passed_rms(frames, settings.high_pass_hz / (rate_hz / 2)) * scale


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


def _rms_without_mean(frames: NDArray[Any]) -> NDArray[np.float64]:
    if frames.size == 0:
        return np.zeros(frames.shape[:-1])
    frames = frames.astype(np.float32, copy=False)
    drift = frames.mean(axis=-1, dtype=np.float64)
    mean = drift.mean(axis=-1, keepdims=True)
    power = (frames * frames).mean(axis=-1, dtype=np.float64)
    rms: NDArray[np.float64] = np.sqrt(np.maximum(power - 2 * mean * drift + mean**2, 0))
    return rms


def _high_passed_rms(frames: NDArray[Any], share_of_nyquist: float) -> NDArray[np.float64]:
    from scipy.signal import butter, sosfilt, sosfilt_zi  # half a second, which only who listens shall pay

    sections = butter(HIGH_PASS_ORDER, share_of_nyquist, "highpass", output="sos")
    rms = np.empty(frames.shape[:-1])
    steady = sosfilt_zi(sections)  # as if the first frame's mean had been there for ever: no step at the beginning
    state = steady.reshape(len(sections), *[1] * (frames.ndim - 2), 2) * frames[..., 0, :].mean(-1)[None, ..., None]
    for first in range(0, frames.shape[-2], FRAMES_AT_ONCE):
        block = frames[..., first : first + FRAMES_AT_ONCE, :]
        filtered, state = sosfilt(sections, block.reshape(*block.shape[:-2], -1), zi=state)
        rms[..., first : first + FRAMES_AT_ONCE] = np.sqrt((filtered.reshape(block.shape) ** 2).mean(axis=-1))
    return rms


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
