"""Frames and audio on the scan clock, for all containers and clocks."""

from pathlib import Path

import av
import numpy as np
import pytest

from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoDecodeStats

RATE = 24_000
EVERY = 2.0  # seconds from flash to flash
BEEP = 0.1


def clock(variable: bool, start: float, length: float = 9.0) -> list[float]:
    if not variable:
        return [start + n / 25 for n in range(round(length * 25))]
    steps = np.resize([1, 3, 2, 1, 5, 4], 400) / 75
    times = np.concatenate([[0.0], np.cumsum(steps)])
    return (start + times[times < length]).tolist()


def flash_pictures(seconds: list[float]) -> list[np.ndarray]:
    since = np.array(seconds) - seconds[0]
    return [np.full((48, 64), 230 if moment % EVERY < 0.2 and moment >= 1.0 else 20) for moment in since]


def beeps(moments: list[float], length: float, rate: int) -> np.ndarray:
    time = np.arange(round(length * rate)) / rate
    waveform = np.zeros(len(time))
    for moment in moments:
        waveform += np.where((time >= moment) & (time < moment + BEEP), 0.5 * np.sin(2 * np.pi * 3000 * time), 0)
    return waveform


def onsets(sound: np.ndarray) -> np.ndarray:
    loud = np.abs(sound) > 0.2
    first = np.flatnonzero(loud)
    return first[np.concatenate([[True], np.diff(first) > RATE * 0.5])] / RATE


@pytest.mark.parametrize("start", [0.0, 1.3])
@pytest.mark.parametrize("variable", [False, True])
def test_uncompressed_audio_is_exact_to_the_millisecond(make_video, variable: bool, start: float):
    seconds = clock(variable, start)
    pictures = flash_pictures(seconds)
    pairs = zip(seconds[1:], pictures[1:], pictures[:-1], strict=True)
    flashes = [m for m, after, before in pairs if after.mean() > before.mean() + 100]
    assert len(flashes) >= 3
    sound = beeps(flashes, seconds[-1], 48_000)
    # the audio starts at 0.5 s on the container's clock: the start time of the stream must be applied
    path = make_video(
        "a.mkv", seconds=seconds, pictures=pictures, sound=sound[24_000:], sound_start=0.5, sound_codec="pcm_s16le"
    )
    info = read_video_info(path)
    frames = list(iter_gray_frames(path))
    times = np.array([moment for moment, _ in frames])
    assert times[0] == 0.0
    assert len(times) == len(seconds) == info.frames
    np.testing.assert_allclose(times, np.array(seconds) - start, atol=0.0011)  # Matroska rounds to milliseconds
    np.testing.assert_allclose(info.timing.seconds, times, atol=1e-9)
    bright = np.array([picture.mean() for _, picture in frames]) > 120
    flash_seconds = times[1:][bright[1:] & ~bright[:-1]]
    beep_seconds = onsets(read_audio(path, None, RATE))
    beep_seconds = beep_seconds[(beep_seconds > 0.9) & (beep_seconds < times[-1] - 0.2)]
    np.testing.assert_allclose(beep_seconds, flash_seconds[: len(beep_seconds)], atol=0.0015)
    assert len(beep_seconds) >= len(flash_seconds) - 1


def test_audio_before_the_first_frame_is_removed(make_video):
    sound = beeps([2.0], 4.0, 48_000)
    path = make_video(
        "a.mp4", seconds=clock(False, 1.3, 2.0), pictures=flash_pictures(clock(False, 1.3, 2.0)), sound=sound
    )
    np.testing.assert_allclose(onsets(read_audio(path, None, RATE)), [0.7], atol=0.005)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_separate_audio_file_starts_at_the_first_frame(make_video, suffix: str):
    path = make_video("a.mp4", seconds=clock(False, 1.3), pictures=flash_pictures(clock(False, 1.3)))
    audio_path = path.with_suffix(f".{suffix}")
    sound = beeps([1.5], 4.0, 44_100)
    with av.open(str(audio_path), "w") as container:
        stream = container.add_stream("pcm_s16le" if suffix == "wav" else "flac", rate=44_100)
        stream.layout = "stereo"
        samples = np.round(np.stack([sound, 0.8 * sound], 1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate = 44_100
        resampled = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=44_100, frame_size=4096)
        for piece in [*resampled.resample(frame), *resampled.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    waveform = read_audio(path, audio_path, RATE)
    assert len(waveform) == pytest.approx(4.0 * RATE, abs=2)
    np.testing.assert_allclose(onsets(waveform), [1.5], atol=0.001)
    assert np.abs(waveform).max() == pytest.approx(0.45, abs=0.02)  # the mean of both channels


def test_a_gap_in_the_audio_stays_a_gap(make_video):
    seconds = clock(False, 0.0, 4.0)
    path = make_video("a.mkv", seconds=seconds, pictures=flash_pictures(seconds), options={"bf": "0"})
    holed = path.with_name("holed.mkv")
    with av.open(str(holed), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=48_000)
        audio.layout = "mono"
        with av.open(str(path)) as source:
            video = container.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = video
                    container.mux(packet)
        for start in (0.0, 2.5):
            tone = np.round(16_000 * np.sin(np.arange(48_000) * 0.3)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, round(start * 48_000)
            container.mux(audio.encode(frame))
    np.testing.assert_allclose(onsets(read_audio(holed, None, RATE)), [0.0, 2.5], atol=0.002)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p"])
def test_gray_has_full_range(make_video, full_range: bool, form: str):
    ramp = np.tile(np.arange(256)[None, :], (48, 1))
    path = make_video(
        "a.mp4",
        pictures=[ramp] * 3,
        form=form,
        full_range=full_range,
        options={"qp": "0", "crf": "0", "preset": "ultrafast"},
    )
    picture = next(iter_gray_frames(path))[1]
    assert picture.shape == (48, 256)
    assert np.abs(picture.astype(int) - ramp).max() <= 2
    assert picture.min() <= 1 and picture.max() >= 254


@pytest.mark.parametrize(
    ("name", "codec", "form", "options"),
    [
        ("odd.gif", "gif", "rgb8", {}),
        ("mjpeg.avi", "mjpeg", "yuvj420p", {}),
        ("b_frames.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("b_frames.mp4", "libx264", "yuv420p", {"bf": "3"}),
        ("stream.mpg", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("gray.mkv", "ffv1", "gray", {}),
    ],
)
def test_every_container_returns_every_frame_in_order(make_video, name: str, codec: str, form: str, options):
    size = (51, 67) if codec in {"gif", "ffv1"} else (48, 64)
    levels = [10 * n + 5 for n in range(24)]
    pictures = [np.full(size, level) for level in levels]
    path = make_video(name, pictures=pictures, rate=25, codec=codec, form=form, options=options)
    info = read_video_info(path)
    frames = list(iter_gray_frames(path, info))
    assert len(frames) == info.frames == 24
    assert frames[0][1].shape == size == (info.height, info.width)
    np.testing.assert_allclose([moment for moment, _ in frames], np.arange(24) / 25, atol=0.011)
    tolerance = 24 if codec == "gif" else 6  # a GIF of 3 + 3 + 2 bits has few grays
    np.testing.assert_allclose([picture.mean() for _, picture in frames], levels, atol=tolerance)
    assert info.timing.rate_hz == pytest.approx(25, rel=0.02)
    assert info.timing.duration_seconds == pytest.approx(24 / 25, abs=0.03)


def test_missing_frame_times_are_rebuilt_and_noted(make_video, tmp_path: Path):
    encoded = make_video("a.mp4", count=10, rate=25, options={"bf": "0"})
    bare = tmp_path / "bare.h264"  # an elementary stream has no timestamps
    with av.open(str(encoded)) as source, av.open(str(bare), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    info = read_video_info(bare)
    assert info.timing.note is not None and "rebuilt" in info.timing.note
    times = [moment for moment, _ in iter_gray_frames(bare, info)]
    np.testing.assert_allclose(times, np.arange(10) / 25, atol=1e-9)


def is_refused_without_its_name(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_video_info(path)
    assert str(path) not in str(caught.value) and path.name not in str(caught.value)


def test_a_truncated_file_is_an_error(make_video):
    complete = make_video("a.mp4", count=100).read_bytes()
    fast = make_video("b.mp4", count=100, container_options={"movflags": "faststart"}).read_bytes()
    avi = make_video("d.avi", codec="mpeg4", count=100).read_bytes()
    gif = make_video("e.gif", codec="gif", form="rgb8").read_bytes()
    broken = [
        ("c.mp4", complete, "no stream in the file: it is truncated"),
        ("c.mp4", fast, "truncated"),
        ("c.avi", avi, "truncated"),
    ]
    for name, content, words in [*broken, ("c.gif", gif, "truncated")]:
        path = make_video("c.mp4").with_name(name)
        content = content[: len(content) * 2 // 3]
        path.write_bytes(content)
        is_refused_without_its_name(path, words)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"Dear patient,\nthis is no video.\n" * 20, "not readable as a video")]
)
def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "letter.mp4"
    path.write_bytes(content)
    is_refused_without_its_name(path, words)


def test_missing_video_and_audio_streams_are_errors(make_video, tmp_path: Path):
    silent = make_video("a.mp4")
    with pytest.raises(DataError, match="no audio stream"):
        read_audio(silent, None, RATE)
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="no video stream"):
        read_video_info(sound)


def test_damage_inside_a_file_is_counted(make_video):
    path = make_video("a.mp4", count=60, size=(96, 128), options={"g": "10"})
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 2000
    content[start : start + 400] = bytes(400)
    path.write_bytes(bytes(content))
    stats = VideoDecodeStats()
    count = len(list(iter_gray_frames(path, None, stats)))
    assert count == stats.frames
    assert stats != VideoDecodeStats(frames=60)
