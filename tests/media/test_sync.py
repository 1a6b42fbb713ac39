"""Flashes and beeps: audio and video are synchronous within 5 ms, for all containers, clocks and durations."""

import wave
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.media_files import write_video
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoDecodeStats

TOLERANCE = 0.005
RATE = 24_000
EVERY, FIRST = 1.6, 0.9  # seconds from flash to flash, and the earliest time of the first
GRID = 75  # per second; frame times are multiples of 1 / GRID, since AVI stores no finer ones

CASES = list(product(["mp4", "avi", "mkv", "mov"], [False, True], [0.0, 1.3], [False, True]))


def frame_times(variable: bool, start: float, length: float) -> np.ndarray:
    steps = np.resize([1, 3, 2, 1, 5, 4] if variable else [3], round(length * GRID))
    ticks = np.concatenate([[0], np.cumsum(steps)])
    return round(start * GRID) / GRID + ticks[ticks < length * GRID] / GRID


def flashes(times: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return images that flash for 0.2 s, and the time of the first frame of each flash."""
    since = times - times[0]
    bright = (since >= FIRST) & ((since - FIRST) % EVERY < 0.2)
    pictures = [np.full((32, 48), 235 if light else 20) for light in bright]
    return pictures, times[1:][bright[1:] & ~bright[:-1]]


def beeps(moments: np.ndarray, length: float, rate: int) -> np.ndarray:
    sound = np.zeros(round(length * rate))
    burst = 0.5 * np.sin(2 * np.pi * 1500 * np.arange(round(0.05 * rate)) / rate)
    for moment in moments:
        first = round(moment * rate)
        sound[first : first + len(burst)] = burst[: len(sound) - first]
    return sound


def onsets(waveform: np.ndarray, rate: int) -> np.ndarray:
    loud = np.flatnonzero(np.abs(waveform) > 0.15)
    return loud[np.concatenate([[True], np.diff(loud) > 0.3 * rate])] / rate


def flash_seconds(path: Path) -> np.ndarray:
    frames = [(seconds, gray.mean()) for seconds, gray in iter_gray_frames(path)]
    times, bright = np.array([seconds for seconds, _ in frames]), np.array([level for _, level in frames]) > 120
    return times[1:][bright[1:] & ~bright[:-1]]


def write_avi(path: Path, times: np.ndarray, pictures, full_range: bool, sound: np.ndarray) -> None:
    """Write as recorders do: empty chunks for repeated frames, and the first frame's time in the stream's header."""
    coding = {"codec": "mjpeg", "form": "yuvj420p"} if full_range else {"codec": "mpeg4", "options": {"bf": "0"}}
    seconds = (times - times[0]).tolist()
    coding |= {"sound": sound, "sound_codec": "pcm_s16le", "full_range": full_range}
    write_video(path, seconds=seconds, pictures=pictures, rate=GRID, **coding)
    content = bytearray(path.read_bytes())
    start_at = content.find(b"vids") + 28
    content[start_at : start_at + 4] = round(times[0] * GRID).to_bytes(4, "little")
    path.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "variable", "start", "full_range"), CASES)
def test_audio_and_video_are_synchronous(tmp_path: Path, ending: str, variable: bool, start: float, full_range: bool):
    times = frame_times(variable, start, 5.0)
    pictures, moments = flashes(times)
    begin = 0.25  # of the audio, on the container's clock
    beeping = beeps(moments - begin, times[-1] - begin, 48_000)
    path = tmp_path / f"scan.{ending}"
    if ending == "avi":
        write_avi(path, times, pictures, full_range, np.concatenate([np.zeros(round(begin * 48_000)), beeping]))
    else:
        given = {"sound": beeping, "sound_start": begin, "options": {"preset": "ultrafast", "bf": "2"}}
        write_video(path, seconds=times.tolist(), pictures=pictures, rate=25, full_range=full_range, **given)
    info, stats = read_video_info(path), VideoDecodeStats()
    frames = list(iter_gray_frames(path, info, stats))
    assert len(frames) == info.frames == len(times) and stats == VideoDecodeStats(frames=len(times))
    np.testing.assert_allclose([seconds for seconds, _ in frames], times - times[0], atol=0.0011)
    assert info.timing.note is None
    levels = np.array([gray.mean() for _, gray in frames])
    assert levels.min() == pytest.approx(20, abs=4) and levels.max() == pytest.approx(235, abs=4)
    shown, beep_seconds = flash_seconds(path), onsets(read_audio(path, None, RATE, info.timing.start_seconds), RATE)
    assert len(shown) == len(moments) >= 2
    np.testing.assert_allclose(beep_seconds, shown, atol=TOLERANCE)


MINUTES = 30
LONG_RATE = 4000
SLOW_RATE_HZ = 2.0  # frames per second: few, since only the duration matters


@pytest.fixture(scope="module")
def half_hour(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Write a small video of 30 minutes that flashes every minute."""
    folder = tmp_path_factory.mktemp("half_hour")
    moments = np.arange(30.0, MINUTES * 60, 60.0)
    times = np.arange(0, MINUTES * 60, 1 / SLOW_RATE_HZ)
    pictures = [np.full((16, 16), 235 if seconds in moments else 20) for seconds in times.tolist()]
    options = {"preset": "ultrafast", "g": "60"}
    path = write_video(folder / "long.mkv", seconds=times.tolist(), pictures=pictures, rate=2, options=options)
    np.testing.assert_allclose(flash_seconds(path), moments, atol=0.001)
    return path, moments


def write_wav(path: Path, sound: np.ndarray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(rate)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("drift_ppm", "offset"), [(0.0, 0.0), (-50.0, 0.7), (50.0, -0.4)])
def test_a_separate_audio_file_is_synchronous_after_half_an_hour(
    half_hour, tmp_path: Path, drift_ppm: float, offset: float
):
    path, moments = half_hour
    # a recorder whose clock is 50 ppm fast, started `offset` seconds after the video
    written = (moments - offset) * (1 + drift_ppm * 1e-6)
    audio_path = write_wav(tmp_path / "long.wav", beeps(written, MINUTES * 60 + 5, LONG_RATE), LONG_RATE)
    beep_seconds = onsets(
        read_audio(path, audio_path, LONG_RATE, offset_seconds=offset, drift_ppm=drift_ppm), LONG_RATE
    )
    np.testing.assert_allclose(beep_seconds, moments, atol=TOLERANCE)
    if drift_ppm:
        uncorrected = onsets(read_audio(path, audio_path, LONG_RATE, offset_seconds=offset), LONG_RATE)
        assert np.abs(uncorrected[-1] - moments[-1]) > 0.08


def add_drifting_sound(
    path: Path,
    sound: np.ndarray,
    rate: int,
    drift: float,
    *,
    ticks: int,
    samples: int,
    lost: Sequence[tuple[float, float]] = (),
) -> Path:
    """Copy a video and add sound whose clock drifts against its timestamps; what begins in the seconds `lost` is lost.

    Args:
        path: of the video.
        sound: [samples] int16.
        rate: samples per second.
        drift: of the clock; 1e-6 is one part in a million.
        ticks: units of the timestamps in a second.
        samples: of a packet.
        lost: intervals in seconds.
    """
    both = path.with_name("both.mkv")
    with av.open(str(path)) as source, av.open(str(both), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream("pcm_s16le", rate=rate, layout="mono")
        for first in range(0, len(sound), samples):
            if any(begin <= first / rate < end for begin, end in lost):
                continue
            frame = av.AudioFrame.from_ndarray(sound[None, first : first + samples], format="s16", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, ticks)
            for packet in audio.encode(frame):
                packet.time_base = Fraction(1, ticks)
                packet.pts = packet.dts = round(first / rate / (1 + drift) * ticks)
                target.mux(packet)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
    return both


@pytest.mark.slow
def test_drift_shown_by_the_timestamps_is_corrected(half_hour):
    path, moments = half_hour
    drift = 50e-6
    sound = np.round(32767 * beeps(moments * (1 + drift), MINUTES * 60, LONG_RATE)).astype(np.int16)
    both = add_drifting_sound(path, sound, LONG_RATE, drift, ticks=1_000_000, samples=2000)
    stats = AudioDecodeStats()
    found = onsets(read_audio(both, None, LONG_RATE, stats=stats), LONG_RATE)
    np.testing.assert_allclose(found, moments, atol=TOLERANCE)
    assert stats.drift_ppm == pytest.approx(-50, abs=1) and "stretched by -50 ppm" in str(stats.note)


def test_drift_with_two_gaps(tmp_path: Path):
    """A recorder loses audio twice while its clock drifts: each beep is at the time of its timestamp."""
    moments = np.arange(1.0, 119.0, 2.0)
    drift, rate = 400e-6, 8000
    sound = np.round(32767 * beeps(moments * (1 + drift), 120, rate)).astype(np.int16)
    path = write_video(tmp_path / "a.mkv", count=240, rate=2, size=(16, 16), options={"bf": "0"})
    both = add_drifting_sound(path, sound, rate, drift, ticks=1000, samples=800, lost=((40, 41), (80, 80.5)))
    stats = AudioDecodeStats()
    found = onsets(read_audio(both, None, rate, stats=stats), rate)
    np.testing.assert_allclose(found, moments, atol=TOLERANCE)
    assert stats.gaps == 2 and "2 gaps in the audio: filled with silence" in str(stats.note)
