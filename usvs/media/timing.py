"""Frame times of a video, read from its packets without decoding an image."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.errors import DataError
from usvs.media.truncation import is_truncated

FALLBACK_RATE_HZ = 25.0  # where a file states no frame rate
MIN_PRESENT_FRACTION = 0.95  # of the duration that an mp4 states; with less, a table in its header is damaged
InspectPacket: TypeAlias = "Callable[[Packet[VideoStream]], None] | None"


@dataclass(frozen=True)
class Timing:
    """When each frame of a video is shown, on the scan clock: t = 0 is the first frame.

    Attributes:
        seconds: frame times, sorted; the first is 0 [n].
        start_seconds: time of the first frame on the container's own clock.
        rate_hz: mean frame rate.
        duration_seconds: from the first frame to the end of the last.
        keyframes: indices of the frames that can be decoded on their own [k].
        note: how the times were rebuilt; None if the file's own were used.
        has_timestamps: whether the timestamp of a decoded frame is its time; otherwise frames are counted.
    """

    seconds: NDArray[np.float64]
    start_seconds: float
    rate_hz: float
    duration_seconds: float
    keyframes: NDArray[np.int64]
    note: str | None
    has_timestamps: bool = True

    @classmethod
    def from_seconds(cls, seconds: NDArray[np.float64], note: str | None, start_seconds: float = 0.0) -> Self:
        """Return the timing of frames shown at `seconds` [n], each of which can be decoded on its own."""
        count, end = len(seconds), float(seconds[-1])
        step = end / (count - 1) if count > 1 else 1 / FALLBACK_RATE_HZ
        return cls(seconds, start_seconds, 1 / step, end + step, np.arange(count), note, has_timestamps=False)


@dataclass(frozen=True)
class _PacketTimes:
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_discarded: bool  # outside of the file's edit list


def read_timing(container: InputContainer, stream: VideoStream, inspect_packet: InspectPacket = None) -> Timing:
    """Read every packet of a video stream and return when its frames are shown.

    Times that are missing or not distinct are rebuilt: from the decoding times if these are complete (AVI with
    B-frames), otherwise from the frame rate.

    Args:
        container: the opened file, at its beginning.
        stream: video stream of the container.
        inspect_packet: called with each packet, the last one empty.

    Raises:
        DataError: for a stream without packets, and for a truncated or damaged one.
    """
    all_packets = _read_packets(container, stream, inspect_packet)
    packets = [packet for packet in all_packets if not packet.is_discarded]
    if not packets:
        raise DataError("the video stream is empty: expected frames after its header, got none")
    time_base = float(stream.time_base or Fraction(1, 90_000))
    # AVI stores one time per frame, in decoding order; FFmpeg reports it as if it were the presentation time.
    is_reordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    ticks, first_tick, note = _choose_ticks(packets, stream, time_base, is_reordered)
    order = np.argsort(ticks, kind="stable")
    seconds = (ticks[order] - ticks[order[0]]) * time_base
    is_keyframe = np.array([packet.is_keyframe for packet in packets])[order]
    rate_hz, last_seconds = _mean_rate(seconds, stream), packets[int(order[-1])].duration * time_base
    _check_stated_duration(container, stream, all_packets)
    return Timing(
        seconds=seconds,
        start_seconds=first_tick * time_base,
        rate_hz=rate_hz,
        duration_seconds=float(seconds[-1]) + (last_seconds if 0 < last_seconds < 10 / rate_hz else 1 / rate_hz),
        keyframes=np.flatnonzero(is_keyframe),
        note=note,
        has_timestamps=note is None and not is_reordered,
    )


def _choose_ticks(
    packets: list[_PacketTimes], stream: VideoStream, time_base: float, is_reordered: bool
) -> tuple[NDArray[np.float64], int, str | None]:
    """Return the time of each packet's frame in ticks [n], the first tick of the stream, and how they were rebuilt."""
    pts = [packet.pts for packet in packets if packet.pts is not None]
    dts = [packet.dts for packet in packets if packet.dts is not None]
    if is_reordered and _is_complete(dts, len(packets)):
        return np.array(dts, np.float64), min(dts), None
    first_tick = min(pts or dts or [0])
    if _is_complete(pts, len(packets)):
        return np.array(pts, np.float64), first_tick, None
    if _is_complete(dts, len(packets)):
        return np.array(dts, np.float64), first_tick, "frame times taken from the decoding times"
    rate_hz = read_stated_rate(stream)
    ticks = np.arange(len(packets)) / (rate_hz * time_base)
    return ticks, first_tick, f"frame times rebuilt from the stated rate of {rate_hz:.3f} frames per second"


def read_stated_rate(stream: VideoStream) -> float:
    """Return the frame rate that a stream's header states, in Hz; 25 if it states none."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and rate > 0:
            return float(rate)
    return FALLBACK_RATE_HZ


def _read_packets(container: InputContainer, stream: VideoStream, inspect_packet: InspectPacket) -> list[_PacketTimes]:
    packets: list[_PacketTimes] = []
    count = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DataError(f"truncated or damaged: packet {count + 1} of the video is incomplete")
            if inspect_packet is not None:
                inspect_packet(packet)
            count += packet.size > 0
            if packet.size > 0:  # an empty packet repeats the frame before it
                duration, is_discarded = packet.duration or 0, packet.is_discard
                packets.append(_PacketTimes(packet.pts, packet.dts, duration, packet.is_keyframe, is_discarded))
    except (av.FFmpegError, OSError):
        raise DataError(f"truncated or damaged: the video ends after {count} packets") from None
    # Where a frame repeats the one before, an AVI holds an empty chunk: its header counts it, FFmpeg leaves it out.
    if container.format.name == "avi" and count < stream.frames and is_truncated(Path(container.name), "avi"):
        raise DataError(f"truncated: expected {stream.frames} frames as stated in the header, got {count}")
    return packets


def _check_stated_duration(container: InputContainer, stream: VideoStream, packets: list[_PacketTimes]) -> None:
    spans = [(packet.pts, packet.pts + packet.duration) for packet in packets if packet.pts is not None]
    if not container.format.name.startswith("mov") or not stream.duration or stream.time_base is None or not spans:
        return
    ticks = max(end for _, end in spans) - min(0, min(begin for begin, _ in spans))
    stated_seconds, got_seconds = float(stream.duration * stream.time_base), float(ticks * stream.time_base)
    if got_seconds < MIN_PRESENT_FRACTION * stated_seconds:
        raise DataError(
            f"damaged: expected {stated_seconds:.1f} s of video as stated in the header, got {got_seconds:.1f} s"
        )


def _is_complete(ticks: list[int], count: int) -> bool:
    return len(ticks) == count and len(set(ticks)) == count


def _mean_rate(seconds: NDArray[np.float64], stream: VideoStream) -> float:
    return (len(seconds) - 1) / float(seconds[-1]) if len(seconds) > 1 else read_stated_rate(stream)
