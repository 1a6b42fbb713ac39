"""Video containers read with FFmpeg: frames as gray images on the scan clock."""

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
from usvs.media.box import Box
from usvs.media.clock import PacketReader
from usvs.media.grayscale import compute_display_size, to_display_gray
from usvs.media.limits import MAX_FRAME_PIXELS, check_frame_size
from usvs.media.open_media import list_audio_streams, list_video_streams, open_media
from usvs.media.timing import Timing, is_repeat, read_timing
from usvs.media.truncation import is_truncated
from usvs.media.video_info import VideoDecodeStats, VideoInfo

# FFmpeg's format names and the suffixes of their files; the suffix of other formats is not checked
_SUFFIXES = {
    "mov": {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".f4v"},
    "avi": {".avi"},
    "matroska": {".mkv", ".webm"},
    "gif": {".gif"},
    "asf": {".wmv", ".asf"},
    "mpegts": {".ts", ".mts", ".m2ts"},
    "mpeg": {".mpg", ".mpeg", ".mpe", ".vob", ".m1v", ".m2v"},
}
ROUNDING_SECONDS = 1e-9  # of the first frame's time: half a ulp before 0 is 0
_FORMATS_WITH_ROTATION = ("mov", "matroska")


class _FirstFrame:
    """Decodes packets until one gives a frame: its time and its rotation are not in the packets."""

    def __init__(self) -> None:
        self.pts: int | None = None
        self._degrees: int | None = None
        self._is_mirrored = False

    def inspect_packet(self, packet: "Packet[VideoStream]") -> None:
        """Decode packets until one gives a frame."""
        if self._degrees is None:
            with suppress(av.FFmpegError):
                for frame in packet.decode()[:1]:
                    self.pts = frame.pts
                    self._degrees, self._is_mirrored = _read_orientation(frame)

    def rotation(self) -> tuple[int, str | None]:
        """Return the rotation as a multiple of 90 degrees, and a note on what of it is not applied."""
        degrees = self._degrees or 0
        if self._is_mirrored:
            return 0, "the file asks for a mirrored image: mirroring is not applied"
        rounded = round(degrees / 90) * 90
        if rounded != degrees:
            return 0, f"the file asks for a rotation by {degrees} degrees: only multiples of 90 are applied"
        return rounded % 360, None


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream for decoding on one thread.

    Raises:
        DataError: with what is wrong with the file, without its name.
    """
    with open_media(path) as container:
        streams = list_video_streams(container)
        if not streams:
            has_audio = bool(container.streams.audio)
            raise DataError("no video stream in the file" if has_audio else "no stream in the file: it is truncated")
        stream = streams[0]
        if stream.codec_context is None:
            raise DataError("the video's codec is not known, or the codec's name is damaged")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1  # work is distributed over processes, one file each
        if stream.codec_context.width <= 0 or stream.codec_context.height <= 0:
            raise DataError("the video stream states no frame size")
        stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MAX_FRAME_PIXELS)}
        yield container, stream


def read_container_info(path: Path) -> VideoInfo:
    """Read a video's header and packets.

    Raises:
        DataError: with what is wrong with the file, without its name.
    """
    with open_video(path) as (container, stream):
        codec, name = stream.codec_context, container.format.name
        if name != "avi" and is_truncated(path, name):  # an AVI may lack its index at the end but no frame
            raise DataError("truncated: the file is shorter than the lengths stored in it")
        audio_streams = list_audio_streams(container)
        audio = audio_streams[0].codec_context if audio_streams else None
        pixel_aspect = float(stream.sample_aspect_ratio or codec.sample_aspect_ratio or 1) or 1.0
        check_frame_size(codec.width, codec.height, pixel_aspect)
        first_frame = _FirstFrame()
        timing = read_timing(path, container, stream, first_frame)
        has_rotation = name.startswith(_FORMATS_WITH_ROTATION)
        rotation_degrees, rotation_note = first_frame.rotation() if has_rotation else (0, None)
        notes = (rotation_note, _suffix_note(path, name), _streams_note(container))
        width, height = compute_display_size(codec.width, codec.height, rotation_degrees, pixel_aspect)
        return VideoInfo(
            container=name,
            video_codec=codec.name,
            width=width,
            height=height,
            timing=timing,
            audio_codec=audio.name if audio else None,
            audio_rate_hz=audio.sample_rate if audio else None,
            audio_channels=audio.channels if audio else None,
            rotation_degrees=rotation_degrees,
            pixel_aspect=pixel_aspect,
            file_note="; ".join(note for note in notes if note) or None,
        )


def iter_container_frames(
    path: Path, info: VideoInfo, stats: VideoDecodeStats, box: Box | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame in presentation order: time in seconds, full-range gray image [H, W] or a box of it.

    Raises:
        DataError: if the file cannot be read or changes its frame size.
    """
    first_size: tuple[int, int] | None = None
    last_seconds = -np.inf
    with open_video(path) as (container, stream):
        for frame in _decode_frames(path, container, stream, stats):
            seconds = _frame_seconds(frame, info.timing, stats.frames)
            size = (frame.height, frame.width)
            first_size = first_size or size
            if size != first_size:
                raise DataError(f"the frame size changes at frame {stats.frames}: expected {first_size}, got {size}")
            if seconds <= last_seconds:
                stats.misplaced_frames += 1  # after damage, decoders return frames late
                continue
            last_seconds = seconds
            stats.frames += 1
            stats.damaged_frames += frame.is_corrupt
            yield seconds, to_display_gray(frame, info.rotation_degrees, info.pixel_aspect, box)


def iter_container_keyframes(path: Path, info: VideoInfo, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield some keyframes as gray images [H, W], by seeking; one that cannot be decoded is left out."""
    with open_video(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        for index in indices.tolist():
            seconds = info.timing.start_seconds + float(info.timing.seconds[index])
            try:
                container.seek(round(seconds / float(stream.time_base or 1)), stream=stream, backward=True)
                frame = next(container.decode(stream), None)
            except (av.FFmpegError, OSError):
                continue
            if frame is not None:
                yield to_display_gray(frame, info.rotation_degrees, info.pixel_aspect)


def replace_frame_times(info: VideoInfo, seconds: NDArray[np.float64]) -> VideoInfo:
    """Return `info` with frame times [n] from another source than the container; its keyframes are kept."""
    timing = Timing.from_seconds(seconds, None, info.timing.start_seconds)
    return replace(info, timing=replace(timing, keyframes=info.timing.keyframes))


def _suffix_note(path: Path, format_name: str) -> str | None:
    formats = [name for name in _SUFFIXES if format_name.startswith(name)]
    if not formats or path.suffix.lower() in _SUFFIXES[formats[0]]:
        return None
    suffix = f"the suffix is {path.suffix.lower()}" if path.suffix else "there is no suffix"
    return f"{suffix}, the file is {formats[0]}: read as {formats[0]}"


def _streams_note(container: InputContainer) -> str | None:
    contexts: list[Any] = [stream.codec_context for stream in list_video_streams(container)]
    sizes = ["of an unknown codec" if one is None else f"{one.width} x {one.height}" for one in contexts]
    chosen = "the first of a known codec" if None in contexts else "the first"
    audio: list[Any] = [stream.codec_context for stream in list_audio_streams(container)]
    notes = [f"{len(sizes)} video streams in the file ({', '.join(sizes)}): {chosen} is used"] if len(sizes) > 1 else []
    if audio and audio[0] is None:
        notes.append("the codec of the sound is not known, or its name is damaged: the sound is not used")
    elif None in audio:
        notes.append(f"{audio.count(None)} of {len(audio)} audio streams is of an unknown codec: another is used")
    return "; ".join(notes) or None


def _decode_frames(
    path: Path, container: InputContainer, stream: VideoStream, stats: VideoDecodeStats
) -> Iterator[VideoFrame]:
    shown: VideoFrame | None = None
    try:
        for packet in PacketReader(path, container, stream):
            if is_repeat(packet, stream):  # decoders refuse an empty packet that is not the end
                if shown is not None:
                    shown.pts = packet.pts
                    yield shown
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:  # what is lost is counted and judged by the caller; the rest is decoded
                stats.damaged_packets += 1
                continue
            for frame in frames:
                shown = frame
                yield frame
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"truncated or damaged: reading ends after {stats.frames} frames: {reason}") from None


def _frame_seconds(frame: VideoFrame, timing: Timing, index: int) -> float:
    if timing.has_timestamps and frame.pts is not None and (base := frame.time_base) is not None:
        seconds = frame.pts * base.numerator / base.denominator - timing.start_seconds
        return seconds if abs(seconds) > ROUNDING_SECONDS else 0.0
    if index < len(timing.seconds):
        return float(timing.seconds[index])
    return float(timing.seconds[-1]) + (index + 1 - len(timing.seconds)) / timing.rate_hz


def _read_orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return a frame's rotation in degrees, and whether it is mirrored; upright where that cannot be read."""
    try:
        return int(frame.rotation), _is_mirrored(frame)
    except Exception:  # optional metadata must not cost the scan
        return 0, False


def _is_mirrored(frame: VideoFrame) -> bool:
    content: Any = frame.side_data.get("DISPLAYMATRIX")
    if content is None:
        return False
    x_axis, y_axis = np.frombuffer(content, np.int32).reshape(3, 3)[:2, :2].astype(np.float64)
    return bool(x_axis[0] * y_axis[1] < x_axis[1] * y_axis[0])  # FFmpeg's rotation angle does not include a mirror
