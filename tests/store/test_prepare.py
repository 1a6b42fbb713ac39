"""From the catalogue to the prepared store: once, complete or not at all; a failure concerns one scan only."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from usvs.cli import main
from usvs.errors import DataError, ResourceError
from usvs.store import crops, writer
from usvs.store.catalogue import Catalogue
from usvs.store.folder import lock_store
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import ClipSettings, PrepareSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
SETTINGS = PrepareSettings(frame_pixels=32)


@pytest.fixture
def store(make_video, tmp_path: Path) -> Path:
    sound = 0.3 * np.sin(np.arange(48_000) * 0.2)
    make_video("p1/a.mp4", count=25, sound=sound)
    make_video("p1/b.mp4", count=30)
    make_video("p2/c.mp4", count=25, sound=sound)
    folder = tmp_path / "archive" / "p2"
    (folder / "c.gaze.csv").write_text(
        "timestamp_us,x,y,valid\n" + "".join(f"{11_000 * n},0.5,0.5,1\n" for n in range(60))
    )
    (folder / "c.planes.csv").write_text("start_seconds,end_seconds,plane\n0.5,1.0,femur\n")
    index(tmp_path)
    return tmp_path / "store"


def index(tmp_path: Path) -> None:
    index_archive(tmp_path / "archive", tmp_path / "store", clips=CLIPS, workers=1)


def files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (store / "prepared").rglob("*")}


def key_of(store: Path, path: str) -> str:
    return {row["path"]: row["scan_key"] for row in Catalogue.load(store).scans.to_pylist()}[path]


def test_everything_of_a_scan_is_there(store: Path):
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    assert (summary.prepared, summary.failed, summary.frames, summary.differences) == (3, 0, 80, {})
    prepared = PreparedStore(store)
    scan = prepared.scan(prepared.scans.index(key_of(store, "p2/c.mp4")))
    np.testing.assert_allclose(scan.frame_seconds, np.arange(25) / 20, atol=1e-6)
    assert scan.frames(np.arange(25)).shape == (25, 32, 32)
    assert len(scan.speech(0.0, 30_000)) == 30_000  # 1.25 s: the sound ends after one and is silent from there on
    assert np.abs(scan.speech(0.2, 4800)).max() > 5000 and np.abs(scan.speech(1.1, 2400)).max() < 20
    np.testing.assert_array_equal(scan.planes, np.where((np.arange(25) >= 10) & (np.arange(25) < 20), 3, -1))
    assert np.isfinite(scan.gaze[:13]).all() and np.isnan(scan.gaze[15:]).all()
    assert not prepared.scan(prepared.scans.index(key_of(store, "p1/b.mp4"))).has_sound


def test_clips_carry_scan_and_patient_numbers(store: Path):
    prepare_store(store, profile=SETTINGS, workers=1)
    prepared = PreparedStore(store)
    clips = prepared.clips
    np.testing.assert_array_equal(clips.scan, [0, 0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(clips.start_seconds, [0, 0.5, 0, 0.5, 1.0, 0, 0.5])
    assert clips.scan_patient[0] == clips.scan_patient[1] != clips.scan_patient[2]
    np.testing.assert_array_equal(clips.has_sound, [1, 1, 0, 0, 0, 1, 1])


def test_a_scan_that_is_not_prepared_is_never_left_out_unnoticed(store: Path):
    prepare_store(store, profile=SETTINGS, workers=1)
    (store / "prepared" / PreparedStore(store).scans[0] / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"1 of 3 scans are not prepared or not up to date .*; run: usvs prepare "):
        PreparedStore(store)


def test_scans_that_failed_are_left_out_with_a_warning(store: Path, tmp_path: Path, caplog):
    everything = Catalogue.load(store).scans["scan_key"].to_pylist()
    (tmp_path / "archive/p1/a.mp4").unlink()
    prepare_store(store, profile=SETTINGS, workers=1)
    rest = PreparedStore(store)
    assert rest.scans == tuple(everything[1:])
    np.testing.assert_array_equal(rest.clips.scan, [0, 0, 0, 1, 1])
    assert len(rest.clips.scan_patient) == 2
    assert "1 of 3 usable scans could not be prepared and is not used" in caplog.text


def test_failed_scans_end_the_command_with_their_paths(store: Path, tmp_path: Path, caplog):
    (tmp_path / "archive/p1/a.mp4").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(store), "--workers", "1", "--set", "frame_pixels=40"])
    assert ended.value.code == 3
    assert "failed: p1/a.mp4: the video does not exist in the archive any more" in caplog.text
    assert "1 of 3 scans failed" in caplog.text


def test_a_second_time_does_only_what_is_needed(store: Path, tmp_path: Path):
    prepare_store(store, profile=SETTINGS, workers=1)
    before = files(store)
    assert prepare_store(store, profile=SETTINGS, workers=1).unchanged == 3
    assert files(store) == before
    (tmp_path / "archive/p2/c.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1.0,4CH\n")
    index(tmp_path)
    assert prepare_store(store, profile=SETTINGS, workers=1).prepared == 1
    assert prepare_store(store, profile=SETTINGS.model_copy(update={"jpeg_quality": 80}), workers=1).prepared == 3


def test_a_scan_without_checksums_of_its_frames_is_prepared_again(store: Path):
    prepare_store(store, profile=SETTINGS, workers=1)
    folder = next((store / "prepared").iterdir())
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["frame_crc32.npy"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "frame_crc32.npy").unlink()
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    assert (summary.prepared, summary.unchanged) == (1, 2) and (folder / "frame_crc32.npy").exists()


def test_what_a_killed_run_left_is_removed(store: Path):
    (store / "prepared" / ".partial.abc.123").mkdir()
    (store / "prepared" / ".partial.abc.123" / "frames.bin").write_bytes(b"x")
    prepare_store(store, profile=SETTINGS, workers=1)
    assert sorted(path.name for path in (store / "prepared").iterdir()) == sorted(PreparedStore(store).scans)


def test_one_scans_failure_is_reported_by_key_and_the_others_go_on(store: Path, tmp_path: Path):
    gone, changed = tmp_path / "archive/p1/a.mp4", tmp_path / "archive/p1/b.mp4"
    gone.unlink()
    os.utime(changed, ns=(1, 1))
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    assert (summary.prepared, summary.failed) == (1, 2)
    assert "changed since" in summary.failures[key_of(store, "p1/b.mp4")]
    assert "the video does not exist in the archive any more" in summary.failures[key_of(store, "p1/a.mp4")]
    for name in ("p1", "a.mp4", str(tmp_path)):
        assert not any(name in reason for reason in summary.failures.values())
    assert len(PreparedStore(store).scans) == 1


def test_a_companion_that_is_gone_is_named(store: Path, tmp_path: Path):
    (tmp_path / "archive/p2/c.gaze.csv").unlink()
    reason = prepare_store(store, profile=SETTINGS, workers=1).failures[key_of(store, "p2/c.mp4")]
    assert reason == "the gaze file does not exist in the archive any more: index the archive again"


def test_a_full_disc_ends_the_run_at_once_and_the_next_goes_on(store: Path, monkeypatch: pytest.MonkeyPatch):
    real, folders = writer._save, set()

    def full(path: Path, values: np.ndarray) -> str:
        folders.add(path.parent)
        if len(folders) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, values)

    words = r"No space left on device; 1 of 3 scans are prepared; free some space, then run the same command again"
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_save", full)
        with pytest.raises(ResourceError, match=words):
            prepare_store(store, profile=SETTINGS, workers=1)
    assert len(folders) == 2 and len(list((store / "prepared").iterdir())) == 1  # the third was not tried
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    assert (summary.prepared, summary.unchanged) == (2, 1)


def test_a_file_replaced_while_it_is_prepared_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch):
    real = crops.iter_gray_frames

    def replaced(path: Path, *given):
        for number, frame in enumerate(real(path, *given)):
            if number == 5 and path.name == "b.mp4":
                os.utime(path, ns=(1, 1))
            yield frame

    monkeypatch.setattr(crops, "iter_gray_frames", replaced)
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    key = key_of(store, "p1/b.mp4")
    assert "has changed while it was prepared" in summary.failures[key]
    assert summary.prepared == 2 and not (store / "prepared" / key).exists()


def test_frames_lost_to_damage_are_reported_or_end_the_scan(make_video, tmp_path: Path):
    make_video("good.mp4")
    options = {"g": "1", "bf": "0"}  # keyframes alone, so that damage stays in its frame
    slight = make_video("slight.mp4", count=60, size=(96, 128), options=options)
    ruined = make_video("ruined.mp4", count=60, size=(96, 128), options=options)
    for path, pieces in ((slight, 1), (ruined, 40)):
        content = bytearray(path.read_bytes())
        first = content.find(b"mdat") + 4
        length = (content.find(b"moov") - first) // 60
        for piece in range(pieces):
            start = first + (piece + 10) * length
            content[start : start + length] = bytes(length)
        path.write_bytes(bytes(content))
    index(tmp_path)
    store = tmp_path / "store"
    summary = prepare_store(store, profile=SETTINGS, workers=1)
    reported = {**summary.failures, **summary.differences}
    assert key_of(store, "slight.mp4") in reported
    assert key_of(store, "ruined.mp4") in reported
    assert key_of(store, "good.mp4") not in reported


def test_what_cannot_be_prepared_ends_in_one_sentence(store: Path, tmp_path: Path):
    with pytest.raises(DataError, match="has no prepared scan; run: usvs prepare "):
        PreparedStore(store)
    with pytest.raises(DataError, match="is not a store"):
        prepare_store(tmp_path, profile=SETTINGS, workers=1)
    with lock_store(store), pytest.raises(DataError, match="is in use by another usvs process"):
        prepare_store(store, profile=SETTINGS, workers=1)
    (tmp_path / "archive").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="does not exist: restore it"):
        prepare_store(store, profile=SETTINGS, workers=1)


def test_a_process_that_prepares_starts_without_torch():
    """Each of a pool's processes would take seconds and 180 MB for it."""
    code = "import sys, usvs.store.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_the_store_is_for_its_owner_only(store: Path):
    assert store.stat().st_mode & 0o777 == 0o700
