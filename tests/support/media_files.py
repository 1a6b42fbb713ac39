"""Small media files encoded with PyAV, with known ground truth."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from usvs.store.settings import PrepareSettings
from usvs.store.writer import write_prepared_scan

WriteVideo = Callable[..., Path]


def _pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [np.clip(np.full((height, width), 40 + 2 * n % 150) + rng.integers(0, 9), 0, 255) for n in range(count)]


def write_video(
    path: Path,
    *,
    seconds: Sequence[float] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    rate: int = 20,
    count: int = 20,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    form: str = "yuv420p",
    full_range: bool = False,
    sound: np.ndarray | None = None,
    sound_rate: int = 48_000,
    sound_start: float = 0.0,
    sound_codec: str = "aac",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write gray images [H, W] shown at `seconds`, and mono audio whose sample 0 is at `sound_start` seconds."""
    pictures = pictures if pictures is not None else _pictures(count, *size)
    seconds = seconds if seconds is not None else [n / rate for n in range(len(pictures))]
    height, width = pictures[0].shape
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = width, height, form
        video.codec_context.thread_count = 1
        base = Fraction(1, 90_000) if path.suffix in {".mp4", ".mov", ".mkv"} else Fraction(1, rate)
        video.codec_context.time_base = base
        if full_range:
            video.codec_context.color_range = 2
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=sound_rate)
            audio.layout = "mono"
        for moment, picture in zip(seconds, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[:, :, None], 3, 2).astype(np.uint8), format="rgb24")
            frame = frame.reformat(format=form, dst_color_range="JPEG" if full_range else "MPEG")
            frame.pts, frame.time_base = round(moment / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            _write_sound(container, audio, sound, sound_rate, sound_start)
    return path


def _write_sound(container, stream, sound: np.ndarray, rate: int, start: float) -> None:
    planar = stream.codec_context.name == "aac"
    for first in range(0, len(sound), 1024):
        piece = sound[first : first + 1024].astype(np.float32)
        samples = piece if planar else np.clip(np.round(piece * 32767), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp" if planar else "s16", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + first
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def make_video(tmp_path: Path) -> WriteVideo:
    """Return a function: `make_video("a/b.mp4", ...)` writes a video in tmp_path/archive; see `write_video`."""

    def make(name: str, **settings) -> Path:
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_video(path, **settings)

    return make


@pytest.fixture
def make_prepared() -> Callable[..., Path]:
    """Return a function: `make_prepared(folder, pictures, ...)` writes a prepared scan without an archive."""

    def make(folder: Path, pictures: np.ndarray, rate: float = 20.0, **settings) -> Path:
        given = {
            "scan_key": folder.name,
            "patient_key": "feedbeef0001",
            "frames": ((n / rate, picture) for n, picture in enumerate(pictures)),
            "speech": None,
            "gaze": None,
            "planes": None,
            "settings": PrepareSettings(frame_pixels=pictures.shape[1]),
            "sector": (0, 0, 10, 10),
            "source": {"bytes": 1, "modified_ns": 2},
        }
        write_prepared_scan(folder, **(given | settings))
        return folder

    return make
