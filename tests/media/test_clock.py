"""Clocks that restart, lose packets or drift: picture and sound are placed by one rule, flash by flash."""

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.test_sync import beeps, flash_seconds, onsets
from usvs.errors import DataError
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.media.audio_clock import apply_clock, fit_clock
from usvs.media.clock import TimeBase
from usvs.media.video import iter_gray_frames, read_video_info

RATE, SOUND_RATE, PICTURE_RATE = 24_000, 48_000, 25
TOLERANCE = 0.04  # of a lossy codec's first loud sample, and one frame of the video


def write_recording(
    path: Path,
    moments,
    seconds: float,
    codec="mpeg2video",
    sound_codec="mp2",
    form=None,
    start: float = 0.0,
    jump: tuple[float, int] = (math.inf, 0),
) -> bytes:
    """Write a recording that flashes and beeps at `moments`, its clock beginning at `start`; return its bytes.

    At the first number of seconds of `jump` the clock jumps ahead by the second.
    """

    def clock(moment: float) -> float:
        return start + (jump[1] if moment >= jump[0] else 0)

    with av.open(str(path), "w", format=form) as container:
        video = container.add_stream(codec, rate=PICTURE_RATE, options={"bf": "2", "g": "12"})
        video.width, video.height, video.pix_fmt, video.bit_rate = 64, 48, "yuv420p", 400_000
        audio = container.add_stream(sound_codec, rate=SOUND_RATE, layout="mono")
        form = "fltp" if sound_codec in ("ac3", "aac") else "s16"
        sound = beeps(np.array(moments), seconds, SOUND_RATE)
        packets = []
        for number in range(round(seconds * PICTURE_RATE)):
            lit = any(0 <= number / PICTURE_RATE - moment < 0.2 for moment in moments)
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 235 if lit else 30, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p", dst_color_range="MPEG")
            frame.pts = number + round(clock(number / PICTURE_RATE) * PICTURE_RATE)
            frame.time_base = Fraction(1, PICTURE_RATE)
            packets += video.encode(frame)
        packets += video.encode(None)
        size = audio.codec_context.frame_size or 1024
        for first in range(0, len(sound), size):
            part = np.pad(sound[first : first + size], (0, max(0, size - len(sound[first : first + size]))))
            samples = part.astype(np.float32) if form == "fltp" else np.round(part * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format=form, layout="mono")
            frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
            frame.pts = first + round(clock(first / SOUND_RATE) * SOUND_RATE)
            packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda one: float((one.dts or 0) * one.time_base)):
            container.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("ending", "form", "sound_codec", "starts"),
    [
        ("vob", "vob", "ac3", (0, 0)),
        pytest.param("mpg", "mpeg", "mp2", (0, 0), marks=pytest.mark.slow),
        pytest.param("ts", "mpegts", "mp2", (100, 0), marks=pytest.mark.slow),
        # a second clock that is ahead by hours
        pytest.param("ts", "mpegts", "aac", (0, 40_000), marks=pytest.mark.slow),
    ],
)
def test_a_clock_that_restarts_is_continued_for_both_streams(tmp_path: Path, ending, form, sound_codec, starts):
    one = write_recording(tmp_path / f"1.{ending}", [2, 5, 8], 10, form=form, sound_codec=sound_codec, start=starts[0])
    two = write_recording(tmp_path / f"2.{ending}", [3, 7, 11], 14, form=form, sound_codec=sound_codec, start=starts[1])
    path = tmp_path / f"both.{ending}"
    path.write_bytes(one + two)
    info = read_video_info(path)
    assert "the clock restarts at 10." in str(info.timing.note) and len(info.timing.keyframes) == 0
    assert info.timing.duration_seconds == pytest.approx(24, abs=0.2)
    found, shown = onsets(read_audio(path, None, RATE, info.timing.start_seconds), RATE), flash_seconds(path)
    np.testing.assert_allclose(shown, [2, 5, 8, 13, 17, 21], atol=0.1)
    np.testing.assert_allclose(found, shown, atol=TOLERANCE)
    assert abs(len(list(iter_gray_frames(path, info))) - info.frames) <= 1
    np.testing.assert_array_equal(read_audio(path, None, RATE), read_audio(path, None, RATE, info.timing.start_seconds))


@pytest.mark.parametrize("hours", [2, 11])
@pytest.mark.parametrize(
    ("ending", "sound_codec"), [("mkv", "aac"), ("ts", "mp2"), pytest.param("mp4", "aac", marks=pytest.mark.slow)]
)
def test_a_clock_that_jumps_ahead_within_an_encoder_is_continued(tmp_path: Path, ending, sound_codec, hours):
    """A computer that slept while it recorded: pictures of both clocks are mixed in decoding order."""
    path = tmp_path / f"a.{ending}"
    write_recording(path, [2, 5, 8], 10, "libx264", sound_codec, jump=(6.02, 3600 * hours))
    info = read_video_info(path)
    assert "the clock restarts at 6.0" in str(info.timing.note)
    assert info.timing.duration_seconds == pytest.approx(10, abs=0.1)
    found, shown = onsets(read_audio(path, None, RATE, info.timing.start_seconds), RATE), flash_seconds(path)
    np.testing.assert_allclose(shown, [2, 5, 8], atol=0.05)
    np.testing.assert_allclose(found, shown, atol=TOLERANCE)


def test_a_clock_that_restarts_in_one_stream_alone_is_an_error(tmp_path: Path):
    path = tmp_path / "a.ts"
    write_recording(path, [2], 6, form="mpegts", start=100)
    packets = [path.read_bytes()[at : at + 188] for at in range(0, path.stat().st_size, 188)]
    changed = []
    for number, packet in enumerate(packets):
        if number > len(packets) // 2 and packet[1] & 0x40 and (at := packet.find(b"\0\0\1\xe0")) > 0:  # a video PES
            content = bytearray(packet)
            for field in range(1 + (content[at + 7] >> 6 == 3)):
                content[at + 9 + 5 * field] &= 0xF1  # the upper bits of pts and dts
                content[at + 10 + 5 * field] = 0
            packet = bytes(content)
        changed.append(packet)
    path.write_bytes(b"".join(changed))
    with pytest.raises(
        DataError, match=r"clock restarts at .* s: expected the same in video and audio, got 1 of video"
    ):
        read_video_info(path)


def remux(source: Path, target: Path, change) -> None:
    """Copy packets; `change(packet)` returns False to leave one out."""
    with av.open(str(source)) as one, av.open(str(target), "w") as other:
        streams = {stream.index: other.add_stream_from_template(stream) for stream in one.streams}
        for packet in one.demux():
            if packet.dts is not None and change(packet) is not False:
                packet.stream = streams[packet.stream.index]
                other.mux(packet)


@pytest.mark.slow
@pytest.mark.parametrize("every", [30, 7, 2])
@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_single_lost_audio_packets_are_steps(tmp_path: Path, ending: str, every: int):
    moments = np.arange(2.0, 40.0, 2.0)
    write_recording(tmp_path / "whole.mkv", moments, 40, codec="libx264", sound_codec="aac")
    count = lost = 0

    def change(packet) -> bool:
        nonlocal count, lost
        if packet.stream.type != "audio":
            return True
        seconds, count = float(packet.pts * packet.time_base), count + 1
        is_lost = 10 < seconds < 25 and count % every == 0 and 0.3 < seconds % 2 < 1.8
        lost += is_lost
        return not is_lost

    path = tmp_path / f"a.{ending}"
    remux(tmp_path / "whole.mkv", path, change)
    stats = AudioDecodeStats()
    found = onsets(read_audio(path, None, RATE, None, stats), RATE)
    np.testing.assert_allclose(found, flash_seconds(path), atol=0.02)
    assert stats.gaps == pytest.approx(lost, abs=max(1, 0.1 * lost)) and stats.drift_ppm == 0


def frames_of(seconds: float, size: int = 1024) -> np.ndarray:
    return np.arange(0, round(seconds * SOUND_RATE), size, dtype=np.float64)


def placed(counts: np.ndarray, errors: np.ndarray, seconds: float) -> np.ndarray:
    """Return where beeps at every second of the samples are put, in seconds."""
    moments = np.arange(1.0, seconds - 1)
    waveform = beeps(moments, seconds, SOUND_RATE).astype(np.float32)
    return onsets(apply_clock(waveform, fit_clock(counts, errors, SOUND_RATE), 1.0), SOUND_RATE)


@pytest.mark.slow
def test_steps_of_any_size_and_drift_that_changes_are_followed():
    rng, seconds = np.random.default_rng(3), 240
    counts = frames_of(seconds)
    moments = np.arange(1.0, seconds - 1)
    time = counts / SOUND_RATE
    for jitter in (0.0, 0.0005, 0.003):
        steps = 0.021 * (time > 30.5) - 0.030 * (time > 61.5) + 0.1 * (time > 150.5)
        bend = 400e-6 * np.clip(time - 100, 0, None)  # one line would miss it by 14 ms
        noise = rng.uniform(-jitter, jitter, len(counts))
        found = placed(counts, (steps + bend + noise) * SOUND_RATE, seconds)
        expected = moments + np.interp(moments, time, steps + bend)
        assert len(found) == len(moments)
        np.testing.assert_allclose(found, expected, atol=0.006 + jitter)


def test_jitter_and_one_wrong_timestamp_are_not_steps():
    counts = frames_of(60)
    rounding = np.round(counts / SOUND_RATE, 3) * SOUND_RATE - counts
    assert len(fit_clock(counts, rounding, SOUND_RATE)) == 1
    wrong = rounding.copy()
    wrong[700] += 0.03 * SOUND_RATE
    assert len(fit_clock(counts, wrong, SOUND_RATE)) == 1
    noise = np.random.default_rng(0).uniform(-0.005, 0.005, len(counts)) * SOUND_RATE
    assert len(fit_clock(counts, noise, SOUND_RATE)) == 1


def test_one_impossible_timestamp_does_not_move_the_others(tmp_path: Path):
    write_recording(tmp_path / "a.ts", [2, 4], 6, form="mpegts")
    packets = [
        (tmp_path / "a.ts").read_bytes()[at : at + 188] for at in range(0, (tmp_path / "a.ts").stat().st_size, 188)
    ]
    starts = [n for n, packet in enumerate(packets) if packet[1] & 0x40 and packet.find(b"\0\0\1\xe0") > 0]
    content = bytearray(packets[starts[60]])
    at = content.find(b"\0\0\1\xe0")
    for field in range(1 + (content[at + 7] >> 6 == 3)):
        content[at + 9 + 5 * field] ^= 0x04  # 13 hours
    packets[starts[60]] = bytes(content)
    path = tmp_path / "b.ts"
    path.write_bytes(b"".join(packets))
    info = read_video_info(path)
    assert "timestamps of the video are impossible: replaced" in str(info.timing.note)
    assert info.timing.duration_seconds == pytest.approx(6, abs=0.1)
    shown, found = flash_seconds(path), onsets(read_audio(path, None, RATE, info.timing.start_seconds), RATE)
    np.testing.assert_allclose(shown, [2, 4], atol=0.05)
    np.testing.assert_allclose(found, shown, atol=TOLERANCE)


def write_he_aac(path: Path, delay: int, sound: np.ndarray, rate: int = 8000) -> None:
    """Write AAC at the core rate that is signalled as HE-AAC, with its encoder delay as Nero and iTunes state it."""
    with av.open(str(path), "w", format="ipod", options={"use_editlist": "0"}) as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        count = 0
        for first in [*range(0, len(sound), 1024), None]:
            frame = None
            if first is not None:
                part = np.pad(sound[first : first + 1024], (0, max(0, first + 1024 - len(sound))))
                frame = av.AudioFrame.from_ndarray(part.astype(np.float32)[None], format="fltp", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), first
            for packet in stream.encode(frame):
                packet.pts = packet.dts = 1024 * count
                packet.time_base, count = Fraction(1, rate), count + 1
                container.mux(packet)
        config = stream.codec_context.extradata
    # AudioSpecificConfig: SBR (5), core rate, one channel, output rate, AAC-LC (2)
    index = {8000: 11, 16000: 8}
    bits = f"{5:05b}{index[rate]:04b}{1:04b}{index[2 * rate]:04b}{2:05b}{0:03b}"
    he_config = int(bits.ljust(8 * len(config), "0"), 2).to_bytes(len(config), "big")
    text = f" 00000000 {delay:08X} {0:08X} {1024 * count - delay:016X}" + " 00000000" * 8

    def box(kind: bytes, *parts: bytes) -> bytes:
        return (8 + sum(map(len, parts))).to_bytes(4, "big") + kind + b"".join(parts)

    tag = box(
        b"----",
        box(b"mean", bytes(4), b"com.apple.iTunes"),
        box(b"name", bytes(4), b"iTunSMPB"),
        box(b"data", bytes([0, 0, 0, 1]), bytes(4), text.encode()),
    )
    handler = box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    extra = box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", tag)))
    content = bytearray(path.read_bytes().replace(config, he_config))
    at = content.find(b"moov") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    content[at : at + 4] = (length + len(extra)).to_bytes(4, "big")
    path.write_bytes(bytes(content[: at + length]) + extra + bytes(content[at + length :]))


def test_the_encoder_delay_of_he_aac_counts_at_the_core_rate(tmp_path: Path):
    rate, delay = 8000, 2336
    sound = np.zeros(3 * rate)
    tone = delay - 1024  # the encoder adds 1024 samples of its own
    sound[tone:] = 0.5 * np.sin(np.arange(len(sound) - tone) * 2 * np.pi * 500 / rate)
    write_he_aac(tmp_path / "a.m4a", delay, sound, rate)
    with av.open(str(tmp_path / "a.m4a")) as container:
        frame = next(container.decode(audio=0))
        assert frame.sample_rate == 2 * rate and "iTunSMPB" in container.metadata
    played = read_audio(tmp_path / "a.m4a", tmp_path / "a.m4a", RATE)
    start = np.flatnonzero(np.abs(played) > 0.15)[0] / RATE
    assert start < 0.07  # the tone begins at 0, up to the codec's pre-echo and filter delay; it was 0.146 s late


@pytest.mark.parametrize("base", [Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 48_000), Fraction(1, 3)])
def test_time_base_rounds_as_fraction_does(base: Fraction) -> None:
    """Catalogues written with exact fractions stay equal: the same bits for any number of ticks, and back."""
    time_base = TimeBase(*base.as_integer_ratio())
    for ticks in np.random.default_rng(0).integers(-(2**60), 2**60, 500).tolist() + list(range(-500, 500)):
        seconds = float(ticks * base)
        assert time_base.seconds(ticks) == seconds
        assert time_base.ticks(seconds) == round(seconds / base)
