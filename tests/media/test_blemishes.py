"""One blemish in a file is counted and costs no more than what it damaged; frames are numbered as they are shown."""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.test_clock import write_recording
from tests.support.media_files import write_video
from usvs.archive.discovery import ScanFiles
from usvs.archive.labels import STANDARD_PLANES
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoDecodeStats
from usvs.store import inspect_scan as inspect_module
from usvs.store.indexing import index_archive
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


def cut(source: Path, target: Path, keyframe: int) -> Path:
    """Copy a video from a keyframe on, with the frames that follow it in the file and precede it on the screen."""
    with av.open(str(source)) as one, av.open(str(target), "w") as other:
        stream, seen = other.add_stream_from_template(one.streams.video[0]), 0
        for packet in one.demux(video=0):
            seen += packet.is_keyframe
            if packet.dts is not None and seen > keyframe:
                packet.stream = stream
                other.mux(packet)
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("ts", "mpeg2video", {"g": "12", "bf": "2"}),
        ("mkv", "mpeg2video", {"g": "12", "bf": "2"}),
        ("mkv", "libx264", {"g": "12", "bf": "2", "x264-params": "open-gop=1:scenecut=0:rc-lookahead=10"}),
        ("mkv", "libx265", {"x265-params": "open-gop=1:keyint=12:bframes=2:scenecut=0:log-level=none"}),
    ],
)
def test_labels_by_frame_are_of_the_frames_that_are_shown(tmp_path: Path, ending: str, codec: str, options: dict):
    lit = {20, 21, 22, 40, 41, 70}
    pictures = [np.full((96, 128), 230 if n in lit else 40 + n % 3) for n in range(90)]
    source = "ts" if codec == "mpeg2video" else "mkv"
    whole = write_video(tmp_path / f"whole.{source}", pictures=pictures, rate=25, codec=codec, options=options)
    archive = tmp_path / "archive" / "p"
    archive.mkdir(parents=True)
    path = cut(whole, archive / f"a.{ending}", 1)
    with av.open(str(path)) as container:  # as OpenCV and FFmpeg number them
        levels = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    bright = [number for number, level in enumerate(levels) if level > 128]
    assert 3 <= len(bright) <= 6
    rows = "".join(f"{number},{'femur' if number in bright else 'lips'}\n" for number in range(len(levels)))
    (archive / "a.planes.csv").write_text("frame,plane\n" + rows)
    info = read_video_info(path)
    assert info.frames == len(levels)
    index_archive(tmp_path / "archive", tmp_path / "store", clips=CLIPS, workers=1)
    result = prepare_store(tmp_path / "store", profile=PrepareSettings(frame_pixels=32), workers=1)
    assert (result.prepared, result.differences) == (1, {})
    store = PreparedStore(tmp_path / "store")
    scan, classes = store.scan(0), store.labels.class_list("plane")
    shown = scan.frames(np.arange(len(levels))).reshape(len(levels), -1).mean(axis=1) > 128
    np.testing.assert_array_equal(np.flatnonzero(shown), bright)
    np.testing.assert_array_equal(np.flatnonzero(scan.planes == STANDARD_PLANES.index("femur")), bright)
    assert scan.frame_seconds[0] == 0 and (scan.planes >= 0).all()
    own = store.labels.of_scan(0, classes, scan.frame_seconds)
    np.testing.assert_array_equal(np.flatnonzero(own == classes.find("femur")), bright)


def transport_packets(path: Path, without) -> bytes:
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    video = [n for n, one in enumerate(packets) if ((one[1] & 31) << 8 | one[2]) == 0x100 and not one[1] & 0x40]
    lost = set(without(video))
    return b"".join(packet for number, packet in enumerate(packets) if number not in lost)


def noisy(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 128)) for _ in range(100)]
    return write_video(tmp_path / "whole.ts", pictures=pictures, rate=25, options={"g": "10", "bf": "0"})


def test_one_lost_transport_packet_is_noted(tmp_path: Path):
    path = tmp_path / "a.ts"
    path.write_bytes(transport_packets(noisy(tmp_path), lambda video: [video[len(video) // 2]]))
    info, stats = read_video_info(path), VideoDecodeStats()
    assert info.timing.note == "1 of 100 video packets are incomplete" and info.frames == 100
    assert len(list(iter_gray_frames(path, info, stats))) >= 95 and stats.damaged_frames + stats.damaged_packets <= 5


def test_many_lost_transport_packets_are_an_error_that_counts_them(tmp_path: Path):
    path = tmp_path / "a.ts"
    path.write_bytes(transport_packets(noisy(tmp_path), lambda video: video[:: len(video) // 20]))
    with pytest.raises(DataError, match=r"damaged: expected at most 5% incomplete video packets, got \d+ of 100"):
        read_video_info(path)


def empty_samples(path: Path, numbers: list[int]) -> None:
    """Make some frames of an MP4 empty: their bytes then belong to the frame before, whose decoder ignores them."""
    content = bytearray(path.read_bytes())
    table = content.find(b"stsz") + 16  # version and flags, common size, number of samples
    for number in numbers:
        at = table + 4 * number
        size = int.from_bytes(content[at : at + 4], "big")
        previous = number - 1
        while previous in numbers:
            previous -= 1
        before = table + 4 * previous
        content[before : before + 4] = (int.from_bytes(content[before : before + 4], "big") + size).to_bytes(4, "big")
        content[at : at + 4] = bytes(4)
    path.write_bytes(bytes(content))


def test_an_empty_packet_shows_the_frame_before_again(tmp_path: Path):
    """Theora and VP8 say so; decoders refuse such a packet."""
    pictures = [np.random.default_rng(n).integers(0, 200, (48, 64)) for n in range(40)]
    path = write_video(tmp_path / "a.mov", pictures=pictures, rate=20, codec="mjpeg", form="yuvj420p", full_range=True)
    complete = [gray for _, gray in iter_gray_frames(path)]
    empty_samples(path, [5, 6, 20])
    with av.open(str(path)) as container:
        if sum(packet.size == 0 and packet.pts is not None for packet in container.demux(video=0)) != 3:
            pytest.skip("this FFmpeg leaves empty samples out")
    info, stats = read_video_info(path), VideoDecodeStats()
    frames = list(iter_gray_frames(path, info, stats))
    assert stats == VideoDecodeStats(frames=40) and info.frames == 40
    np.testing.assert_allclose([seconds for seconds, _ in frames], np.arange(40) / 20, atol=0.0011)
    for number, (_, gray) in enumerate(frames):
        np.testing.assert_array_equal(gray, complete[{5: 4, 6: 4, 20: 19}.get(number, number)])


def test_a_packet_that_the_decoder_refuses_costs_one_frame(tmp_path: Path, monkeypatch):
    pictures = [np.full((48, 64), 2 * n + 10) for n in range(100)]
    path = write_video(tmp_path / "a.mkv", pictures=pictures, rate=20, codec="mjpeg", form="yuvj420p", full_range=True)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content.replace(packets[50], bytes(len(packets[50]))))
    stats = VideoDecodeStats()
    assert len(list(iter_gray_frames(path, None, stats))) == 99
    assert (stats.frames, stats.damaged_packets) == (99, 1)


@pytest.mark.parametrize("kind", ["gaze", "plane_labels"])
def test_a_companion_that_raises_does_not_cost_the_scan(tmp_path: Path, monkeypatch, kind: str):
    write_recording(tmp_path / "a.mkv", [1], 2, codec="libx264", sound_codec="aac")
    (tmp_path / "a.csv").write_text("x")

    def fail(*_, **__):
        raise RecursionError("a path")

    monkeypatch.setattr(inspect_module, f"read_{kind}", fail)
    files = ScanFiles("a.mkv", **{"gaze" if kind == "gaze" else "planes": "a.csv"})
    found = inspect_scan(IndexTask(tmp_path, files, CLIPS, VoiceActivitySettings()))
    assert found.reason is None
    assert "not used: unexpected RecursionError" in str(found.gaze_note if kind == "gaze" else found.planes_note)


def recording(tmp_path: Path) -> Path:
    """A transport stream of 100 frames in ten groups, with sound."""
    pictures = [np.random.default_rng(n).integers(0, 255, (48, 64)) for n in range(100)]
    sound = 0.1 * np.sin(np.arange(5 * 48_000) * 0.2)
    options = {"g": "10", "bf": "0"}
    return write_video(tmp_path / "whole.ts", pictures=pictures, rate=20, codec="libx264", options=options, sound=sound)


def test_a_transport_stream_without_its_first_tables_is_read_as_one(tmp_path: Path, monkeypatch):
    """FFmpeg takes some of them for the video alone: without sound and times, the packet headers decoded as picture."""
    whole = recording(tmp_path)
    path = tmp_path / "a.ts"
    path.write_bytes(whole.read_bytes()[5 * 188 :])
    expected, open_file = read_video_info(whole), av.open

    def mistake(file: str, mode: str, kind: str = "h264", **options):
        return open_file(file, mode, kind, **options)

    monkeypatch.setattr(av, "open", mistake)
    info = read_video_info(path)
    assert (info.container, info.audio_codec, info.timing.note) == ("mpegts", expected.audio_codec, None)
    assert 80 <= info.frames < 100 and info.timing.rate_hz == pytest.approx(20)
    begin = info.timing.start_seconds - expected.timing.start_seconds
    assert begin == pytest.approx(float(expected.timing.seconds[100 - info.frames]))
    stats = VideoDecodeStats()
    assert len(list(iter_gray_frames(path, info, stats))) == info.frames and stats.damaged_frames == 0


def test_foreign_bytes_inside_a_transport_stream_are_not_taken_for_its_end(tmp_path: Path):
    content = recording(tmp_path).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(content[: 188 * 200] + b"\x55" * 500 + content[188 * 200 :])
    assert read_video_info(path).frames == 100
    path.write_bytes(path.read_bytes()[:-77])
    with pytest.raises(DataError, match="truncated: the file is shorter than the lengths stored in it"):
        read_video_info(path)


def streams_of_unknown_codec(tmp_path: Path, source: Path, video: int, audio: int, damaged: bytes) -> Path:
    """Copy a recording into a Matroska file with some of its streams several times; the first has an unknown codec."""
    path = tmp_path / "a.mkv"
    with av.open(str(source)) as one, av.open(str(path), "w") as other:
        kinds = {"video": video, "audio": audio}
        made = {
            stream.index: [other.add_stream_from_template(stream) for _ in range(kinds[stream.type])]
            for stream in one.streams
        }
        for packet in one.demux():
            for stream in made[packet.stream.index] if packet.dts is not None else ():
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
                copy.is_keyframe = packet.is_keyframe
                other.mux(copy)
    assert damaged in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(damaged, damaged[:-2] + b"9?", 1))
    return path


def test_a_stream_of_an_unknown_codec_does_not_cost_the_others(tmp_path: Path):
    source = tmp_path / "source.mkv"
    write_recording(source, [1], 2, sound_codec="aac")
    whole = read_video_info(source)
    path = streams_of_unknown_codec(tmp_path, source, 2, 1, b"V_MPEG2")
    info = read_video_info(path)
    assert info.frames == whole.frames == len(list(iter_gray_frames(path, info)))
    assert f"({info.width} x {info.height}, of an unknown codec): the first of a known codec is used" in info.file_note
    path = streams_of_unknown_codec(tmp_path, source, 1, 2, b"A_AAC")
    info = read_video_info(path)
    assert info.audio_codec == "aac" and "1 of 2 audio streams is of an unknown codec" in info.file_note
    np.testing.assert_array_equal(read_audio(path), read_audio(source))
    path = streams_of_unknown_codec(tmp_path, source, 1, 1, b"A_AAC")
    info = read_video_info(path)
    assert info.audio_codec is None and "the codec of the sound is not known" in info.file_note
