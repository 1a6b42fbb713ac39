"""Where the samples of an audio stream are on the clock: its start, its steps and its drift."""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import soxr
from av.container import InputContainer
from numpy.typing import NDArray

from usvs.media.open_media import list_audio_streams

GAPLESS_TAG = "iTunSMPB"  # of an MP4: flags, encoder delay, padding and length in samples, in hexadecimal
MIN_STEP_SECONDS = 0.0016  # two timestamps rounded to milliseconds differ by up to 1 ms from what they should
PRECISE_SECONDS = 0.001  # more jitter than this: steps are looked for in medians of more frames
LINE_ERROR_SECONDS = 0.005  # of a drift that is fitted by a line; more is fitted by several
MIN_STEP_FRAMES, MIN_LINE_FRAMES, SMOOTHING_FRAMES = 8, 100, 33
EDGE_SAMPLES = 512  # longer than the resampler's filter


def read_audio_start(container: InputContainer) -> float | None:
    """Return the time at which the first audio stream begins to play; None where only its frames show it.

    An encoder delay in an MP4 counts samples at the core rate of HE-AAC, the decoder's output at twice that rate:
    FFmpeg skips half of the delay. The tag's values are in the unit in which their sum is the length of the stream.
    """
    stream = list_audio_streams(container)[0]
    time_base, start = stream.time_base or Fraction(1, 1), stream.start_time
    values = re.findall(r"[0-9A-Fa-f]+", str(container.metadata.get(GAPLESS_TAG, "")))
    if len(values) >= 4 and stream.duration:
        delay, padding, length = (int(value, 16) for value in values[1:4])
        if delay + padding + length == stream.duration:
            return float(delay * time_base)
    # An edit list puts the first sample that is played at 0 and all packets before at negative times.
    return 0.0 if start is not None and start * time_base <= 0 else None


@dataclass(frozen=True)
class ClockPiece:
    """Samples between two steps: sample c is at c + level + slope * (c - begin).

    Attributes:
        begin: first sample.
        level: how many samples later the timestamps put it.
        slope: drift from there on, in samples per sample.
    """

    begin: float
    level: float
    slope: float


def fit_clock(counts: NDArray[np.float64], errors: NDArray[np.float64], rate_hz: float) -> list[ClockPiece]:
    """Return where samples belong by the timestamps of their frames: steps are followed, jitter is not.

    Lost packets and restarted recorders are steps, each of its own size; between two steps the clock drifts along a
    line, or along several where one line misses the timestamps by more than `LINE_ERROR_SECONDS`.

    Args:
        counts: samples before each frame [n].
        errors: how many samples later its timestamp puts the frame [n].
        rate_hz: sample rate.
    """
    if len(counts) < MIN_STEP_FRAMES:
        return []
    edges = [0, *_find_steps(errors, rate_hz), len(counts)]
    spans = list(pairwise(edges))
    common = _common_slope(counts, errors, spans)
    pieces: list[ClockPiece] = []
    for first, last in spans:
        pieces += _fit_lines(counts[first:last], errors[first:last], common, rate_hz)
    return pieces


def apply_clock(
    waveform: NDArray[np.float32], pieces: list[ClockPiece], samples_per_count: float
) -> NDArray[np.float32]:
    """Return a waveform with each piece at its place: stretched by its drift, silence between two pieces.

    Args:
        waveform: decoded samples without their corrections.
        pieces: of `fit_clock`.
        samples_per_count: samples of the waveform for one sample of the stream.
    """
    ends = [piece.begin for piece in pieces[1:]]
    sources = [0, *(round(end * samples_per_count) for end in ends), len(waveform)]
    starts = [round((piece.begin + piece.level) * samples_per_count) for piece in pieces]
    parts: list[NDArray[np.float32]] = []
    written = 0
    for number, (piece, (source, source_end)) in enumerate(zip(pieces, pairwise(sources), strict=True)):
        part = _stretch(waveform, source, source_end, piece.slope)
        start = starts[number] if number else 0
        limit = starts[number + 1] if number + 1 < len(pieces) else start + len(part)
        if start > written:
            parts.append(np.zeros(start - written, np.float32))
        part = part[max(0, written - start) : max(0, limit - start)]
        parts.append(part)
        written = max(written, start) + len(part)
    return np.concatenate(parts)


def _find_steps(errors: NDArray[np.float64], rate_hz: float) -> list[int]:
    """Return the frames at which the errors change for good, in order."""
    changes = np.diff(errors)
    jitter = 1.4826 * float(np.median(np.abs(changes - np.median(changes))))
    width = 3 if jitter <= PRECISE_SECONDS * rate_hz else 8
    if len(errors) < 2 * width:
        return []
    medians = np.median(np.lib.stride_tricks.sliding_window_view(errors, width), axis=1)
    levels = np.zeros(len(errors))  # of each frame: change of the median from the frames before it to those after it
    levels[width : len(errors) - width + 1] = medians[width:] - medians[:-width]
    if width == 3:
        step = np.concatenate([[0.0], changes])
        threshold = max(MIN_STEP_SECONDS * rate_hz, 5 * jitter)
        is_step = (np.abs(step) > threshold) & (levels * np.sign(step) > 0.5 * np.abs(step))
    else:
        threshold = max(3 * MIN_STEP_SECONDS * rate_hz, 4 * jitter)
        sizes = np.pad(np.abs(levels), width)
        largest = np.lib.stride_tricks.sliding_window_view(sizes, 2 * width + 1).max(axis=1)
        is_step = (np.abs(levels) > threshold) & (np.abs(levels) == largest)
    return [int(index) for index in np.flatnonzero(is_step)]


def _common_slope(counts: NDArray[np.float64], errors: NDArray[np.float64], spans: list[tuple[int, int]]) -> float:
    across = along = 0.0
    for first, last in spans:
        x, y = counts[first:last] - counts[first:last].mean(), errors[first:last]
        across, along = across + float(x @ (y - y.mean())), along + float(x @ x)
    return across / along if along else 0.0


def _fit_lines(
    counts: NDArray[np.float64], errors: NDArray[np.float64], common: float, rate_hz: float
) -> list[ClockPiece]:
    """Return one line, or several where one misses the errors; short spans have the slope of all."""
    begin, is_long = float(counts[0]), len(counts) >= MIN_LINE_FRAMES
    slope = float(np.polyfit(counts - counts.mean(), errors, 1)[0]) if is_long else common
    level = float(np.median(errors - slope * (counts - begin)))
    if is_long and len(counts) >= 2 * MIN_LINE_FRAMES:
        rest = errors - level - slope * (counts - begin)
        smooth = np.convolve(rest, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), "valid")
        if np.abs(smooth).max() > LINE_ERROR_SECONDS * rate_hz:
            middle = len(counts) // 2
            halves = ((counts[:middle], errors[:middle]), (counts[middle:], errors[middle:]))
            return [piece for half in halves for piece in _fit_lines(*half, common, rate_hz)]
    return [ClockPiece(begin, level, slope)]


def _stretch(waveform: NDArray[np.float32], begin: int, end: int, slope: float) -> NDArray[np.float32]:
    """Return a part of a waveform, stretched; its neighbours are used so that the resampler has no edge there."""
    if abs(slope) * (end - begin) < 0.5:
        return waveform[begin:end]
    before, after = min(begin, EDGE_SAMPLES), min(len(waveform) - end, EDGE_SAMPLES)
    wide: NDArray[np.float32] = soxr.resample(waveform[begin - before : end + after], 1.0, 1.0 + slope)
    first = round(before * (1 + slope))
    return wide[first : first + round((end - begin) * (1 + slope))]
