"""Video files as gray frames on the scan clock: t = 0 at the first frame's timestamp."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from usvs.archive.sound import read_sound
from usvs.archive.timing import Timing, read_timing
from usvs.errors import DataError

__all__ = ["Decoded", "VideoInfo", "iter_gray_frames", "open_video", "probe", "read_sound"]

# FFmpeg's own messages name files; what matters of them is in the exceptions
av.logging.set_level(None)

# ITU-R BT.601 and BT.709 limited range: luma 16 to 235
_EXPAND = np.clip(np.round((np.arange(256) - 16.0) * (255.0 / 219.0)), 0, 255).astype(np.uint8)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, from its header and its packets."""

    container: str
    video_codec: str
    width: int
    height: int
    timing: Timing
    audio_codec: str | None
    audio_rate_hz: int | None
    audio_channels: int | None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.timing.seconds)


@dataclass
class Decoded:
    """What came to light while frames were decoded."""

    frames: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    misplaced_frames: int = 0


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream for decoding on one thread.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty (0 bytes)")
        if path.suffix.lower() == ".gif" and not _has_trailer(path):
            raise DataError("truncated: the GIF has no end mark")
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"not readable as a video: {error.strerror or type(error).__name__}") from None
    with container:
        # a cover picture in a sound file is a video stream to FFmpeg
        streams = [stream for stream in container.streams.video if not _is_picture(stream)]
        if not streams:
            broken = not container.streams.audio
            raise DataError("no stream in the file: it is broken off" if broken else "no video stream in the file")
        stream = streams[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1  # the pool's processes are the parallel part
        if stream.codec_context.width <= 0 or stream.codec_context.height <= 0:
            raise DataError("the video stream states no picture size")
        yield container, stream


def probe(path: Path) -> VideoInfo:
    """Read a video's header and packets.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    with open_video(path) as (container, stream):
        codec = stream.codec_context
        sounds = container.streams.audio
        sound = sounds[0].codec_context if sounds else None
        return VideoInfo(
            container=container.format.name,
            video_codec=codec.name,
            width=codec.width,
            height=codec.height,
            timing=read_timing(container, stream),
            audio_codec=sound.name if sound else None,
            audio_rate_hz=sound.sample_rate if sound else None,
            audio_channels=sound.channels if sound else None,
        )


def iter_gray_frames(
    path: Path, info: VideoInfo | None = None, decoded: Decoded | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame in presentation order: seconds on the scan clock, full-range gray [H, W].

    Args:
        path: of the video.
        info: from `probe`, where the caller has it already.
        decoded: is kept up to date with what could not be decoded.

    Raises:
        DataError: where the file cannot be read or changes its picture size.
    """
    timing = (info or probe(path)).timing
    decoded = decoded if decoded is not None else Decoded()
    size: tuple[int, ...] | None = None
    before = -np.inf
    with open_video(path) as (container, stream):
        for frame in _frames(container, stream, decoded):
            seconds = _seconds(frame, timing, decoded.frames)
            gray = to_gray(frame)
            size = size or gray.shape
            if gray.shape != size:
                raise DataError(f"the picture size changes from {size} to {gray.shape} at frame {decoded.frames}")
            if seconds <= before:
                decoded.misplaced_frames += 1  # a decoder thrown out of step by damage gives a frame too late
                continue
            before = seconds
            decoded.frames += 1
            decoded.damaged_frames += frame.is_corrupt
            yield seconds, gray


def iter_keyframes(path: Path, info: VideoInfo, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of some keyframes [H, W], by seeking; one that cannot be decoded is left out.

    Args:
        path: of the video.
        info: from `probe`.
        numbers: of keyframes, rising.
    """
    with open_video(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        for number in numbers.tolist():
            seconds = info.timing.start_seconds + float(info.timing.seconds[number])
            try:
                container.seek(round(seconds / float(stream.time_base or 1)), stream=stream, backward=True)
                frame = next(container.decode(stream), None)
            except (av.FFmpegError, OSError):
                continue
            if frame is not None:
                yield to_gray(frame)


def to_gray(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return a frame's luma in full range [H, W]."""
    form = frame.format
    if form.name.startswith(("yuv", "nv", "gray")) and all(part.bits == 8 for part in form.components):
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        full = form.name.startswith(("yuvj", "gray")) or int(frame.color_range) == _FULL_RANGE
        return luma.copy() if full else cv2.LUT(luma, _EXPAND).astype(np.uint8, copy=False)
    return frame.to_ndarray(format="gray").astype(np.uint8, copy=False)


def _frames(container: InputContainer, stream: VideoStream, decoded: Decoded) -> Iterator[VideoFrame]:
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                decoded.damaged_packets += 1
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"breaks off after {decoded.frames} frames: {error.strerror or type(error).__name__}") from None


def _seconds(frame: VideoFrame, timing: Timing, number: int) -> float:
    if timing.note is None and frame.pts is not None and frame.time_base is not None:
        return float(frame.pts * frame.time_base) - timing.start_seconds
    if number < len(timing.seconds):
        return float(timing.seconds[number])
    return float(timing.seconds[-1]) + (number + 1 - len(timing.seconds)) / timing.rate_hz


def _has_trailer(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")  # some writers pad what follows the mark


def _is_picture(stream: VideoStream) -> bool:
    return bool(getattr(stream.disposition, "value", 0) & 0x0400)  # AV_DISPOSITION_ATTACHED_PIC
