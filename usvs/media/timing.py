"""Frame times of a video, read from its packets without decoding an image."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.errors import DataError
from usvs.media.clock import PacketReader
from usvs.media.truncation import is_truncated

FALLBACK_RATE_HZ = 25.0  # where a file states no frame rate
MIN_PRESENT_FRACTION = 0.95  # of the duration that an mp4 states; with less, a table in its header is damaged
MAX_REBUILT_ERROR_SECONDS = 0.2  # of times by the frame rate against the file's own
MAX_DAMAGED_FRACTION = 0.05  # of the packets; a file with more is skipped
PARTIAL_FORMATS = ("mpegts",)  # a last packet that is incomplete is a loss in transport, not the end of the file


class PacketInspector(Protocol):
    """Sees each packet of the video, and then knows the time of the first frame that can be decoded."""

    pts: int | None

    def inspect_packet(self, packet: "Packet[VideoStream]") -> None:
        """Inspect a packet; the last one is empty."""
        ...


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


def read_timing(path: Path, container: InputContainer, stream: VideoStream, first_frame: PacketInspector) -> Timing:
    """Read every packet of a video stream and return when its frames are shown.

    Frames that are never shown, because they precede the first that can be decoded (a recording that begins inside a
    group of pictures), are left out. Times that are missing or not distinct are rebuilt: from the decoding times if
    these are complete (AVI with B-frames), otherwise from the frame rate.

    Args:
        path: the file.
        container: the opened file, at its beginning.
        stream: video stream of the container.
        first_frame: called with each packet.

    Raises:
        DataError: for a stream without packets, a truncated or damaged one, and for timestamps that cannot be
            presentation times while there is sound that depends on them.
    """
    reader = PacketReader(path, container, stream)
    all_packets, damage_note = _read_packets(reader, first_frame)
    packets = [packet for packet in all_packets if not packet.is_discarded]
    if not packets:
        raise DataError("the video stream is empty: expected frames after its header, got none")
    time_base = float(stream.time_base or Fraction(1, 90_000))
    # AVI stores one time per frame, in decoding order; FFmpeg reports it as if it were the presentation time.
    is_reordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    if first_frame.pts is not None and not is_reordered:
        shown = [packet for packet in packets if packet.pts is None or packet.pts >= first_frame.pts]
        packets = shown or packets
    packets, ticks, first_tick, note = _choose_ticks(packets, stream, time_base, is_reordered)
    order = np.argsort(ticks, kind="stable")
    seconds = (ticks[order] - ticks[order[0]]) * time_base
    is_keyframe = np.array([packet.is_keyframe for packet in packets])[order]
    rate_hz, last_seconds = _mean_rate(seconds, stream), packets[int(order[-1])].duration * time_base
    _check_stated_duration(container, stream, all_packets)
    if note is not None and container.streams.audio:
        _check_rebuilt(packets, float(seconds[-1]), time_base)
    restarts = ", ".join(f"{restart - first_tick * time_base:.1f} s" for restart in reader.restarts)
    notes = (
        note,
        damage_note,
        restarts and f"the clock restarts at {restarts}: picture and sound are continued there",
        reader.replaced and f"{reader.replaced} timestamps of the video are impossible: replaced",
    )
    return Timing(
        seconds=seconds,
        start_seconds=first_tick * time_base,
        rate_hz=rate_hz,
        duration_seconds=float(seconds[-1]) + (last_seconds if 0 < last_seconds < 10 / rate_hz else 1 / rate_hz),
        keyframes=np.flatnonzero(is_keyframe & (not restarts)),  # where clocks restart, a time is not a position
        note="; ".join(part for part in notes if part) or None,
        has_timestamps=note is None and not is_reordered,
    )


def is_repeat(packet: "Packet[VideoStream]", stream: VideoStream) -> bool:
    """Return whether an empty packet says that the frame before is shown again, as in Theora and VP8."""
    return packet.size == 0 and packet.pts is not None and not stream.codec_context.has_b_frames


def _choose_ticks(
    packets: list[_PacketTimes], stream: VideoStream, time_base: float, is_reordered: bool
) -> tuple[list[_PacketTimes], NDArray[np.float64], int, str | None]:
    """Return the packets of shown frames [n], their times in ticks [n], the first tick, and how they were rebuilt."""
    pts = [packet.pts for packet in packets if packet.pts is not None]
    dts = [packet.dts for packet in packets if packet.dts is not None]
    if is_reordered and _is_complete(dts, len(packets)):
        return packets, np.array(dts, np.float64), min(dts), None
    first_tick = min(pts or dts or [0])
    if _is_complete(pts, len(packets)):
        return packets, np.array(pts, np.float64), first_tick, None
    if len(set(pts)) >= (1 - MAX_DAMAGED_FRACTION) * len(packets) and not is_reordered:
        # a few that are missing or have the time of another frame; the decoder's frames are treated likewise
        packet_at = {packet.pts: packet for packet in reversed(packets) if packet.pts is not None}
        ticks = sorted(packet_at)
        return [packet_at[tick] for tick in ticks], np.array(ticks, np.float64), first_tick, None
    if _is_complete(dts, len(packets)):
        return packets, np.array(dts, np.float64), first_tick, "frame times taken from the decoding times"
    rate_hz = read_stated_rate(stream)
    rebuilt = np.arange(len(packets)) / (rate_hz * time_base)
    return packets, rebuilt, first_tick, f"frame times rebuilt from the stated rate of {rate_hz:.3f} frames per second"


def _check_rebuilt(packets: list[_PacketTimes], seconds: float, time_base: float) -> None:
    """Refuse rebuilt times that disagree with the timestamps: the sound keeps the file's clock."""
    known = [packet.pts for packet in packets if packet.pts is not None]
    if 2 * len(known) < len(packets):
        return
    span_seconds = (max(known) - min(known)) * time_base
    if abs(span_seconds - seconds) > max(MAX_REBUILT_ERROR_SECONDS, 2 * seconds / len(packets)):
        raise DataError(
            f"the video's timestamps cannot be presentation times: expected {len(packets)} different ones, got "
            f"{len(set(known))} over {span_seconds:.1f} s, where the frame rate gives {seconds:.1f} s: "
            "the sound cannot be placed"
        )


def read_stated_rate(stream: VideoStream) -> float:
    """Return the frame rate that a stream's header states, in Hz; 25 if it states none."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and rate > 0:
            return float(rate)
    return FALLBACK_RATE_HZ


def _read_packets(reader: PacketReader, first_frame: PacketInspector) -> tuple[list[_PacketTimes], str | None]:
    """Return the times of all packets, and a note on those that are incomplete."""
    container, stream = reader.container, reader.stream
    packets: list[_PacketTimes] = []
    count = incomplete = last_incomplete = 0
    try:
        for packet in reader:
            first_frame.inspect_packet(packet)
            count += packet.size > 0
            if packet.is_corrupt:
                incomplete, last_incomplete = incomplete + 1, count
            if packet.size > 0 or is_repeat(packet, stream):
                duration, is_key = packet.duration or 0, packet.is_keyframe and packet.size > 0
                packets.append(_PacketTimes(packet.pts, packet.dts, duration, is_key, packet.is_discard))
    except (av.FFmpegError, OSError):
        raise DataError(f"truncated or damaged: the video ends after {count} packets") from None
    if incomplete and last_incomplete == count and container.format.name not in PARTIAL_FORMATS:
        raise DataError(f"truncated or damaged: packet {count} of the video is incomplete")
    if incomplete > MAX_DAMAGED_FRACTION * count:
        limit = f"{MAX_DAMAGED_FRACTION:.0%}"
        raise DataError(f"damaged: expected at most {limit} incomplete video packets, got {incomplete} of {count}")
    # Where a frame repeats the one before, an AVI holds an empty chunk: its header counts it, FFmpeg leaves it out.
    if container.format.name == "avi" and count < stream.frames and is_truncated(reader.path, "avi"):
        raise DataError(f"truncated: expected {stream.frames} frames as stated in the header, got {count}")
    return packets, f"{incomplete} of {count} video packets are incomplete" if incomplete else None


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
