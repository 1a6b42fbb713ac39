"""Indexing an archive again, after changes and after interruptions: what is inspected, and what is kept."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.indexing import CLIPS, index, rows
from usvs.store.catalogue import Catalogue


def record_inspections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from usvs.store import indexing

    inspected: list[str] = []
    inspect_scan = indexing.inspect_scan

    def counted(task):
        inspected.append(task.files.path)
        return inspect_scan(task)

    monkeypatch.setattr(indexing, "inspect_scan", counted)
    return inspected


def test_indexing_again_keeps_keys_and_sees_changes(make_video, archive: Path, store: Path):
    make_video("a.mp4")
    index(archive, store)
    before = rows(store)["a.mp4"]
    make_video("b.mp4")
    assert index(archive, store).found == 2
    assert rows(store)["a.mp4"] == before


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


def test_other_rules_for_the_sector_are_other_crops(make_video, archive: Path, store: Path, monkeypatch):
    """A catalogue of an earlier revision has crops that this revision would not find."""
    make_video("a.mp4")
    index(archive, store)
    inspected = record_inspections(monkeypatch)
    index(archive, store)
    assert inspected == []
    monkeypatch.setattr("usvs.store.indexing.SECTOR_RULES", -1)
    index(archive, store)
    assert inspected == ["a.mp4"]


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


def test_what_a_kill_after_publishing_leaves_is_removed_by_the_next_index(make_video, archive: Path, store: Path):
    make_video("a.mp4")
    index(archive, store)
    catalogue = store / "catalogue"
    complete = sorted(path.name for path in catalogue.iterdir())
    (catalogue / ".index_journal").write_bytes(b"")
    (catalogue / "clips.older").mkdir()
    index(archive, store)
    assert sorted(path.name for path in catalogue.iterdir()) == complete


@pytest.mark.slow
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
