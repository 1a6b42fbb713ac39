"""Packets of a stream on one clock: the rule that places picture and sound alike.

A stream's decoding times never decrease. Where they do, the clock restarts (two recordings in one file, as of DVD
recorders): from there on the timestamps of picture and sound get the same offset, so that the second part follows the
first. A single impossible timestamp is replaced by the end of the packet before.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from av.container import InputContainer
from av.packet import Packet

from usvs.errors import DataError
from usvs.media.open_media import list_audio_streams, list_video_streams, open_media

RESTART_SECONDS = 0.5  # decoding times that decrease by more are those of another clock
MAX_HOLE_SECONDS = 3600.0  # so are those that increase by more
LOOKAHEAD_PACKETS = 8  # decide whether a clock restarts or one timestamp is wrong
MAX_DELAY_SECONDS = 10.0  # from decoding to presentation, beyond any codec
AnyPacket: TypeAlias = "Packet[Any]"
PacketKind: TypeAlias = Literal["usual", "restart", "early", "replaced"]


class TimeBase(NamedTuple):
    """Seconds per tick of a stream's timestamps, as a fraction.

    The same values as of `fractions.Fraction`, correctly rounded, in a fraction of its time: every packet of an archive
    needs several.
    """

    numerator: int
    denominator: int

    @classmethod
    def of(cls, stream: Any) -> "TimeBase":
        """Return that of a stream; 1 / 90,000 s where it has none."""
        return cls(*(stream.time_base or Fraction(1, 90_000)).as_integer_ratio())

    def seconds(self, ticks: int) -> float:
        """Return the time of a number of ticks."""
        return ticks * self.numerator / self.denominator

    def ticks(self, seconds: float) -> int:
        """Return the number of ticks nearest to a time."""
        return round(seconds / (self.numerator / self.denominator))


@dataclass
class _Segment:
    """Span of a stream's timestamps between two restarts, in seconds."""

    begin: float
    end: float

    def include(self, spans: "list[_Segment]") -> "list[_Segment]":
        """Extend this one to the spans; return a list of those that are left, none."""
        self.begin = min([self.begin, *(span.begin for span in spans)])
        self.end = max([self.end, *(span.end for span in spans)])
        return []


@dataclass
class PacketReader:
    """Iterates over the packets of a stream with timestamps on one clock; see the module's docstring.

    Attributes:
        path: the file.
        container: the file, opened.
        stream: stream of the container.
        restarts: times on the one clock at which the file's clock restarts, so far.
        replaced: number of impossible timestamps, so far.
    """

    path: Path
    container: InputContainer
    stream: Any
    restarts: list[float] = field(default_factory=list)
    replaced: int = 0

    def __iter__(self) -> Iterator[AnyPacket]:
        """Yield packets in the order of the file, the last one empty.

        Raises:
            DataError: if the clock restarts in the picture and not in the sound, or the other way round.
        """
        offset, offsets = 0.0, None
        time_base = TimeBase.of(self.stream)
        for packet, kind in _iter_segments(self.container.demux(self.stream), time_base):
            self.replaced += kind == "replaced"
            shown_offset = offset
            if kind in ("restart", "early"):
                offsets = offsets or _read_offsets(self.path)
                if len(self.restarts) < len(offsets):
                    shown_offset, restart = offsets[len(self.restarts)]
                    if kind == "restart":
                        offset = shown_offset
                        self.restarts.append(restart)
            if packet.pts is not None and shown_offset:
                packet.pts += time_base.ticks(shown_offset)
            if packet.dts is not None and offset:
                packet.dts += time_base.ticks(offset)
            yield packet


def _iter_segments(packets: Iterator[AnyPacket], time_base: TimeBase) -> Iterator[tuple[AnyPacket, PacketKind]]:
    """Yield packets and what they are.

    ``restart``: the first one of another clock. ``early``: decoded before the clock jumps ahead and shown after it, as
    an encoder with pictures in another order than they are shown writes them (a computer that slept while it recorded).
    ``replaced``: its timestamp was impossible.
    """
    last: float | None = None
    delay = 0
    ahead: deque[AnyPacket] = deque()
    while True:
        packet = ahead.popleft() if ahead else next(packets, None)
        if packet is None:
            return
        if last is not None and (usual := _usual_times(packet, time_base, last)) is not None:  # for its speed
            last, delay = usual
            yield packet, "usual"
            continue
        seconds, is_restart, is_replaced = _decoding_seconds(packet, time_base), False, False
        if seconds is None:
            yield packet, "usual"
            continue
        if last is not None and _is_jump(seconds - last):
            ahead.extend(islice(packets, max(0, LOOKAHEAD_PACKETS - len(ahead))))
            following = [_decoding_seconds(one, time_base) for one in ahead]
            known = [one for one in following if one is not None]
            is_restart = sum(_is_jump(one - last) for one in known) * 2 > len(known)
            if not is_restart:
                is_replaced = True
                seconds = last + time_base.seconds(packet.duration or 0)
                ticks = time_base.ticks(seconds)
                packet.dts, packet.pts = ticks, ticks + delay
        distance = _presentation_distance(packet, time_base)
        if distance > 0:  # after a long hole the next pictures are as far ahead
            ahead.extend(islice(packets, max(0, 2 * LOOKAHEAD_PACKETS - len(ahead))))
        if distance < 0 or (distance > 0 and _is_alone(packet, ahead, time_base)):
            packet.pts, is_replaced = time_base.ticks(seconds) + delay, True
        if packet.pts is not None and packet.dts is not None:
            delay = packet.pts - packet.dts
        last = seconds
        is_early = distance > MAX_HOLE_SECONDS and not is_replaced
        yield packet, "restart" if is_restart else "replaced" if is_replaced else "early" if is_early else "usual"


def _usual_times(packet: AnyPacket, time_base: TimeBase, last: float) -> tuple[float, int] | None:
    """Return a packet's decoding time and its delay in ticks, if it follows `last` and is shown soon; else None."""
    dts, pts = packet.dts, packet.pts
    if dts is None or pts is None:
        return None
    numerator, denominator = time_base
    seconds = dts * numerator / denominator
    is_soon = abs((pts - dts) * numerator / denominator) <= MAX_DELAY_SECONDS
    return (seconds, pts - dts) if is_soon and -RESTART_SECONDS <= seconds - last <= MAX_HOLE_SECONDS else None


def _presentation_distance(packet: AnyPacket, time_base: TimeBase) -> float:
    """Return by how many seconds a presentation time is before or after the decoding time; 0 if codecs may need it."""
    if packet.pts is None or packet.dts is None:
        return 0.0
    seconds = time_base.seconds(packet.pts - packet.dts)
    if abs(seconds) <= MAX_DELAY_SECONDS:
        return 0.0
    limit = max(MAX_DELAY_SECONDS, 20 * (_duration_seconds(packet, time_base) or 0.0))
    return seconds if abs(seconds) > limit else 0.0


def _duration_seconds(packet: AnyPacket, time_base: TimeBase) -> float | None:
    """Return a packet's duration; None for that of an MP4's last packet before its clock jumps ahead: the jump."""
    seconds = time_base.seconds(packet.duration or 0)
    return None if seconds > MAX_HOLE_SECONDS else seconds


def _is_alone(packet: AnyPacket, ahead: deque[AnyPacket], time_base: TimeBase) -> bool:
    """Return whether all packets that follow are shown long before a packet."""
    shown = packet.pts or 0
    known = [time_base.seconds(shown - one.pts) for one in ahead if one.pts is not None]
    return len(known) >= LOOKAHEAD_PACKETS and min(known) > MAX_DELAY_SECONDS


def _is_jump(seconds: float) -> bool:
    return seconds < -RESTART_SECONDS or seconds > MAX_HOLE_SECONDS


def _decoding_seconds(packet: AnyPacket, time_base: TimeBase) -> float | None:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else time_base.seconds(ticks)


def _read_offsets(path: Path) -> list[tuple[float, float]]:
    """Return for each restart what is added to the timestamps, and its time on the one clock; of both streams."""
    with open_media(path) as container:
        video, audio = list_video_streams(container)[:1], list_audio_streams(container)[:1]
        kinds = ["video"] * len(video) + ["audio"] * len(audio)
        segments = [_read_segments(path, stream.index) for stream in (*video, *audio)]
    if len({len(spans) for spans in segments}) > 1:
        counts = ", ".join(f"{len(spans) - 1} of {kind}" for kind, spans in zip(kinds, segments, strict=True))
        longest = max(segments, key=len)
        raise DataError(
            f"the clock restarts at {longest[0].end:.1f} s: expected the same in video and audio, got {counts}"
        )
    offset, offsets = 0.0, []
    for before, after in zip(zip(*segments, strict=True), list(zip(*segments, strict=True))[1:], strict=False):
        restart = offset + max(span.end for span in before)
        offset = restart - min(span.begin for span in after)
        offsets.append((offset, restart))
    return offsets


def _read_segments(path: Path, index: int) -> list[_Segment]:
    segments: list[_Segment] = []
    early: list[_Segment] = []  # of the segment that follows
    duration = 0.0
    with open_media(path) as container:
        stream = container.streams[index]
        time_base = TimeBase.of(stream)
        for packet, kind in _iter_segments(container.demux(stream), time_base):
            ticks = packet.pts if packet.pts is not None else packet.dts
            if ticks is None or packet.is_discard:
                continue
            known = _duration_seconds(packet, time_base)
            duration = duration if known is None else known
            span = _Segment(time_base.seconds(ticks), time_base.seconds(ticks) + duration)
            if kind == "early":
                early.append(span)
                continue
            if kind == "restart" or not segments:
                segments.append(span)
                early = segments[-1].include(early)
            segments[-1].include([span])
    return segments
