"""From a folder of files to the catalogue: what is found, what is skipped and why, and what messages may contain."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.indexing import index, rows
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.media.timing import Timing
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.inspect_scan import clip_count
from usvs.store.settings import ClipSettings


def test_a_scan_and_its_companion_files(make_video, archive: Path, store: Path):
    noise = 0.3 * np.sin(np.arange(48_000) * 0.5)
    noise[:24_000] *= 1e-3
    make_video("Doe Jane/one.mp4", count=25, sound=noise)
    make_video("Doe Jane/two.MP4", count=25)
    make_video("top.mkv", count=25)
    (archive / "Doe Jane/one.gaze.csv").write_text("timestamp_us,x,y,valid\n0,0.5,0.5,1\n")
    (archive / "Doe Jane/one.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,femur\n")
    (archive / "Doe Jane/two.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,\n")
    (archive / "notes.txt").write_text("Jane Doe")
    summary = index(archive, store)
    assert (summary.found, summary.usable, summary.no_sound, summary.no_gaze, summary.no_planes) == (3, 3, 2, 2, 2)
    assert summary.patients == 1 and summary.no_patient == 1 and summary.other == {".txt": 1}
    assert [file for file, reason in summary.unused_tables if "expected a plane, got none" in reason] == [
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


def test_an_archive_is_never_written_to(make_video, archive: Path, store: Path):
    make_video("x/a.mp4")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in archive.rglob("*"))
    index(archive, store)
    assert sorted((str(path), path.stat().st_mtime_ns) for path in archive.rglob("*")) == before
    with pytest.raises(ConfigError, match="is inside the archive"):
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
    with pytest.raises(ResourceError, match=r"^store '.*' could not be written: Not a directory"):
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
