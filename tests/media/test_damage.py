"""Damaged files: each is skipped with its reason and affects no other scan."""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.support.dicom_files import gray_frames, jpegs, write_dicom
from tests.support.media_files import write_video
from usvs.archive.discovery import ScanFiles
from usvs.audio.settings import VoiceActivitySettings
from usvs.media.video import read_video_info
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
NAME = "Doe_Jane"


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory) -> Path:
    """One small undamaged file of each kind."""
    folder = tmp_path_factory.mktemp("undamaged")
    sound = 0.3 * np.sin(np.arange(48_000) * 0.2)
    given = {"count": 60, "size": (96, 128), "options": {"g": "10", "preset": "ultrafast"}}
    for ending in ("mp4", "mov", "mkv"):
        write_video(folder / f"a.{ending}", sound=sound, **given)
    write_video(folder / "fast.mp4", container_options={"movflags": "faststart"}, **given)
    write_video(folder / "a.avi", count=60, codec="mpeg4", sound=sound, sound_codec="pcm_s16le", options={"bf": "0"})
    write_video(folder / "a.mpg", count=60, rate=25, codec="mpeg2video")
    write_video(folder / "a.gif", count=20, codec="gif", form="rgb8")
    write_dicom(folder / "a.dcm", np.repeat(gray_frames(size=(96, 128)), 10, axis=0), FrameTime=40)
    frames = np.repeat(gray_frames(size=(96, 128)), 10, axis=0)
    write_dicom(folder / "jpeg.dcm", frames, syntax="1.2.840.10008.1.2.4.50", content=jpegs(frames), FrameTime=40)
    return folder


def reason(path: Path, archive: Path) -> str | None:
    task = IndexTask(archive, ScanFiles(path.name), CLIPS, VoiceActivitySettings())
    found = inspect_scan(task).reason
    assert found is None or (NAME not in found and str(archive) not in found and "\n" not in found), found
    return found


KINDS = ["a.mp4", "fast.mp4", "a.mov", "a.mkv", "a.avi", "a.mpg", "a.gif", "a.dcm", "jpeg.dcm"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_file_is_accepted(undamaged: Path, kind: str):
    assert reason(undamaged / kind, undamaged) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.02, 0.5])
def test_a_truncated_file_is_skipped(undamaged: Path, tmp_path: Path, kind: str, fraction: float):
    content = (undamaged / kind).read_bytes()
    path = tmp_path / f"{NAME}{Path(kind).suffix}"
    path.write_bytes(content[: int(len(content) * fraction)])
    assert reason(path, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_without_frames_is_skipped(undamaged: Path, tmp_path: Path, kind: str):
    content = (undamaged / kind).read_bytes()
    begins = {"mp4": b"mdat", "mov": b"mdat", "mkv": b"\x1f\x43\xb6\x75", "avi": b"movi", "dcm": b"\xe0\x7f\x10\x00"}
    ending = Path(kind).suffix[1:]
    at = content.find(begins[ending]) if ending in begins else 40
    path = tmp_path / f"{NAME}.{ending}"
    path.write_bytes(content[: at + 8])
    assert reason(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("letter.mp4", b"Dear colleague, the patient " * 50),
        ("zero.mp4", b""),
        ("nothing.avi", bytes(4000)),
        ("noise.mkv", random.Random(0).randbytes(20_000)),
        ("archive.mp4", b"PK\x03\x04" + bytes(2000)),
        ("page.gif", b"<html><body>404</body></html>"),
        ("subtitles.mp4", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n" * 20),
        ("empty.dcm", bytes(128) + b"DICM"),
    ],
)
def test_another_kind_of_file_with_a_video_suffix_is_skipped(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / f"{NAME}_{name}"
    path.write_bytes(content)
    assert reason(path, tmp_path)


def test_an_unknown_codec_and_a_contradictory_header_are_skipped(undamaged: Path, tmp_path: Path):
    content = (undamaged / "a.avi").read_bytes()
    assert content.count(b"FMP4") == 2
    (tmp_path / "a.avi").write_bytes(content.replace(b"FMP4", b"Zz9~"))
    assert "codec is not known" in str(reason(tmp_path / "a.avi", tmp_path))
    for name, tags in (("bits", {"BitsStored": 99}), ("kind", {"PhotometricInterpretation": "MONOCHROVA2"})):
        write_dicom(tmp_path / f"{name}.dcm", FrameTime=40, **tags)
        assert "contradicts itself" in str(reason(tmp_path / f"{name}.dcm", tmp_path))


def test_audio_with_a_video_suffix_is_skipped(tmp_path: Path):
    import soundfile

    path = tmp_path / f"{NAME}.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    assert "no video stream" in str(reason(path.rename(path.with_suffix(".mp4")), tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_raise_no_exception(undamaged: Path, tmp_path: Path, kind: str):
    """The result is a reason, or a scan with counted losses; never an exception, never a hang."""
    content = (undamaged / kind).read_bytes()
    rng = random.Random(kind)
    for number in range(6):
        damaged = bytearray(content)
        for _ in range(1 + 4**number % 200):
            at = rng.randrange(len(damaged))
            damaged[at] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{NAME}{number}{Path(kind).suffix}"
        path.write_bytes(bytes(damaged))
        reason(path, tmp_path)


def test_an_archive_with_damaged_and_undamaged_files(undamaged: Path, tmp_path: Path):
    """Undamaged scans are prepared; the others are rows with a reason; no scan is lost or replaced."""
    archive, store = tmp_path / "archive", tmp_path / "store"
    for number, kind in enumerate(KINDS):
        content = (undamaged / kind).read_bytes()
        folder = archive / f"{NAME}_{number}"
        folder.mkdir(parents=True)
        (folder / f"undamaged_file{Path(kind).suffix}").write_bytes(content)
        (folder / f"zero{Path(kind).suffix}").write_bytes(b"")
        (folder / f"head{Path(kind).suffix}").write_bytes(content[:48])
    (archive / "renamed").mkdir()
    (archive / "renamed" / "really_mp4.avi").write_bytes((undamaged / "a.mp4").read_bytes())
    summary = index_archive(archive, store, clips=CLIPS, workers=1)
    rows = {row["path"]: row for row in Catalogue.load(store).scans.to_pylist()}
    assert len(rows) == summary.found == 3 * len(KINDS) + 1
    bad = {path for path in rows if Path(path).stem in ("zero", "head")}
    assert {path for path, row in rows.items() if row["status"] == "skipped"} == bad
    assert all(rows[path]["reason"] for path in bad)
    assert "the file is mov" in rows["renamed/really_mp4.avi"]["file_note"]
    prepared = prepare_store(store, profile=PrepareSettings(frame_pixels=32), workers=1)
    assert prepared.failed == 0 and not prepared.differences
    assert len(PreparedStore(store).scans) == len(KINDS) + 1


def test_a_fragmented_mp4_truncated_inside_a_fragment_is_skipped(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", count=60, container_options={"movflags": "frag_keyframe+empty_moov"})
    assert reason(path, tmp_path) is None
    path.write_bytes(path.read_bytes()[:-200])
    assert reason(path, tmp_path) == "truncated: the file is shorter than the lengths stored in it"


def test_an_mp4_with_a_damaged_frame_table_is_skipped(undamaged: Path, tmp_path: Path):
    """FFmpeg stops at the first frame with an invalid position, without an error."""
    content = bytearray((undamaged / "a.mp4").read_bytes())
    at = content.find(b"stco") + 4  # version and flags, number of entries, then the position of each chunk
    assert int.from_bytes(content[at + 4 : at + 8], "big") > 2
    content[at + 16] = 0x7F
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(content))
    assert str(reason(path, tmp_path)).startswith("damaged: expected 3.0 s of video as stated in the header, got ")


def test_avchd_and_parts_of_broadcasts_are_accepted(tmp_path: Path):
    """AVCHD has four bytes before each packet; a part of a broadcast begins inside a packet."""
    given = {"count": 60, "rate": 25, "sound": 0.1 * np.sin(np.arange(115_200) * 0.2)}
    card = write_video(tmp_path / "a.mts", container_options={"mpegts_m2ts_mode": "1"}, **given)
    assert card.read_bytes()[4] == 0x47 and card.stat().st_size % 188 != 0
    assert reason(card, tmp_path) is None and read_video_info(card).file_note is None
    plain = write_video(tmp_path / "a.ts", **given)
    assert reason(plain, tmp_path) is None and read_video_info(plain).file_note is None
    content = plain.read_bytes()
    for name, part in (("begin.ts", content[77:]), ("end.ts", content[:-77])):
        (tmp_path / name).write_bytes(part)
    assert reason(tmp_path / "begin.ts", tmp_path) is None
    assert reason(tmp_path / "end.ts", tmp_path) == "truncated: the file is shorter than the lengths stored in it"


def test_a_video_with_the_suffix_gif_is_read_by_content(undamaged: Path, tmp_path: Path):
    path = tmp_path / "a.gif"
    path.write_bytes((undamaged / "a.mp4").read_bytes())
    assert reason(path, tmp_path) is None and "the file is mov: read as mov" in str(read_video_info(path).file_note)
