"""Discovery of scans, with names and folders as they occur in practice."""

import os
import unicodedata
from pathlib import Path

import pytest

from tests.support.dicom_files import write_dicom
from usvs.archive.discovery import ArchiveListing, discover_scans, iter_paths
from usvs.archive.discovery import ScanFiles as Scan
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.settings import ClipSettings


def discover_files(
    archive: Path, *names: str, manifest: str | None = None, manifest_name: str = "manifest.csv"
) -> ArchiveListing:
    for name in names:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_bytes(b"x")
    if manifest is not None:
        (archive / manifest_name).write_text(manifest)
    return discover_scans(archive)


def scans(found: ArchiveListing) -> dict[str, Scan]:
    return {scan.path: scan for scan in found.scans}


def test_names_that_differ_in_capitals_only_never_share_audio(tmp_path: Path):
    names = ("Anna/visit.mp4", "Anna/visit.wav", "anna/visit.mp4", "anna/visit.wav")
    eva, one_folder = ("eva/visit.mp4", "Eva/visit.mp4", "Eva/visit.wav"), ("p/A.mp4", "p/a.mp4", "p/a.wav")
    found = scans(discover_files(tmp_path, *names, *eva, *one_folder))
    assert {path: scan.sound for path, scan in found.items()} == {
        "Anna/visit.mp4": "Anna/visit.wav",
        "anna/visit.mp4": "anna/visit.wav",
        "Eva/visit.mp4": "Eva/visit.wav",
        "eva/visit.mp4": None,  # it has none, and must not use Eva's
        "p/A.mp4": None,  # likewise
        "p/a.mp4": "p/a.wav",
    }


def test_composed_and_decomposed_accents_are_equal(tmp_path: Path):
    one, two = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    found = discover_files(tmp_path, f"p/{two}.MP4", f"p/{one}.wav", manifest=f"scan,patient\nP/{one}.mp4,7\n")
    assert not found.missing and found.scans[0].patient == "7" and found.scans[0].sound == f"p/{one}.wav"


def test_one_scan_under_two_spellings_in_the_manifest_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match=r"scan 'p/a.mp4' is named twice, once as 'P/a.mp4'"):
        discover_files(tmp_path, "p/a.mp4", manifest="scan,patient\np/a.mp4,1\nP/a.mp4,2\n")


def test_the_manifest_is_found_with_any_capitals(tmp_path: Path):
    found = discover_files(tmp_path, "p/a.mp4", manifest="scan,patient\np/a.mp4,7\n", manifest_name="Manifest.CSV")
    assert found.scans[0].patient == "7" and found.other == {}


def test_dicom_files_with_numbered_names_share_no_companion(tmp_path: Path):
    for number in (10, 11):
        write_dicom(tmp_path / f"p/1.2.840.{number}", FrameTime=40)
    found = scans(discover_files(tmp_path, "p/1.2.840.wav", "p/1.2.840.10.wav"))
    assert {path: scan.sound for path, scan in found.items()} == {
        "p/1.2.840.10": "p/1.2.840.10.wav",
        "p/1.2.840.11": None,
    }


def test_linked_folders_are_followed_and_cycles_are_not(tmp_path: Path):
    archive, elsewhere = tmp_path / "lab/archive", tmp_path / "elsewhere"
    discover_files(elsewhere, "visit/far.mp4")
    (archive / "p1").mkdir(parents=True)
    (archive / "p1/near.mp4").write_bytes(b"x")
    (archive / "p2").symlink_to(elsewhere)
    (archive / "p3").symlink_to(elsewhere / "visit")  # visited already
    (archive / "p1/up").symlink_to("..")
    (archive / "p1/above").symlink_to(tmp_path / "lab")
    (elsewhere / "visit/again").symlink_to(elsewhere)
    assert list(scans(discover_scans(archive))) == ["p1/near.mp4", "p2/visit/far.mp4"]


def test_a_link_to_itself_ends_nothing(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "p"):
        folder.mkdir(exist_ok=True)
        (folder / "z.mp4").write_bytes(b"")
        (folder / "a.mp4").symlink_to("a.mp4")
        (folder / "b").symlink_to("b")
    unreadable: list[tuple[str, str]] = []
    assert sorted(iter_paths(tmp_path, unreadable)) == ["a.mp4", "b", "p/a.mp4", "p/b", "p/z.mp4", "z.mp4"]
    assert unreadable == [] and len(discover_scans(tmp_path).scans) == 4


def test_system_folders_are_not_searched(tmp_path: Path):
    found = discover_files(tmp_path, "p/a.mp4", "lost+found/b.mp4", "@eaDir/p/a.mp4", "p/._a.mp4", "p/Thumbs.db")
    assert list(scans(found)) == ["p/a.mp4"] and found.other == {".db": 1}


def test_a_pipe_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "live.mp4")
    os.mkfifo(tmp_path / "live")
    found = discover_files(tmp_path, "p/a.mp4")
    assert list(scans(found)) == ["live.mp4", "p/a.mp4"]
    facts = inspect_scan(IndexTask(tmp_path, Scan("live.mp4"), ClipSettings(), VoiceActivitySettings()))
    assert facts.reason == "not a regular file"
