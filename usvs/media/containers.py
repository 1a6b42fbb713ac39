"""Video containers through FFmpeg: their frames as gray pictures on the scan clock."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.grayscale import shown_size, to_shown
from usvs.media.open_media import open_media
from usvs.media.sector import Box
from usvs.media.timing import Timing, read_timing
from usvs.media.truncation import breaks_off
from usvs.media.video_info import Decoded, VideoInfo

logger = logging.getLogger(__name__)

# FFmpeg's names of formats and the endings that files of each have; others are not judged
_ENDINGS = {
    "mov": {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".f4v"},
    "avi": {".avi"},
    "matroska": {".mkv", ".webm"},
    "gif": {".gif"},
    "asf": {".wmv", ".asf"},
    "mpegts": {".ts", ".mts", ".m2ts"},
    "mpeg": {".mpg", ".mpeg", ".mpe", ".vob", ".m1v", ".m2v"},
}
_TURNED = ("mov", "matroska")  # containers that can say that a picture is to be turned


class _FirstPicture:
    """The first frame that can be decoded: by how much it is to be turned, only a frame tells."""

    def __init__(self) -> None:
        self._degrees: int | None = None
        self._is_mirrored = False

    def look_into(self, packet: "Packet[VideoStream]") -> None:
        """Decode packets until a frame comes."""
        if self._degrees is None:
            with suppress(av.error.InvalidDataError):
                for frame in packet.decode()[:1]:
                    self._degrees, self._is_mirrored = int(frame.rotation), _is_mirrored(frame)

    def rotation(self) -> tuple[int, str | None]:
        """Return the turn in whole quarters, and what is left out of it."""
        degrees = self._degrees or 0
        if self._is_mirrored:
            return 0, "the file asks for a mirrored picture, which is left out"
        turned = round(degrees / 90) * 90
        note = None if turned == degrees else f"the file asks for a turn by {degrees} degrees, which is left out"
        return (turned % 360, None) if note is None else (0, note)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream for decoding on one thread.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    with open_media(path) as container:
        streams = _moving(container)
        if not streams:
            broken = not container.streams.audio
            raise DataError("no stream in the file: it is broken off" if broken else "no video stream in the file")
        stream = streams[0]
        if stream.codec_context is None:
            raise DataError("the video's codec is not known, or damage has made it so")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1  # the pool's processes are the parallel part
        if stream.codec_context.width <= 0 or stream.codec_context.height <= 0:
            raise DataError("the video stream states no picture size")
        yield container, stream


def probe_container(path: Path) -> VideoInfo:
    """Read a video's header and packets.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    with open_video(path) as (container, stream):
        codec, name = stream.codec_context, container.format.name
        if name != "avi" and breaks_off(path, name):  # an AVI may end without its index and lack no frame
            raise DataError("truncated: the file ends before its own lengths say")
        sounds = container.streams.audio
        sound = sounds[0].codec_context if sounds else None
        aspect = float(stream.sample_aspect_ratio or codec.sample_aspect_ratio or 1) or 1.0
        first = _FirstPicture()
        timing = read_timing(container, stream, first.look_into if name.startswith(_TURNED) else None)
        rotation, rotation_note = first.rotation()
        notes = (rotation_note, _name_note(path, name), _streams_note(container))
        width, height = shown_size(codec.width, codec.height, rotation, aspect)
        return VideoInfo(
            container=name,
            video_codec=codec.name,
            width=width,
            height=height,
            timing=timing,
            audio_codec=sound.name if sound else None,
            audio_rate_hz=sound.sample_rate if sound else None,
            audio_channels=sound.channels if sound else None,
            rotation_degrees=rotation,
            pixel_aspect=aspect,
            file_note="; ".join(note for note in notes if note) or None,
        )


def iter_container_frames(
    path: Path, info: VideoInfo, decoded: Decoded, box: Box | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame in presentation order: seconds on the scan clock, full-range gray [H, W], or a box of it.

    Raises:
        DataError: where the file cannot be read or changes its picture size.
    """
    size: tuple[int, int] | None = None
    before = -np.inf
    with open_video(path) as (container, stream):
        for frame in _frames(container, stream, decoded):
            seconds = _seconds(frame, info.timing, decoded.frames)
            stored = (frame.height, frame.width)
            size = size or stored
            if stored != size:
                raise DataError(f"the picture size changes from {size} to {stored} at frame {decoded.frames}")
            if seconds <= before:
                decoded.misplaced_frames += 1  # a decoder thrown out of step by damage gives a frame too late
                continue
            before = seconds
            decoded.frames += 1
            decoded.damaged_frames += frame.is_corrupt
            yield seconds, to_shown(frame, info.rotation_degrees, info.pixel_aspect, box)


def iter_container_keyframes(path: Path, info: VideoInfo, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of some keyframes [H, W], by seeking; one that cannot be decoded is left out."""
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
                yield to_shown(frame, info.rotation_degrees, info.pixel_aspect)


def with_times(info: VideoInfo, seconds: NDArray[np.float64]) -> VideoInfo:
    """Return `info` with frame times from elsewhere than the container."""
    timing = Timing.of_frames(seconds, None, info.timing.start_seconds)
    return replace(info, timing=replace(timing, keyframes=info.timing.keyframes))


def _name_note(path: Path, format_name: str) -> str | None:
    kinds = [kind for kind in _ENDINGS if format_name.startswith(kind)]
    if not kinds or path.suffix.lower() in _ENDINGS[kinds[0]]:
        return None
    return f"the name ends in {path.suffix.lower() or 'nothing'}, the file is {kinds[0]}; read as what it is"


def _streams_note(container: InputContainer) -> str | None:
    sizes = [f"{stream.width} x {stream.height}" for stream in _moving(container)]
    return f"of {len(sizes)} videos in the file ({', '.join(sizes)}) the first is used" if len(sizes) > 1 else None


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
    if timing.stamped and frame.pts is not None and (base := frame.time_base) is not None:
        return frame.pts * base.numerator / base.denominator - timing.start_seconds
    if number < len(timing.seconds):
        return float(timing.seconds[number])
    return float(timing.seconds[-1]) + (number + 1 - len(timing.seconds)) / timing.rate_hz


def _moving(container: InputContainer) -> list[VideoStream]:
    # a cover picture in a sound file is a video stream to FFmpeg
    return [stream for stream in container.streams.video if not _is_picture(stream)]


def _is_mirrored(frame: VideoFrame) -> bool:
    content: Any = frame.side_data.get("DISPLAYMATRIX")
    if content is None:
        return False
    across, down = np.frombuffer(content, np.int32).reshape(3, 3)[:2, :2].astype(np.float64)
    return bool(across[0] * down[1] < across[1] * down[0])  # FFmpeg's angle tells nothing of a mirror


def _is_picture(stream: VideoStream) -> bool:
    return bool(getattr(stream.disposition, "value", 0) & 0x0400)  # AV_DISPOSITION_ATTACHED_PIC
