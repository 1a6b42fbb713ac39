"""From a folder of files to the catalogue: what is found, what is skipped and why, and what messages may contain."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usvs.errors import ConfigError, DataError
from usvs.media.timing import Timing
from usvs.store.catalogue import Catalogue
from usvs.store.index_summary import IndexSummary
from usvs.store.indexing import index_archive
from usvs.store.inspect_scan import clip_count
from usvs.store.settings import ClipSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


def index(archive: Path, store: Path, clips: ClipSettings = CLIPS) -> IndexSummary:
    return index_archive(archive, store, clips=clips, workers=1)


def rows(store: Path) -> dict[str, dict]:
    return {row["path"]: row for row in Catalogue.load(store).scans.to_pylist()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def test_a_scan_and_its_companion_files(make_video, archive: Path, store: Path):
    noise = 0.3 * np.sin(np.arange(48_000) * 0.5)
    noise[:24_000] *= 1e-3
    make_video("Doe Jane/one.mp4", count=25, sound=noise)
    make_video("Doe Jane/two.MP4", count=25)
    make_video("top.mkv", count=25)
    (archive / "Doe Jane/one.gaze.csv").write_text("timestamp_us,x,y,valid\n0,0.5,0.5,1\n")
    (archive / "Doe Jane/one.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,femur\n")
    (archive / "Doe Jane/two.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,knee\n")
    (archive / "notes.txt").write_text("Jane Doe")
    summary = index(archive, store)
    assert (summary.found, summary.usable, summary.no_sound, summary.no_gaze, summary.no_planes) == (3, 3, 2, 2, 2)
    assert summary.patients == 1 and summary.no_patient == 1 and summary.other == {".txt": 1}
    assert [file for file, reason in summary.unused_tables if "unknown plane 'knee'" in reason] == [
        "Doe Jane/two.planes.csv"
    ]
    one, two, top = (rows(store)[path] for path in ("Doe Jane/one.mp4", "Doe Jane/two.MP4", "top.mkv"))
    assert one["patient_key"] == two["patient_key"] is not None and top["patient_key"] is None
    assert (one["frames"], one["width"], one["height"], one["clips"], one["sound"]) == (25, 64, 48, 2, "in_video")
    assert one["gaze"] and one["planes"] and not two["planes"] and two["sound"] == "none"
    assert one["duration_seconds"] == pytest.approx(1.25, abs=1e-3)
    clips = Catalogue.load(store).clips.to_pydict()
    assert clips["scan"] == [0, 0, 1, 1, 2, 2] and clips["start_seconds"] == [0.0, 0.5] * 3
    assert clips["speech_fraction"][0] < 0.1 and clips["speech_fraction"][1] > 0.9
    assert np.isnan(clips["speech_fraction"][2:]).all()
    assert one["high_affinity_clips"] == summary.high_affinity_clips == 1


def test_files_that_cannot_be_used_are_skipped_with_the_reason(make_video, archive: Path, store: Path):
    make_video("good.mp4")
    complete = make_video("a/Doe.mp4", count=60).read_bytes()
    (archive / "a/Doe.mp4").write_bytes(complete[: len(complete) // 2])
    (archive / "a/Zero.mp4").write_bytes(b"")
    (archive / "a/Letter.mp4").write_text("Dear Jane")
    summary = index(archive, store)
    assert (summary.found, summary.usable, summary.skipped) == (4, 1, 3)
    reasons = {path: row["reason"] for path, row in rows(store).items() if row["status"] == "skipped"}
    assert "empty" in reasons["a/Zero.mp4"]
    assert "not readable" in reasons["a/Doe.mp4"] and "not readable" in reasons["a/Letter.mp4"]
    assert sum(summary.reasons.values()) == 3
    assert not any(name in reason for name in ("Doe", "Zero", "Letter") for reason in summary.reasons)
    assert "a/Zero.mp4" in str(summary)  # the summary is for the owner, who must find the file


def test_a_name_cannot_command_the_terminal(make_video, archive: Path, store: Path):
    make_video("good.mp4")
    (archive / "a\nb\x1b[31m.mp4").write_bytes(b"")
    text = str(index(archive, store))
    assert "  skipped: a\\nb\\x1b[31m.mp4: the file is empty (0 bytes)" in text.splitlines()


def test_a_manifest_names_patients_and_sectors(make_video, archive: Path, store: Path):
    for name in ("x/a.mp4", "x/b.mp4", "x/c.mp4"):
        make_video(name)
    manifest = archive / "manifest.csv"
    manifest.write_text('scan,patient,sector\nx/a.mp4,p1,"4,6,60,40"\nx/b.mp4,p2,\nx/gone.mp4,p3,\n')
    summary = index(archive, store)
    found = rows(store)
    assert found["x/a.mp4"]["patient_key"] != found["x/b.mp4"]["patient_key"]
    assert found["x/c.mp4"]["patient_key"] is None  # not the folder's name: the manifest knows the patients
    assert [found["x/a.mp4"][f"sector_{side}"] for side in ("left", "top", "right", "bottom")] == [4, 6, 60, 40]
    assert found["x/gone.mp4"]["status"] == "skipped" and summary.skipped == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient\np1\n", "column 'scan' is missing"),
        ("scan,sector\na.mp4,wide\n", "line 2, column 'sector': expected"),
        ("scan,patient\na.mp4,p\na.mp4,q\n", "named twice"),
    ],
)
def test_a_mistake_in_the_manifest_ends_in_one_sentence(make_video, archive: Path, store: Path, text: str, words: str):
    make_video("a.mp4")
    (archive / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        index(archive, store)


def test_a_scan_whose_sector_is_outside_the_picture_is_skipped(make_video, archive: Path, store: Path):
    make_video("a.mp4"), make_video("b.mp4")
    (archive / "manifest.csv").write_text('scan,sector\na.mp4,"0,0,65,48"\n')
    (reason,) = index(archive, store).reasons
    assert reason.endswith("expected a sector inside the picture of 64 x 48 pixels, got 0,0,65,48")


def test_indexing_again_keeps_keys_and_sees_changes(make_video, archive: Path, store: Path):
    make_video("a.mp4")
    index(archive, store)
    before = rows(store)["a.mp4"]
    make_video("b.mp4")
    assert index(archive, store).found == 2
    assert rows(store)["a.mp4"] == before


def test_an_archive_is_never_written_to(make_video, archive: Path, store: Path):
    make_video("x/a.mp4")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in archive.rglob("*"))
    index(archive, store)
    assert sorted((str(path), path.stat().st_mtime_ns) for path in archive.rglob("*")) == before
    with pytest.raises(DataError, match="is inside the archive"):
        index(archive, archive / "store")


def test_a_folder_without_scans_ends_in_one_sentence(archive: Path, store: Path):
    with pytest.raises(DataError, match="is not a folder"):
        index(archive, store)
    archive.mkdir()
    with pytest.raises(DataError, match="is empty"):
        index(archive, store)
    (archive / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="no video among its 1 files"):
        index(archive, store)
    (archive / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of its 1 videos is usable \(a.mp4: the file is empty"):
        index(archive, store)


def test_a_store_that_cannot_be_or_is_something_else_ends_in_one_sentence(make_video, archive: Path, tmp_path: Path):
    make_video("a.mp4")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not writable"):
        index(archive, tmp_path / "file" / "store")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.doc").write_text("")
    with pytest.raises(DataError, match="contains other files"):
        index(archive, home)
    store = tmp_path / "store"
    index(archive, store)
    other = tmp_path / "other"
    archive.rename(other)
    index(other, store)  # the same files in another place
    shutil.copytree(other, archive)
    with pytest.raises(DataError, match=r"belongs to archive .*, not to .*: 1 of 1 video of the store .* --moved"):
        index(archive, store)
    (archive / "a.mp4").write_bytes(b"another")
    with pytest.raises(DataError, match=r"belongs to archive .*: 0 of 1 video of the store are there"):
        index(archive, store)


def test_what_is_no_store_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="is not a store"):
        Catalogue.load(tmp_path)


def test_a_name_that_is_no_utf8_is_counted(make_video, archive: Path, store: Path):
    path = make_video("a.mp4")
    path.rename(os.fsdecode(os.fsencode(archive) + b"/caf\xe9.mp4"))
    make_video("b.mp4")
    summary = index(archive, store)
    assert summary.found == 1 and summary.other == {"with a name not in UTF-8": 1}


def record_inspections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from usvs.store import indexing

    inspected: list[str] = []
    inspect_scan = indexing.inspect_scan

    def counted(task):
        inspected.append(task.files.path)
        return inspect_scan(task)

    monkeypatch.setattr(indexing, "inspect_scan", counted)
    return inspected


def test_only_what_has_changed_is_inspected_again(make_video, archive: Path, store: Path, monkeypatch):
    sound = 0.3 * np.sin(np.arange(48_000) * 0.5)
    for number in range(5):
        make_video(f"p/{number}.mp4", count=25 + number, sound=sound if number % 2 else None)
    (archive / "p/9.mp4").write_bytes(b"")
    first = index(archive, store)
    before, clips = rows(store), Catalogue.load(store).clips.to_pydict()
    files = {path.name: path.stat().st_mtime_ns for path in (store / "catalogue").iterdir()}
    inspected = record_inspections(monkeypatch)
    assert str(index(archive, store)) == str(first) and inspected == []
    assert files == {path.name: path.stat().st_mtime_ns for path in (store / "catalogue").iterdir()}
    (archive / "p/3.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,femur\n")
    make_video("p/2b.mp4", count=50, sound=sound)
    (archive / "p/0.mp4").unlink()
    second = index(archive, store)
    assert inspected == ["p/2b.mp4", "p/3.mp4"]
    assert (second.found, second.usable, second.skipped) == (6, 5, 1)
    after = rows(store)
    assert after["p/3.mp4"]["planes"] and {path: after[path] for path in ("p/1.mp4", "p/2.mp4", "p/9.mp4")} == {
        path: before[path] for path in ("p/1.mp4", "p/2.mp4", "p/9.mp4")
    }
    found = Catalogue.load(store).clips.to_pydict()
    numbers = {path: number for number, path in enumerate(after)}
    for path, old in (("p/1.mp4", 1), ("p/4.mp4", 4)):
        for name in ("start_seconds", "speech_fraction"):
            now = [value for value, scan in zip(found[name], found["scan"], strict=True) if scan == numbers[path]]
            was = [value for value, scan in zip(clips[name], clips["scan"], strict=True) if scan == old]
            assert now == was or (name == "speech_fraction" and np.isnan(now).all() and np.isnan(was).all())
    inspected.clear()
    index(archive, store, CLIPS.model_copy(update={"speech_fraction_high": 0.9}))
    assert len(inspected) == 6, "other settings, other rows"


def test_an_index_that_is_interrupted_leaves_the_old_catalogue(make_video, archive: Path, store: Path, monkeypatch):
    from usvs.store import indexing

    make_video("a.mp4")
    index(archive, store)
    before = rows(store)
    make_video("b.mp4")

    def interrupted(task):
        raise KeyboardInterrupt

    monkeypatch.setattr(indexing, "inspect_scan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index(archive, store)
    assert rows(store) == before and Catalogue.load(store).clips.num_rows == 2
    monkeypatch.undo()
    assert index(archive, store).usable == 2
    assert len(list((store / "catalogue").glob("clips.*"))) == 1


def test_an_index_that_is_interrupted_resumes(make_video, archive: Path, store: Path, monkeypatch, caplog):
    from usvs.store import indexing

    sound = 0.3 * np.sin(np.arange(48_000) * 0.5)
    for number in range(6):
        make_video(f"Doe/{number}.mp4", count=25 + number, sound=sound if number % 2 else None)
    (archive / "Doe/1b.mp4").write_bytes(b"")
    complete = archive.parent / "complete"
    index(archive, complete)
    inspect_scan = indexing.inspect_scan

    def interrupted(task):
        if task.files.path == "Doe/4.mp4":
            raise KeyboardInterrupt
        return inspect_scan(task)

    monkeypatch.setattr(indexing, "inspect_scan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index(archive, store)
    monkeypatch.undo()
    (journal,) = (store / "catalogue").glob(".index_journal")
    journal.write_bytes(journal.read_bytes()[:-9])  # of Doe/3.mp4, as a kill leaves it
    make_video("Doe/1.mp4", count=40)
    make_video("Doe/0a.mp4", count=25)
    make_video("Doe/9.mp4", count=25)
    caplog.clear()
    inspected = record_inspections(monkeypatch)
    index(archive, store)
    assert inspected == [f"Doe/{name}.mp4" for name in ("0a", "1", "3", "4", "5", "9")]
    assert (
        "resuming an interrupted index, 3 scans of it are inspected already" in caplog.text and "Doe" not in caplog.text
    )
    assert not journal.exists()
    resumed, straight = rows(store), rows(complete)
    for path in ("Doe/0.mp4", "Doe/1b.mp4", "Doe/2.mp4", "Doe/3.mp4"):
        for name in straight[path].keys() - {"scan_key", "patient_key"}:  # another store has other keys
            assert resumed[path][name] == straight[path][name], f"{path}: {name}"
    clips = Catalogue.load(store).clips.to_pydict()
    assert clips["scan"] == sorted(clips["scan"]) and len(clips["scan"]) == sum(
        row["clips"] or 0 for row in resumed.values()
    )


def test_a_damaged_catalogue_is_named(make_video, archive: Path, store: Path):
    make_video("a.mp4")
    index(archive, store)
    (column,) = (store / "catalogue").glob("clips.*/scan.npy")
    column.write_bytes(column.read_bytes()[:-1])
    with pytest.raises(DataError, match="no readable clips"):
        Catalogue.load(store)
    assert index(archive, store).usable == 1, "and indexing mends it"
    (store / "catalogue" / "scans.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"no readable scans\.parquet"):
        Catalogue.load(store)


@pytest.mark.parametrize(
    ("frames", "frame_seconds", "clips"),
    [
        (120, 0.033333, 2),  # what a DICOM writes for a thirtieth of a second
        (120, 0.03333, 2),
        (119, 1 / 30, 1),
        (121, 1 / 30, 2),
        (3600, 0.033333, 60),
        (99, 0.02, 0),
        (9, 0.2, 0),  # a frame of five a second is missing
        (1, 1.97, 0),
    ],
)
def test_rounding_of_a_frames_length_costs_no_clip_and_makes_none(frames: int, frame_seconds: float, clips: int):
    timing = Timing.from_seconds(np.arange(frames) * frame_seconds, None)
    if frames == 1:
        timing = replace(timing, duration_seconds=frame_seconds, rate_hz=1 / frame_seconds)
    assert clip_count(timing, ClipSettings(clip_seconds=2)) == clips


def test_missing_scans_may_change_their_order_in_the_manifest(make_video, archive: Path, store: Path):
    make_video("a.mp4")
    for missing in (["gone1.mp4", "gone2.mp4"], ["gone2.mp4", "gone1.mp4"]):
        (archive / "manifest.csv").write_text("scan,patient\na.mp4,p\n" + "".join(f"{name},p\n" for name in missing))
        assert index(archive, store).skipped == 2
        assert list(rows(store)) == ["a.mp4", *missing]


def test_settings_of_the_index_are_objects_or_mappings(make_video, archive: Path, store: Path):
    make_video("a.mp4", count=40)
    index_archive(
        str(archive), str(store), clips={"clip_seconds": 1.0, "speech_seconds": 0.2, "order_spacing_seconds": 0.25}
    )
    assert Catalogue.load(str(store)).clips["start_seconds"].to_pylist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match=r"unknown setting 'clips\.seconds': did you mean 'clips\.clip_seconds'"):
        index_archive(archive, store, clips={"seconds": 1.0})
