"""Frame times of a video from its packets alone, with no picture decoded."""

import logging
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
from usvs.media.truncation import breaks_off

logger = logging.getLogger(__name__)

FALLBACK_RATE_HZ = 25.0
LEAST_SHARE = 0.95  # of the time that an mp4 states; with less of it a table in its header is damaged
LookInto: TypeAlias = "Callable[[Packet[VideoStream]], None] | None"  # given each packet in passing


@dataclass(frozen=True)
class Timing:
    """When each frame of a video is shown.

    Attributes:
        seconds: frame times on the scan clock, sorted, the first is 0 [n].
        start_seconds: what the container's own clock says at the first frame.
        rate_hz: mean frame rate.
        duration_seconds: from the first frame to the end of the last.
        keyframes: numbers of the frames that can be decoded on their own.
        note: how the times were rebuilt; None where the file's own were kept.
        stamped: whether a decoded frame's own timestamp is its time; else frames are counted.
    """

    seconds: NDArray[np.float64]
    start_seconds: float
    rate_hz: float
    duration_seconds: float
    keyframes: NDArray[np.int64]
    note: str | None
    stamped: bool = True

    @classmethod
    def of_frames(cls, seconds: NDArray[np.float64], note: str | None, start_seconds: float = 0.0) -> Self:
        """Return the timing of frames that can all be decoded on their own, shown at `seconds` [n]."""
        count, end = len(seconds), float(seconds[-1])
        step = end / (count - 1) if count > 1 else 1 / FALLBACK_RATE_HZ
        return cls(seconds, start_seconds, 1 / step, end + step, np.arange(count), note, stamped=False)


@dataclass(frozen=True)
class _Packet:
    shown: int | None
    decoded: int | None
    duration: int
    key: bool
    is_cut: bool  # it lies outside of the file's edit list


def read_timing(container: InputContainer, stream: VideoStream, look_into: LookInto = None) -> Timing:
    """Read every packet of a video stream and say when its frames are shown.

    Times that are missing or not distinct are rebuilt: from the decoding times where these are whole (AVI with
    B-frames), else from the frame rate.

    Args:
        container: the opened file, at its beginning.
        stream: of it.
        look_into: is given each packet in passing, the last one empty.

    Raises:
        DataError: for a stream without packets, and for one that breaks off.
    """
    everything = _packets(container, stream, look_into)
    packets = [packet for packet in everything if not packet.is_cut]
    if not packets:
        raise DataError("the video stream is empty: a header without pictures")
    base = float(stream.time_base or Fraction(1, 90_000))
    shown = [packet.shown for packet in packets if packet.shown is not None]
    decoded = [packet.decoded for packet in packets if packet.decoded is not None]
    note: str | None = None
    # AVI keeps one time for each frame in the order of decoding; FFmpeg hands it on as if it were that of showing
    reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    if reordered and _whole(decoded, len(packets)):
        shown, ticks = decoded, np.array(decoded, np.float64)
    elif _whole(shown, len(packets)):
        ticks = np.array(shown, np.float64)
    elif _whole(decoded, len(packets)):
        ticks = np.array(decoded, np.float64)
        note = "frame times taken from the decoding times"
    else:
        rate = stated_rate(stream)
        ticks = np.arange(len(packets)) / (rate * base)
        note = f"frame times rebuilt from the rate of {rate:.3f} frames a second"
    order = np.argsort(ticks, kind="stable")
    seconds = (ticks[order] - ticks[order[0]]) * base
    start = min(shown or decoded or [0]) * base
    keys = np.array([packet.key for packet in packets])[order]
    rate, last = _mean_rate(seconds, stream), packets[int(order[-1])].duration * base
    _check_stated(container, stream, everything)
    duration = float(seconds[-1]) + (last if 0 < last < 10 / rate else 1 / rate)
    return Timing(seconds, start, rate, duration, np.flatnonzero(keys), note, stamped=note is None and not reordered)


def _check_stated(container: InputContainer, stream: VideoStream, packets: list[_Packet]) -> None:
    shown = [(packet.shown, packet.shown + packet.duration) for packet in packets if packet.shown is not None]
    if not container.format.name.startswith("mov") or not stream.duration or stream.time_base is None or not shown:
        return
    ticks = max(end for _, end in shown) - min(0, min(begin for begin, _ in shown))
    stated, there = float(stream.duration * stream.time_base), float(ticks * stream.time_base)
    if there < LEAST_SHARE * stated:
        raise DataError(f"damaged: the header announces {stated:.1f} s of video, {there:.1f} s are there")


def stated_rate(stream: VideoStream) -> float:
    """Return the frame rate a stream's header states, 25 where it states none."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and rate > 0:
            return float(rate)
    return FALLBACK_RATE_HZ


def _packets(container: InputContainer, stream: VideoStream, look_into: LookInto) -> list[_Packet]:
    packets: list[_Packet] = []
    seen = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DataError(f"truncated or damaged: packet {seen + 1} of the video is not whole")
            if look_into is not None:
                look_into(packet)
            seen += packet.size > 0
            if packet.size > 0:  # an empty packet repeats the frame before it
                duration, is_cut = packet.duration or 0, packet.is_discard
                packets.append(_Packet(packet.pts, packet.dts, duration, packet.is_keyframe, is_cut))
    except (av.FFmpegError, OSError):
        raise DataError(f"truncated or damaged: the video breaks off after {seen} packets") from None
    # where nothing is new an AVI holds an empty chunk, which its header counts and FFmpeg leaves out
    if container.format.name == "avi" and seen < stream.frames and breaks_off(Path(container.name), "avi"):
        raise DataError(f"truncated: the header announces {stream.frames} frames, {seen} are there")
    return packets


def _whole(ticks: list[int], count: int) -> bool:
    return len(ticks) == count and len(set(ticks)) == count


def _mean_rate(seconds: NDArray[np.float64], stream: VideoStream) -> float:
    return (len(seconds) - 1) / float(seconds[-1]) if len(seconds) > 1 else stated_rate(stream)
