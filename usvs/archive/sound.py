"""The sound of a scan as one mono waveform whose sample 0 lies at the first frame's timestamp."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from usvs.archive.timing import read_timing
from usvs.errors import DataError

# a hole in the stream; below it differences of timestamps are their rounding, not missing sound
GAP_SECONDS = 0.04


@dataclass
class Heard:
    """What came to light while sound was decoded."""

    damaged_packets: int = 0
    gaps: int = 0


def read_sound(
    video: Path, beside: Path | None, rate_hz: int, start_seconds: float | None = None, heard: Heard | None = None
) -> NDArray[np.float32]:
    """Decode and resample a scan's sound; the mean of its channels.

    Args:
        video: the scan's video file.
        beside: its sound file; sample 0 of it lies at t = 0. None: the video's own first audio stream.
        rate_hz: of the result.
        start_seconds: the container's clock at the first frame, where the caller knows it from `probe`.
        heard: is kept up to date with what could not be decoded; such places hold silence.

    Returns:
        Samples from t = 0 on [S]; silence until the stream starts; what lies before t = 0 is cut.

    Raises:
        DataError: where there is no audio stream, or it is of no known rate.
    """
    heard = heard if heard is not None else Heard()
    try:
        with av.open(str(beside or video), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DataError("no audio stream in the sound file" if beside else "no audio stream in the video")
            if beside is not None:
                start_seconds = None
            elif start_seconds is None:
                start_seconds = _video_start(video)
            return _resampled(container, start_seconds, rate_hz, heard)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"the sound is not readable: {error.strerror or type(error).__name__}") from None


def _video_start(video: Path) -> float:
    with av.open(str(video), metadata_errors="replace") as container:
        return read_timing(container, container.streams.video[0]).start_seconds


def _resampled(container: InputContainer, start: float | None, rate_hz: int, heard: Heard) -> NDArray[np.float32]:
    pieces: list[NDArray[np.float32]] = []
    resampler: soxr.ResampleStream | None = None
    source_rate = written = 0
    for frame in _frames(container, heard):
        if resampler is None:
            source_rate = frame.sample_rate
            resampler = soxr.ResampleStream(source_rate, rate_hz, 1, dtype="float32")
        if frame.sample_rate != source_rate:
            raise DataError(f"the sound changes its rate from {source_rate} to {frame.sample_rate} Hz")
        mono = _mono(frame)
        if start is None:
            start = _frame_seconds(frame) or 0.0
        place = _frame_seconds(frame)
        missing = 0 if place is None else round((place - start) * source_rate) - written
        # the stream's own start is kept to the sample; later only true holes are, lest rounding makes clicks
        if written == 0 or abs(missing) > GAP_SECONDS * source_rate:
            heard.gaps += written > 0 and missing != 0
            mono = np.concatenate([np.zeros(max(missing, 0), np.float32), mono[max(-missing, 0) :]])
        written += len(mono)
        pieces.append(resampler.resample_chunk(mono))
    if resampler is None:
        raise DataError("the audio stream holds no sound that can be decoded")
    pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def _frames(container: InputContainer, heard: Heard) -> Iterator[AudioFrame]:
    stream = container.streams.audio[0]
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            heard.damaged_packets += 1


def _frame_seconds(frame: AudioFrame) -> float | None:
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T  # [channels, samples]
    scale, offset = 1.0, 0.0
    if samples.dtype == np.uint8:
        scale, offset = 128.0, 128.0
    elif samples.dtype.kind == "i":
        scale = float(2 ** (8 * samples.dtype.itemsize - 1))
    mono: NDArray[np.float32] = (samples.mean(axis=0, dtype=np.float64) - offset).astype(np.float32) / np.float32(scale)
    return mono
