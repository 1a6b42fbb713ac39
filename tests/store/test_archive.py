"""From media on disk to the prepared store: what is decoded, what is skipped, and what stays private."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.keys import Keys
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings

FLASH_SECONDS = (1.0, 3.0)  # when the picture turns white and the beep sounds
PICTURE = 64


def write_video(path: Path, seconds: float = 4.0) -> Path:
    """A dark video of 25 frames a second with white flashes, a beep at each of them, as H.264 and AAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate_hz = 48_000
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = PICTURE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=rate_hz)
        sound.layout = "mono"
        for number in range(round(25 * seconds)):
            now = number / 25
            level = 255 if any(flash <= now < flash + 0.2 for flash in FLASH_SECONDS) else 30
            frame = av.VideoFrame.from_ndarray(np.full((PICTURE, PICTURE), level, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = round(1000 * now), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        times = np.arange(round(rate_hz * seconds)) / rate_hz
        beeps = sum(((times >= flash) & (times < flash + 0.2)) for flash in FLASH_SECONDS)
        samples = (0.5 * np.sin(2 * np.pi * 1000 * times) * beeps).astype(np.float32)
        for first in range(0, len(samples) - 1023, 1024):
            piece = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
            piece.rate, piece.time_base = rate_hz, Fraction(1, rate_hz)
            piece.pts = first
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def mixed_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with one good scan and four that are not."""
    archive = tmp_path_factory.mktemp("mixed") / "archive"
    good = write_video(archive / "JANE_DOE" / "visit.mp4")
    bad = archive / "patient_b"
    bad.mkdir()
    (bad / "truncated.mp4").write_bytes(good.read_bytes()[:1500])
    (bad / "empty.mp4").write_bytes(b"")
    (bad / "letter.mp4").write_text("Dear colleague, ...")
    store = archive.parent / "store"
    index_archive(archive, store, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=48), workers=1)
    return store


def test_damaged_files_are_skipped_with_a_reason(mixed_store: Path):
    rows = {Path(row["path"]).name: row for row in Catalogue.load(mixed_store).scans.to_pylist()}
    assert rows["visit.mp4"]["status"] == "ok"
    for name in ("truncated.mp4", "empty.mp4", "letter.mp4"):
        assert rows[name]["status"] == "skipped", name
        assert rows[name]["reason"], name
    assert len(PreparedStore(mixed_store).scans) == 1


def test_prepared_frames_and_speech(mixed_store: Path):
    scan = PreparedStore(mixed_store).scan(0)
    assert len(scan.frame_seconds) == 100
    at_flash = scan.frames(scan.nearest_frames(np.array([0.5, 1.1])))
    assert at_flash.shape == (2, 48, 48)
    assert at_flash[0].mean() < 60
    assert at_flash[1].mean() > 240
    assert np.abs(scan.speech(1.02, 2400).astype(int)).max() > 10_000
    assert np.abs(scan.speech(0.2, 2400).astype(int)).max() < 500
    with pytest.raises(DataError):
        scan.speech(3.99, 24_000)


def test_names_stay_in_the_catalogue(mixed_store: Path):
    for file in (mixed_store / "prepared").rglob("*"):
        assert "JANE" not in file.name
        if file.is_file():
            assert b"JANE_DOE" not in file.read_bytes(), file.name


def test_prepare_again_does_nothing(mixed_store: Path):
    before = {file: file.stat().st_mtime_ns for file in (mixed_store / "prepared").rglob("*")}
    prepare_store(mixed_store, profile=PrepareSettings(frame_pixels=48), workers=1)
    assert {file: file.stat().st_mtime_ns for file in (mixed_store / "prepared").rglob("*")} == before


def test_store_and_key_are_private(mixed_store: Path):
    assert mixed_store.stat().st_mode & 0o077 == 0
    assert (mixed_store / "private.key").stat().st_mode & 0o077 == 0
    keys = Keys.load(mixed_store)
    assert keys.scan_key("a.mp4") == keys.scan_key("a.mp4") != keys.scan_key("b.mp4")
