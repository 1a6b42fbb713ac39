"""The sound of a scan as one mono waveform whose sample 0 lies at the first frame's timestamp."""

import logging
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.open_media import open_media
from usvs.media.timing import read_timing
from usvs.media.truncation import breaks_off

logger = logging.getLogger(__name__)

# a hole in the stream; below it differences of timestamps are their rounding, not missing sound
GAP_SECONDS = 0.04
STEADY_SECONDS = 0.001  # what timestamps in milliseconds are off by
STEADY_FRAMES = 20
LOUDEST = 3.0  # times full scale; decoders overshoot by less
CANCELLED = 1e-3  # of the channels' mean power that is left in their mean: one is the other upside down
LARGEST_HOLE_SECONDS = 6 * 3600.0


@dataclass
class AudioDecodeStats:
    """What came to light while sound was decoded."""

    damaged_packets: int = 0
    gaps: int = 0
    lost_samples: int = 0  # that are no numbers
    streams: int = 1
    breaks_off: bool = False
    peak: float = 0.0  # full scale 1
    channels_cancel: bool = False
    drift_ppm: float = 0.0  # of the samples against the stream's own timestamps, where it was followed

    @property
    def note(self) -> str | None:
        """What is worth saying of it, None where all is as it should be."""
        parts = {
            f"{self.damaged_packets} damaged packets of sound are silence": self.damaged_packets,
            f"{self.gaps} holes in the sound are silence": self.gaps and not self.damaged_packets,
            f"{self.lost_samples} samples of sound are no numbers and are silence": self.lost_samples,
            f"of {self.streams} sounds in the file the first is used": self.streams > 1,
            "the sound file ends before its own lengths say": self.breaks_off,
            f"the sound reaches {self.peak:.0f} times full scale and is clipped": self.peak > LOUDEST,
            "the sound's channels cancel each other out: name a mono file as 'sound' in manifest.csv": (
                self.channels_cancel
            ),
            f"the sound is stretched by {self.drift_ppm:+.0f} ppm, as its timestamps say": self.drift_ppm,
        }
        return "; ".join(text for text, found in parts.items() if found) or None


def read_sound(
    video: Path,
    beside: Path | None,
    rate_hz: int,
    start_seconds: float | None = None,
    heard: AudioDecodeStats | None = None,
    offset_seconds: float = 0.0,
    drift_ppm: float = 0.0,
) -> NDArray[np.float32]:
    """Decode and resample a scan's sound; the mean of its channels.

    Args:
        video: the scan's video file.
        beside: its sound file; sample 0 of it lies at t = 0. None: the video's own first audio stream.
        rate_hz: of the result.
        start_seconds: the container's clock at the first frame, where the caller knows it from `probe`.
        heard: is kept up to date with what could not be decoded; such places hold silence.
        offset_seconds: moves the sound later; for a file beside the video, the scan's time of its first sample.
        drift_ppm: how much faster than the picture's the sound's clock runs; it counts from the sound's first sample.

    Returns:
        Samples from t = 0 on [S]; silence until the stream starts; what lies before t = 0 is cut.

    Raises:
        DataError: where there is no audio stream, or it is of no known rate.
    """
    heard = heard if heard is not None else AudioDecodeStats()
    try:
        with open_media(beside or video, "a sound" if beside else "a video") as container:
            heard.streams = len(container.streams.audio)
            heard.breaks_off = beside is not None and breaks_off(beside, container.format.name)
            if not container.streams.audio:
                raise DataError("no audio stream in the sound file" if beside else "no audio stream in the video")
            if beside is not None:
                start_seconds = None
            elif start_seconds is None:
                start_seconds = _video_start(video)
            return _Counted(container, start_seconds, offset_seconds, drift_ppm, heard).resampled(rate_hz)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"the sound is not readable: {error.strerror or type(error).__name__}") from None


def _video_start(video: Path) -> float:
    with open_media(video) as container:
        return read_timing(container, container.streams.video[0]).start_seconds


class _Counted:
    """An audio stream counted out in samples from t = 0 on: holes filled with silence, its drift measured."""

    def __init__(
        self, container: InputContainer, start: float | None, offset: float, drift_ppm: float, heard: AudioDecodeStats
    ) -> None:
        self._container, self._start, self._offset, self._heard = container, start, offset, heard
        self._speed = 1 + drift_ppm * 1e-6  # of the sound's clock
        self._written = 0
        self._counts, self._errors = array("q"), array("d")  # samples written before a frame, and by how many too few
        self._power = self._channel_power = 0.0
        self.rate = 0

    def resampled(self, rate_hz: int) -> NDArray[np.float32]:
        pieces: list[NDArray[np.float32]] = []
        resampler: soxr.ResampleStream | None = None
        for mono in self._pieces():
            resampler = resampler or soxr.ResampleStream(self.rate * self._speed, rate_hz, 1, "float32")
            pieces.append(resampler.resample_chunk(mono))
        if resampler is None:
            raise DataError("the audio stream holds no sound that can be decoded")
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        waveform = np.concatenate(pieces)
        self._heard.peak = float(np.abs(waveform).max(initial=0.0))
        self._heard.channels_cancel = self._power < CANCELLED * self._channel_power
        drift = self._drift()
        if abs(drift) * len(waveform) <= STEADY_SECONDS * rate_hz:
            return waveform
        self._heard.drift_ppm = drift * 1e6
        stretched: NDArray[np.float32] = soxr.resample(waveform, rate_hz, rate_hz * (1 + drift))
        return stretched

    def _pieces(self) -> Iterator[NDArray[np.float32]]:
        damaged = 0
        for frame in _frames(self._container, self._heard):
            self.rate = self.rate or frame.sample_rate
            if frame.sample_rate != self.rate:
                raise DataError(f"the sound changes its rate from {self.rate} to {frame.sample_rate} Hz")
            missing = self._missing(frame, damaged < self._heard.damaged_packets)
            damaged = self._heard.damaged_packets
            channels = _channels(frame)
            mono = channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float64).astype(np.float32)
            if not np.isfinite(mono.sum()):  # one would silence all that the resampler mixes it with
                self._heard.lost_samples += int((~np.isfinite(mono)).sum())
                channels, mono = (np.where(np.isfinite(each), each, np.float32(0)) for each in (channels, mono))
            if len(channels) > 1:
                self._power += float(np.vdot(mono, mono))
                self._channel_power += float(np.vdot(channels, channels)) / len(channels)
            if missing:
                self._heard.gaps += self._written > 0
                mono = np.concatenate([np.zeros(max(missing, 0), np.float32), mono[max(-missing, 0) :]])
            self._written += len(mono)
            yield mono

    def _missing(self, frame: AudioFrame, after_damage: bool) -> int:
        place = _frame_seconds(frame)
        if self._start is None:
            self._start = place or 0.0
        if place is None:
            return round(self._offset * self.rate * self._speed) if self._written == 0 and not self._counts else 0
        error = (place - self._start + self._offset) * self.rate - self._written
        if abs(error) > LARGEST_HOLE_SECONDS * self.rate:
            raise DataError(f"the sound's timestamps jump by {error / self.rate:.0f} s")
        if self._written == 0:
            return round(error * self._speed)  # the stream's own start is kept to the sample
        before = fmean(self._errors[-STEADY_FRAMES:]) if self._errors else 0.0
        jump = error - before
        # only true holes are filled: the rounding of timestamps would make clicks, and a drift is not a hole
        missing = round(jump) if abs(jump) > (STEADY_SECONDS if after_damage else GAP_SECONDS) * self.rate else 0
        self._counts.append(self._written + missing)
        self._errors.append(error - missing)
        return missing

    def _drift(self) -> float:
        """Return by which part the timestamps say that the sound lasts longer than its samples, by least squares."""
        if len(self._counts) < STEADY_FRAMES:
            return 0.0
        counts = np.asarray(self._counts, np.float64)
        return float(np.polyfit(counts - counts.mean(), np.asarray(self._errors), 1)[0])


def _frames(container: InputContainer, heard: AudioDecodeStats) -> Iterator[AudioFrame]:
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise DataError("the sound's codec is not known, or damage has made it so")
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            heard.damaged_packets += 1


def _frame_seconds(frame: AudioFrame) -> float | None:
    return None if frame.pts is None or frame.time_base is None else frame.time


def _channels(frame: AudioFrame) -> NDArray[np.float32]:
    """Return a frame's samples, full scale 1 [channels, samples]."""
    if frame.layout.nb_channels == 1 and frame.format.name in ("flt", "fltp"):
        return np.frombuffer(memoryview(frame.planes[0]), np.float32, frame.samples)[None]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32, copy=False)
