"""Files that ask for gigabytes: refused with expectation and value, in processes whose memory is limited."""

import os
import struct
import subprocess
import sys
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import usvs
from tests.support.dicom_files import write_dicom
from tests.support.media_files import WriteVideo
from usvs.errors import DataError
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.media.limits import check_frame_size
from usvs.media.video import read_video_info

ROOT = Path(usvs.__file__).resolve().parents[1]
MAX_RESIDENT_MIB = 700
READ = {
    "video": "from usvs.media.video import read_video_info, iter_gray_frames\n"
    "def read(path): return [gray.mean() for _, gray in iter_gray_frames(path)]",
    "sound": "from usvs.media.audio import read_audio\ndef read(path): return len(read_audio(path))",
    "late sound": "from usvs.media.audio import read_audio\n"
    "def read(path): return len(read_audio(path, path, offset_seconds=21500))",
    "sound beside": "from usvs.media.audio import read_audio\n"
    "def read(path): return len(read_audio(path, path, max_seconds=10.0))",
}


def measure(reader: str, path: Path, address_space_gib: int = 4) -> tuple[str, float]:
    """Read a file in a process with a limited address space; return its result or error, and its peak memory in MiB."""
    script = f"""
import resource, sys
from pathlib import Path
{READ[reader]}
from usvs.errors import DataError
resource.setrlimit(resource.RLIMIT_AS, ({address_space_gib} << 30, {address_space_gib} << 30))
try:
    result = f"read {{read(Path(sys.argv[1]))}}"
except DataError as error:
    result = str(error)
status = Path("/proc/self/status").read_text()  # not ru_maxrss, which starts with the parent's value
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
print(result)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak, result = done.stdout.split("\n", 1)
    return result.strip(), float(peak)


def write_wav(path: Path, samples: int, rate_hz: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, samples, "NONE", ""))
        file.writeframes((1000 * np.sin(np.arange(samples) / 20)).astype("<i2").tobytes())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [1, 10, 999, 800_000, 2_000_000_000])
def test_a_sound_rate_out_of_range_is_refused(tmp_path: Path, rate_hz: int):
    result, peak = measure("sound", write_wav(tmp_path / "a.wav", 100_000, rate_hz))
    assert result == f"sample rate of the sound: expected 4000 to 768000 Hz, got {rate_hz} Hz"
    assert peak < MAX_RESIDENT_MIB


def write_sound_at(path: Path, codec: str, samples: NDArray[np.int16], seconds: Iterable[int]) -> Path:
    """Write the same samples [1, n] at 48 kHz at each of these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        for second in seconds:
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), second * 48_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rate_hz", [4000, 8000, 11_025, 192_000, 384_000])
def test_usual_sound_rates_are_read(tmp_path: Path, rate_hz: int):
    assert len(read_audio(write_wav(tmp_path / "a.wav", rate_hz, rate_hz))) == pytest.approx(24_000, abs=2)


@pytest.mark.slow
def test_a_sound_that_begins_hours_later_is_refused(tmp_path: Path):
    result, peak = measure("late sound", write_wav(tmp_path / "a.wav", 48_000, 48_000))
    assert result.startswith("silence before the sound and in its gaps: expected at most 3600 s, got 21500 s")
    assert peak < MAX_RESIDENT_MIB


def test_a_sound_that_begins_half_an_hour_later_is_read_in_little_memory(tmp_path: Path):
    path = write_wav(tmp_path / "a.wav", 48_000, 48_000)
    waveform = read_audio(path, path, 8_000, offset_seconds=1800)
    assert len(waveform) == pytest.approx(1801 * 8_000, abs=2)
    assert np.abs(waveform[: 1799 * 8_000]).max() == 0
    assert np.abs(waveform[1800 * 8_000 :]).max() > 0.02


@pytest.mark.slow
def test_gaps_of_hours_in_the_timestamps_are_refused(tmp_path: Path):
    tone = np.full((1, 4800), 900, np.int16)
    path = write_sound_at(tmp_path / "a.mkv", "pcm_s16le", tone, (0, 3000, 6000, 18_000))
    result, peak = measure("sound", path)
    assert result.startswith("silence before the sound and in its gaps: expected at most 3600 s, got 6000 s")
    assert peak < MAX_RESIDENT_MIB


@pytest.mark.slow
def test_hours_of_silence_beside_a_short_video_are_not_kept(tmp_path: Path):
    path = write_sound_at(tmp_path / "a.flac", "flac", np.zeros((1, 480_000), np.int16), range(0, 3 * 3600, 10))
    result, peak = measure("sound beside", path)
    assert int(result.removeprefix("read ")) < 13 * 24_000
    assert peak < MAX_RESIDENT_MIB


def test_what_is_kept_equals_the_beginning_of_all(tmp_path: Path):
    path, stats = write_wav(tmp_path / "a.wav", 480_000, 44_100), AudioDecodeStats()
    complete, kept = read_audio(path), read_audio(path, max_seconds=3.0, stats=stats)
    assert 3.0 * 24_000 <= len(kept) < len(complete)
    np.testing.assert_array_equal(kept, complete[: len(kept)])
    assert stats.seconds == pytest.approx(480_000 / 44_100, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("aspect", [Fraction(1, 9), Fraction(9), Fraction(200, 3)])
def test_an_absurd_pixel_aspect_is_refused(tmp_path: Path, aspect: Fraction):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320), 50, np.uint8), format="gray").reformat(
                format="yuv420p"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    result, peak = measure("video", path)
    assert result.startswith("pixel aspect ratio: expected 1/8 to 8 (width over height), got ")
    assert peak < MAX_RESIDENT_MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PixelAspectRatio": [1, 30_000]}, "pixel aspect ratio: expected 1/8 to 8"),
        ({"PixelAspectRatio": [30_000, 1]}, "pixel aspect ratio: expected 1/8 to 8"),
        ({"Rows": 65_535, "Columns": 65_535}, "frame size: expected at most 16777216 pixels, got 65535 x 65535"),
        ({"Rows": 1, "Columns": 65_535, "PixelAspectRatio": [1, 8]}, None),
    ],
)
def test_a_dicom_of_absurd_size_is_refused(tmp_path: Path, tags: dict, words: str | None):
    row = bytes([0x81, 0x00]) * 4096  # run-length code of zeros
    content = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    segment = struct.pack("<16L", 1, 64, *[0] * 14) + row
    content += struct.pack("<HHL", 0xFFFE, 0xE000, len(segment)) + segment
    write_dicom(tmp_path / "a.dcm", syntax="1.2.840.10008.1.2.5", frames=1, content=content, **tags)
    result, peak = measure("video", tmp_path / "a.dcm")
    assert words is None or result.startswith(words), result
    assert peak < MAX_RESIDENT_MIB


@pytest.mark.slow
def test_a_gif_of_absurd_size_is_refused(tmp_path: Path):
    head = b"GIF89a" + struct.pack("<HHBBB", 40_000, 40_000, 0x80, 0, 0) + bytes(6)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 40_000, 40_000, 0) + b"\x02\x02\x44\x01\x00"
    (tmp_path / "a.gif").write_bytes(head + image * 3 + b"\x3b")
    result, peak = measure("video", tmp_path / "a.gif", address_space_gib=8)
    assert not result.startswith("read"), result
    assert peak < MAX_RESIDENT_MIB


@pytest.mark.parametrize(
    ("width", "height", "aspect"),
    [(3840, 2160, 1.0), (4096, 2160, 1.0), (720, 576, 1.42), (352, 576, 2.9), (720, 288, 0.5)],
)
def test_usual_frame_sizes_are_read(width: int, height: int, aspect: float):
    check_frame_size(width, height, aspect)


def test_a_video_of_usual_size_keeps_its_pixel_limit(make_video: WriteVideo):
    assert read_video_info(make_video("a.mp4")).width == 64
    with pytest.raises(DataError, match="got 4097 x 4096"):
        check_frame_size(4097, 4096)
