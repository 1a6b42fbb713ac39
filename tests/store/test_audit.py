"""`usvs audit`: a flipped bit, a missing file, a changed source, a patient in two splits; and the contact sheet."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from usvs.cli import main
from usvs.errors import DataError
from usvs.store.audit import audit_store
from usvs.store.audit_archive import audit_archive
from usvs.store.catalogue import Catalogue
from usvs.store.contact_sheet import CAPTION_HEIGHT, CROP_COLOURS, GAP, LEGEND_HEIGHT, TILE_SIZE, save_contact_sheets
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.tasks.audit_runs import audit_run

AGAIN = "run 'usvs prepare'"
CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


@pytest.fixture
def archive(make_video, tmp_path: Path) -> Path:
    sound = 0.3 * np.sin(np.arange(48_000) * 0.2)
    make_video("Doe_Jane/a.mp4", count=25, sound=sound)
    make_video("Doe_Jane/b.mp4", count=30)
    make_video("Roe_Mary/c.mp4", count=26)
    (tmp_path / "archive/Roe_Mary/c.planes.csv").write_text("start_seconds,end_seconds,plane\n0.5,1.0,femur\n")
    return tmp_path / "archive"


def make_store(archive: Path) -> Path:
    store = archive.parent / "store"
    index_archive(archive, store, clips=CLIPS, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=32), workers=1)
    return store


def key_of(store: Path, path: str) -> str:
    return {row["path"]: row["scan_key"] for row in Catalogue.load(store).scans.to_pylist()}[path]


def findings_of(store: Path, **settings) -> list[str]:
    findings = [str(finding) for finding in audit_store(store, workers=1, **settings).findings]
    for name in ("Doe", "Roe", "a.mp4", str(store.parent)):
        assert not any(name in line for line in findings), findings
    assert not any("\n" in line for line in findings)
    return findings


def test_an_audit_before_preparing_says_that_nothing_is_checked_yet(archive: Path):
    store = archive.parent / "store"
    index_archive(archive, store, clips=CLIPS, workers=1)
    found = audit_store(store, workers=1)
    assert str(found) == "audit: no scan is prepared yet, so no file was checked; 0 problems found"


def test_a_whole_store_has_no_findings(archive: Path):
    store = make_store(archive)
    assert findings_of(store) == [] and audit_store(store, workers=1).scans == 3
    main(["audit", str(store), "--workers", "1"])  # and ends without an error


@pytest.mark.parametrize(
    "name",
    ["frames.bin", "frame_offsets.npy", "frame_seconds.npy", "gaze.npy", "speech.npy", "speech_crc32.npy"],
)
def test_one_flipped_bit_is_found(archive: Path, name: str):
    store = make_store(archive)
    key = key_of(store, "Doe_Jane/a.mp4")
    file = store / "prepared" / key / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    assert findings_of(store) == [f"scan {key}: {name} is damaged (its SHA-256 is not the manifest's): {AGAIN}"]
    assert findings_of(store, check_contents=False) == []  # that is what the quick audit leaves out


def test_missing_and_foreign_files_are_found(archive: Path):
    store = make_store(archive)
    a, b, c = (key_of(store, path) for path in ("Doe_Jane/a.mp4", "Doe_Jane/b.mp4", "Roe_Mary/c.mp4"))
    (store / "prepared" / a / "speech.npy").unlink()
    (store / "prepared" / b / "notes.txt").write_text("x")
    (store / "prepared" / c / "manifest.json").write_text("{}")
    (store / "prepared" / "0123456789ab").mkdir()
    assert set(findings_of(store)) == {
        f"scan {a}: speech.npy is missing: {AGAIN}",
        f"scan {b}: unexpected file notes.txt",
        f"scan {c}: manifest.json is damaged; {AGAIN}",
        "scan 0123456789ab: is prepared but not in the catalogue: remove its folder in 'prepared'",
    }


def test_a_scan_that_is_not_prepared_is_found(archive: Path):
    store = make_store(archive)
    key = key_of(store, "Doe_Jane/a.mp4")
    for file in (store / "prepared" / key).iterdir():
        file.unlink()
    (store / "prepared" / key).rmdir()
    assert findings_of(store) == [f"scan {key}: is not prepared: run 'usvs prepare'"]


def test_changed_sources_are_found(archive: Path):
    store = make_store(archive)
    a, b, c = (archive / path for path in ("Doe_Jane/a.mp4", "Doe_Jane/b.mp4", "Roe_Mary/c.planes.csv"))
    before = a.stat()
    content = bytearray(a.read_bytes())
    content[-1] ^= 1
    a.write_bytes(bytes(content))
    os.utime(a, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time as before: only the content differs
    b.unlink()
    c.write_text("start_seconds,end_seconds,plane\n0,1,4CH\n")
    keys = [key_of(store, path) for path in ("Doe_Jane/a.mp4", "Doe_Jane/b.mp4", "Roe_Mary/c.mp4")]
    assert findings_of(store) == [
        f"scan {keys[0]}: the video has changed since 'usvs prepare', though its size and time have not",
        f"scan {keys[1]}: the video does not exist in the archive any more",
        f"scan {keys[2]}: the planes file has changed since 'usvs prepare'",
    ]
    assert len(findings_of(store, check_contents=False)) == 2
    archive.rename(archive.with_name("moved"))
    assert findings_of(store) == ["archive: does not exist any more"]


def test_a_patient_in_two_splits_and_a_video_under_two_patients(archive: Path):
    (archive / "Roe_Mary/twin.mp4").write_bytes((archive / "Doe_Jane/b.mp4").read_bytes())
    rows = [
        ("Doe_Jane/a.mp4", "Doe", "train"),
        ("Doe_Jane/b.mp4", "Doe", "test"),
        ("Roe_Mary/c.mp4", "Roe", "test"),
        ("Roe_Mary/twin.mp4", "Roe", "test"),
    ]
    (archive / "manifest.csv").write_text("scan,patient,split\n" + "".join(",".join(row) + "\n" for row in rows))
    store = make_store(archive)
    patients = {row["path"]: row["patient_key"] for row in Catalogue.load(store).scans.to_pylist()}
    twins = sorted(key_of(store, path) for path in ("Doe_Jane/b.mp4", "Roe_Mary/twin.mp4"))
    assert findings_of(store) == [
        f"patient {patients['Doe_Jane/a.mp4']}: is in 2 parts of the split: test, train",
        f"scan {twins[0]}: is the same video as scan {twins[1]}, of another patient",
    ]


def fold(train: list[str], test: list[str]) -> dict[str, list[str]]:
    return {"train_patients": train, "test_patients": test}


def test_the_splits_of_runs(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(DataError, match="lists no patients"):
        audit_run(run)
    folds = [fold(["p1", "p2"], ["p3"]), fold(["p3", "p2"], ["p1"])]
    (run / "results.json").write_text(json.dumps({"inits": {"random": {"finetune": {"folds": folds}}}}))
    (run / "patients.json").write_text(json.dumps({"trained": ["p1"], "validation": ["p2"]}))
    assert audit_run(run) == ()
    folds[0]["train_patients"].append("p3")
    folds[1]["test_patients"].append("p3")
    (run / "results.json").write_text(json.dumps({"inits": {"random": {"finetune": {"folds": folds}}}}))
    (run / "patients.json").write_text(json.dumps({"trained": ["p1", "p4"], "validation": ["p4"]}))
    lines = [str(finding) for finding in audit_run(run)]
    assert lines == [
        "run run: patients: patient p4 is trained on and tested on",
        "run run: inits random finetune folds: patient p3 is tested on in folds 0 and 1",
        "run run: inits random finetune folds 0: patient p3 is trained on and tested on",
        "run run: inits random finetune folds 1: patient p3 is trained on and tested on",
    ]


def test_the_command_ends_with_an_error_and_a_line_for_each_finding(archive: Path, capsys):
    store = make_store(archive)
    (store / "prepared" / key_of(store, "Doe_Jane/a.mp4") / "gaze.npy").unlink()
    (store / "prepared" / key_of(store, "Doe_Jane/b.mp4") / "gaze.npy").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(store), "--workers", "1"])
    assert ended.value.code == 3
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2 and "usvs: audit: 2 problems found" in printed.err


def test_an_archive_is_audited_without_a_store(archive: Path, tmp_path: Path):
    (archive / "Doe_Jane/z.mp4").write_bytes(b"")
    before = sorted(path for path in tmp_path.rglob("*"))
    findings, pages = audit_archive(archive, workers=1)
    assert [str(finding) for finding in findings] == ["Doe_Jane/z.mp4: the file is empty (0 bytes)"] and pages == ()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    with pytest.raises(DataError, match="neither a store nor"):
        audit_archive(tmp_path / "none")


def screen(number: int) -> np.ndarray:
    """Speckle in the middle that changes, a name above it that does not."""
    picture = np.zeros((240, 320), np.uint8)
    speckle = np.random.default_rng(number).integers(40, 200, (140, 200)).astype(np.uint8)
    picture[80:220, 60:260] = cv2.GaussianBlur(speckle, (0, 0), 1.2)
    cv2.putText(picture, "DOE JANE 1987", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
    return picture


@pytest.mark.slow
def test_the_contact_sheet_shows_boxes_and_no_names(make_video, tmp_path: Path):
    make_video("Doe/a.mp4", pictures=[screen(n) for n in range(24)], options={"crf": "12"})
    make_video("Doe/b.mp4", pictures=[screen(n) for n in range(24)], options={"crf": "12"})
    (tmp_path / "archive/manifest.csv").write_text('scan,sector\nDoe/b.mp4,"100,100,200,200"\n')
    store = make_store(tmp_path / "archive")
    (page,) = save_contact_sheets(store, tmp_path / "out", workers=1)
    assert page.name == "sectors_001.png"
    drawn = cv2.imread(str(page))
    tiles = [drawn[GAP : GAP + TILE_SIZE[1], left : left + TILE_SIZE[0]] for left in (GAP, 2 * GAP + TILE_SIZE[0])]
    for tile, source in zip(tiles, ("found", "manifest"), strict=True):
        assert (tile == CROP_COLOURS[source]).all(axis=-1).sum() > 200  # the box's outline
        letters = tile[18:45, 20:250].astype(int)
        assert np.abs(np.diff(letters, axis=1)).max() < 140  # no stroke of a letter is left
        assert np.abs(np.diff(letters, axis=1)).astype(bool).mean() < 0.2  # but blocks
    assert tiles[1][120:180, 120:180, 0].std() > 6  # and inside it is sharp
    assert drawn.shape[0] == GAP + TILE_SIZE[1] + CAPTION_HEIGHT + GAP + LEGEND_HEIGHT
