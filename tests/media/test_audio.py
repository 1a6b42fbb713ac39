"""Audio as recorders write it: faults are noted and affect only the samples concerned."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.support.media_files import write_video
from usvs.archive.discovery import ScanFiles
from usvs.audio.settings import VoiceActivitySettings
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.settings import ClipSettings

RATE = 16_000
TONE = (0.3 * np.sin(np.arange(4 * RATE) * 0.3)).astype(np.float32)


def read_with_note(tmp_path: Path, samples: np.ndarray, name: str = "a.wav", **given) -> tuple[np.ndarray, str | None]:
    stats = AudioDecodeStats()
    soundfile.write(tmp_path / name, samples, RATE, **given)
    return read_audio(tmp_path / "a.mp4", tmp_path / name, RATE, stats=stats), stats.note


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_become_silence_and_affect_no_others(tmp_path: Path, value: float):
    damaged = TONE.copy()
    damaged[30_000:30_010] = value
    found, note = read_with_note(tmp_path, damaged, subtype="FLOAT")
    assert note == "10 audio samples are NaN or infinite: replaced by silence"
    expected = np.where(np.isfinite(damaged), damaged, 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_channels_are_averaged_and_cancellation_is_noted(tmp_path: Path):
    found, note = read_with_note(tmp_path, np.stack([TONE, np.zeros_like(TONE)], 1))
    np.testing.assert_allclose(found, TONE / 2, atol=1e-4)
    assert note is None
    _, note = read_with_note(tmp_path, np.stack([TONE, -TONE], 1))  # a balanced line on a stereo connector
    assert note is not None and "channels cancel each other out" in note


def test_audio_beyond_full_scale_is_noted(tmp_path: Path):
    assert (
        read_with_note(tmp_path, TONE * 50, subtype="FLOAT")[1]
        == "the audio reaches 15 times full scale: it is clipped"
    )


def test_a_truncated_audio_file_is_noted(tmp_path: Path):
    read_with_note(tmp_path, TONE)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(content[: len(content) // 2])
    stats = AudioDecodeStats()
    assert len(read_audio(tmp_path / "a.mp4", tmp_path / "b.wav", RATE, stats=stats)) == pytest.approx(2 * RATE, abs=50)
    assert stats.note == "the audio file is truncated: it is shorter than the lengths stored in it"
    for length in (b"\xff\xff\xff\xff", bytes(4)):  # a file written to a pipe states no length
        (tmp_path / "b.wav").write_bytes(content[:4] + length + content[8:])
        stats = AudioDecodeStats()
        read_audio(tmp_path / "a.mp4", tmp_path / "b.wav", RATE, stats=stats)
        assert stats.note is None


def test_of_several_audio_streams_the_first_is_used_and_noted(tmp_path: Path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for stream, loudness in zip(streams, (0.1, 0.5), strict=True):
            samples = np.full((1, RATE), round(loudness * 32768), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    stats = AudioDecodeStats()
    assert read_audio(path, None, RATE, 0.0, stats)[RATE // 2] == pytest.approx(0.1, abs=1e-3)
    assert stats.note == "2 audio streams in the file: the first is used"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "note"),
    [
        (1.5, "the sound ends at 1.5 s, the video at 4.0 s"),
        (20.0, "the sound file ends at 20.0 s, the video at 4.0 s"),
        (4.6, None),
    ],
)
def test_audio_of_another_length_is_noted(tmp_path: Path, seconds: float, note: str | None):
    write_video(tmp_path / "a.mp4", count=80)
    soundfile.write(tmp_path / "a.wav", np.resize(TONE, round(seconds * RATE)), RATE)
    facts = inspect_scan(
        IndexTask(tmp_path, ScanFiles("a.mp4", sound="a.wav"), ClipSettings(), VoiceActivitySettings())
    )
    assert (facts.sound, facts.sound_note) == ("beside", note)


def test_an_invalid_audio_file_is_not_called_a_video(tmp_path: Path):
    write_video(tmp_path / "a.mp4", count=80)
    (tmp_path / "a.wav").write_text("no")
    facts = inspect_scan(
        IndexTask(tmp_path, ScanFiles("a.mp4", sound="a.wav"), ClipSettings(), VoiceActivitySettings())
    )
    assert str(facts.sound_note).startswith("sound not used: not readable as an audio file:")


def test_a_long_time_without_a_new_frame_is_noted(tmp_path: Path):
    seconds = [n / 20 if n < 10 else 599.55 + n / 20 for n in range(20)]
    write_video(tmp_path / "a.mkv", seconds=seconds, count=20)
    facts = inspect_scan(IndexTask(tmp_path, ScanFiles("a.mkv"), ClipSettings(), VoiceActivitySettings()))
    assert facts.time_note == "up to 599.6 s without a new frame"
