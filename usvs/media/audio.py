"""Audio of a scan as one mono waveform whose sample 0 is at the time of the first video frame."""

import math
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.audio_clock import MIN_STEP_SECONDS, apply_clock, fit_clock, read_audio_start
from usvs.media.audio_samples import join_pieces, to_float
from usvs.media.clock import PacketReader
from usvs.media.containers import read_container_info
from usvs.media.limits import check_inserted_silence, check_sound_rate
from usvs.media.open_media import list_audio_streams, list_video_streams, open_media
from usvs.media.truncation import is_truncated

# a longer jump of the timestamps is missing audio; a shorter one is their rounding
MIN_GAP_SECONDS = 0.04
TIMESTAMP_ERROR_SECONDS = 0.001  # rounding error of timestamps in milliseconds
MIN_FRAMES_FOR_DRIFT = 20
MAX_PEAK = 3.0  # relative to full scale; decoders overshoot by less
CANCELLATION_RATIO = 1e-3  # power of the channels' mean over their mean power; below it, one channel is inverted
MAX_GAP_SECONDS = 6 * 3600.0
SILENCE_SECONDS = 10  # of one piece of inserted silence
KEPT_RATIO = 1.05  # of the samples kept to those asked for, as stretching by the drift may shorten them
BLOCK_SAMPLES = 1 << 15  # resampled at once: a codec's frames are short, and each call costs as much as one of them


@dataclass
class AudioDecodeStats:
    """What was noticed while audio was decoded.

    Attributes:
        damaged_packets: packets that could not be decoded; replaced by silence.
        gaps: gaps in the timestamps; filled with silence.
        overlaps: places where the timestamps go back; what they repeat is removed.
        lost_samples: samples that are NaN or infinite; replaced by silence.
        streams: audio streams in the file; the first is used.
        is_truncated: whether the audio file is shorter than the lengths stored in it.
        peak: largest absolute value; full scale is 1.
        channels_cancel: whether the mean of the channels is nearly silent although the channels are not.
        drift_ppm: drift of the samples against the stream's own timestamps, where it was corrected.
        seconds: length of the audio from t = 0 on, also of what was not kept.
    """

    damaged_packets: int = 0
    gaps: int = 0
    overlaps: int = 0
    lost_samples: int = 0
    streams: int = 1
    is_truncated: bool = False
    peak: float = 0.0
    channels_cancel: bool = False
    drift_ppm: float = 0.0
    seconds: float = 0.0

    @property
    def note(self) -> str | None:
        """What is unusual, as one line; None if nothing is."""
        parts = {
            f"{self.damaged_packets} damaged audio packets: replaced by silence": self.damaged_packets,
            f"{self.gaps} gaps in the audio: filled with silence": self.gaps and not self.damaged_packets,
            f"{self.overlaps} overlaps in the audio: removed": self.overlaps,
            f"{self.lost_samples} audio samples are NaN or infinite: replaced by silence": self.lost_samples,
            f"{self.streams} audio streams in the file: the first is used": self.streams > 1,
            "the audio file is truncated: it is shorter than the lengths stored in it": self.is_truncated,
            f"the audio reaches {self.peak:.0f} times full scale: it is clipped": self.peak > MAX_PEAK,
            "the audio channels cancel each other out: name a mono file as 'sound' in manifest.csv": (
                self.channels_cancel
            ),
            f"the audio is stretched by {self.drift_ppm:+.0f} ppm to follow its timestamps": self.drift_ppm,
        }
        return "; ".join(text for text, is_present in parts.items() if is_present) or None


def read_audio(
    path: str | Path,
    audio_file: str | Path | None = None,
    rate_hz: int = 24_000,
    start_seconds: float | None = None,
    stats: AudioDecodeStats | None = None,
    offset_seconds: float = 0.0,
    drift_ppm: float = 0.0,
    max_seconds: float | None = None,
) -> NDArray[np.float32]:
    """Decode and resample the audio of a scan; channels are averaged.

    Args:
        path: video file of the scan; an audio file alone works too, its first sample is then at t = 0.
        audio_file: separate audio file of the scan; its first sample is at t = 0. None: the first audio stream in
            the video.
        rate_hz: sample rate of the result.
        start_seconds: time of the first video frame on the container's clock, if known from `read_video_info`.
        stats: updated with what could not be decoded; such samples are silent.
        offset_seconds: delay of the audio. For a separate audio file: time of its first sample on the scan clock.
        drift_ppm: how much faster the audio's clock runs than the video's, counted from the first audio sample.
        max_seconds: samples after this time are not kept in memory, except a few; None: all are kept.

    Returns:
        Samples from t = 0 on, full scale 1 [samples]. Silent until the audio starts; audio before t = 0 is removed.

    Raises:
        DataError: if there is no audio stream, or it cannot be decoded.
    """
    path, audio_file = Path(path), None if audio_file is None else Path(audio_file)
    stats = stats if stats is not None else AudioDecodeStats()
    try:
        with open_media(audio_file or path, "an audio file" if audio_file else "a video") as container:
            stats.streams = len(container.streams.audio)
            stats.is_truncated = audio_file is not None and is_truncated(audio_file, container.format.name)
            if not container.streams.audio:
                raise DataError(f"no audio stream in the {'audio file' if audio_file else 'video'}")
            if audio_file is not None:
                start_seconds = None
            elif start_seconds is None and list_video_streams(container):
                start_seconds = read_container_info(path).timing.start_seconds
            if start_seconds is None:
                start_seconds = read_audio_start(container)
            reader = _AudioReader(audio_file or path, container, start_seconds, offset_seconds, drift_ppm, stats)
            return reader.read(rate_hz, max_seconds)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"the audio is not readable: {error.strerror or type(error).__name__}") from None


class _AudioReader:
    """Reads an audio stream from t = 0 on: fills gaps with silence and measures the drift of its timestamps."""

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        start_seconds: float | None,
        offset_seconds: float,
        drift_ppm: float,
        stats: AudioDecodeStats,
    ) -> None:
        self._path = path
        self._container, self._start_seconds, self._stats = container, start_seconds, stats
        self._offset_seconds = offset_seconds
        self._clock_speed = 1 + drift_ppm * 1e-6  # of the audio's clock
        self._written = 0  # samples so far
        # for each frame: samples written before it, and how many more its timestamp calls for
        self._counts, self._errors = array("q"), array("d")
        self._recent: deque[float] = deque(maxlen=MIN_FRAMES_FOR_DRIFT)  # the last of the errors
        self._power = self._channel_power = 0.0
        self._inserted_seconds = 0.0  # of silence
        self.rate_hz = 0

    def read(self, rate_hz: int, max_seconds: float | None = None) -> NDArray[np.float32]:
        """Return the stream at a sample rate, complete or a little more than its first `max_seconds`."""
        limit = math.inf if max_seconds is None else (max_seconds * KEPT_RATIO + 1.0) * rate_hz
        chunks: list[NDArray[np.float32]] = []
        kept = length = 0
        for chunk in self._iter_resampled(rate_hz):
            self._stats.peak = max(self._stats.peak, float(np.abs(chunk).max(initial=0.0)))
            length += len(chunk)
            if kept < limit:
                chunks.append(chunk)
                kept += len(chunk)
        self._stats.seconds = length / rate_hz
        waveform = np.concatenate(chunks)
        self._stats.channels_cancel = self._power < CANCELLATION_RATIO * self._channel_power
        counts, errors = np.asarray(self._counts, np.float64), np.asarray(self._errors, np.float64)
        clock = fit_clock(counts, errors, self.rate_hz)
        if len(clock) > 1:
            ends = [piece.level + piece.slope * (after.begin - piece.begin) for piece, after in pairwise(clock)]
            steps = np.array([after.level for after in clock[1:]]) - ends
            self._stats.gaps += int((steps > MIN_STEP_SECONDS * self.rate_hz).sum())
            self._stats.overlaps += int((steps < -MIN_STEP_SECONDS * self.rate_hz).sum())
            self._stats.seconds += float(steps.sum()) / self.rate_hz
            samples_per_count = rate_hz / (self.rate_hz * self._clock_speed)
            return apply_clock(
                waveform, [piece for piece in clock if piece.begin * samples_per_count <= kept], samples_per_count
            )
        drift = self._fit_drift()
        if abs(drift) * len(waveform) <= TIMESTAMP_ERROR_SECONDS * rate_hz:
            return waveform
        self._stats.drift_ppm = drift * 1e6
        self._stats.seconds *= 1 + drift
        stretched: NDArray[np.float32] = soxr.resample(waveform, rate_hz, rate_hz * (1 + drift))
        return stretched

    def _iter_resampled(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        resampler: soxr.ResampleStream | None = None
        for mono in join_pieces(self._iter_mono(), BLOCK_SAMPLES):
            resampler = resampler or soxr.ResampleStream(self.rate_hz * self._clock_speed, rate_hz, 1, "float32")
            yield resampler.resample_chunk(mono)
        if resampler is None:
            raise DataError("no packet of the audio stream can be decoded")
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _iter_mono(self) -> Iterator[NDArray[np.float32]]:
        damaged_packets = 0
        for frame in _decode_frames(self._path, self._container, self._stats):
            if not self.rate_hz:
                check_sound_rate(frame.sample_rate)
                self.rate_hz = frame.sample_rate
            if frame.sample_rate != self.rate_hz:
                raise DataError(
                    f"the audio's sample rate changes: expected {self.rate_hz} Hz, got {frame.sample_rate} Hz"
                )
            missing = self._count_missing(frame, damaged_packets < self._stats.damaged_packets)
            damaged_packets = self._stats.damaged_packets
            channels = to_float(frame)
            mono = channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float64).astype(np.float32)
            if not math.isfinite(mono.sum()):  # the resampler would spread one NaN over the length of its filter
                self._stats.lost_samples += int((~np.isfinite(mono)).sum())
                channels, mono = (np.where(np.isfinite(each), each, np.float32(0)) for each in (channels, mono))
            if len(channels) > 1:
                self._power += float(np.vdot(mono, mono))
                self._channel_power += float(np.vdot(channels, channels)) / len(channels)
            if missing:
                self._inserted_seconds += max(missing, 0) / self.rate_hz
                check_inserted_silence(self._inserted_seconds)
                self._stats.gaps += self._written > 0
                while missing > SILENCE_SECONDS * self.rate_hz:  # in pieces, as an hour of it would fill the memory
                    silence = np.zeros(SILENCE_SECONDS * self.rate_hz, np.float32)
                    missing -= len(silence)
                    self._written += len(silence)
                    yield silence
                mono = np.concatenate([np.zeros(max(missing, 0), np.float32), mono[max(-missing, 0) :]])
            self._written += len(mono)
            yield mono

    def _count_missing(self, frame: AudioFrame, is_after_damage: bool) -> int:
        """Return how many silent samples precede a frame; negative if samples of the frame are before t = 0."""
        seconds = _frame_seconds(frame)
        if self._start_seconds is None:
            self._start_seconds = seconds or 0.0
        if seconds is None:
            is_first = self._written == 0 and not self._counts
            return round(self._offset_seconds * self.rate_hz * self._clock_speed) if is_first else 0
        error = (seconds - self._start_seconds + self._offset_seconds) * self.rate_hz - self._written
        if abs(error) > MAX_GAP_SECONDS * self.rate_hz:
            raise DataError(f"the audio's timestamps jump by {error / self.rate_hz:.0f} s")
        if self._written == 0:
            return round(error * self._clock_speed)  # the start of the stream is exact to the sample
        jump = error - (math.fsum(self._recent) / len(self._recent) if self._recent else 0.0)
        # Only gaps are filled: following the rounding of timestamps would add clicks, and drift is not a gap.
        threshold_seconds = TIMESTAMP_ERROR_SECONDS if is_after_damage else MIN_GAP_SECONDS
        missing = round(jump) if abs(jump) > threshold_seconds * self.rate_hz else 0
        if -missing < frame.samples:  # otherwise nothing of the frame is left
            self._counts.append(self._written + max(missing, 0))
            self._errors.append(error - missing)
            self._recent.append(error - missing)
        return missing

    def _fit_drift(self) -> float:
        """Return by which fraction the audio lasts longer by its timestamps than by its samples (least squares)."""
        if len(self._counts) < MIN_FRAMES_FOR_DRIFT:
            return 0.0
        counts = np.asarray(self._counts, np.float64)
        return float(np.polyfit(counts - counts.mean(), np.asarray(self._errors), 1)[0])


def _decode_frames(path: Path, container: InputContainer, stats: AudioDecodeStats) -> Iterator[AudioFrame]:
    stream = list_audio_streams(container)[0]
    if stream.codec_context is None:
        raise DataError("the audio's codec is not known, or the codec's name is damaged")
    for packet in PacketReader(path, container, stream):
        try:
            frames: Any = packet.decode()
        except av.FFmpegError:
            stats.damaged_packets += 1
            continue
        yield from frames


def _frame_seconds(frame: AudioFrame) -> float | None:
    seconds = frame.time
    if (not seconds or math.isnan(seconds)) and frame.time_base is None:  # asked rarely: it constructs a fraction
        return None
    return seconds
