"""The report of a store: what it shows of scans, prepared or not, and no name of the archive unless it is asked for."""

import json
import shutil

import numpy as np
import pytest

from tests.support.indexing import index
from tests.support.pretraining_stores import IDENTITY, noise_store
from tests.support.report_reader import read_report, section, table_values
from usvs.archive.label_tracks import LabelTrack, Span, dump_labels
from usvs.errors import DataError
from usvs.report.html import save_report
from usvs.report.shown_scans import without_names
from usvs.store.audit import audit_store
from usvs.store.settings import ClipSettings
from usvs.store.tables import CatalogueWriter

__all__ = ["noise_store"]

NAMES = ("Smith", "Jane", "knee", "OBrien", "Dr. Who", "private_remark")
SCAN = {
    "status": "ok",
    "width": 640,
    "height": 480,
    "frames": 100,
    "duration_seconds": 10.0,
    "sector_left": 10,
    "sector_top": 10,
    "sector_right": 200,
    "sector_bottom": 200,
    "sector_source": "found",
    "sector_confidence": 0.5,
    "sound": "in_video",
    "gaze": False,
    "planes": False,
    "high_affinity_clips": 3,
}


@pytest.fixture
def named_store(tmp_path):
    """A store that is indexed only, of an archive that is gone, whose paths and notes have names."""
    store = tmp_path / "Smith Jane" / "store"
    (store / "catalogue").mkdir(parents=True)
    archive = tmp_path / "Smith Jane" / "left knee"
    (store / "archive.json").write_text(json.dumps({"archive": str(archive), "version": 1, **IDENTITY}))
    spans = (Span(0.0, 4.0, "normal"), Span(4.0, 9.0, "effusion"))
    remarks = tuple(Span(float(n), n + 1.0, f"private_remark {n}") for n in range(50))
    labels = dump_labels({"finding": LabelTrack(spans, "seconds"), "note": LabelTrack(remarks, "seconds")})
    rows = [
        {"path": "Smith Jane/left knee.mp4", "labels": labels, "file_note": "left knee.mp4 has two video streams"},
        {"path": "OBrien/knee 2.mp4", "sound_note": "sound.wav, line 3: expected a time, got 'Dr. Who'"},
        {"path": "OBrien/3.mp4", "time_note": "frame times are not increasing"},
        {"path": "OBrien/4.mp4", "status": "skipped", "reason": "truncated file"},
    ]
    with CatalogueWriter(store / "catalogue", ClipSettings()) as writer:
        for number, row in enumerate(rows):
            key, patient = f"{number:012x}", f"{100 + min(number, 1):012x}"
            is_used = row.get("status") != "skipped"
            fractions = np.array([0.9, 0.1, np.nan], np.float32) if is_used else None
            writer.add({"scan_key": key, "patient_key": patient, **SCAN, **row}, fractions)
        writer.publish()
    return store


def test_no_name_of_the_archive_is_in_a_report(named_store, caplog):
    text = save_report(named_store).read_text()
    assert not [name for name in (*NAMES, ".mp4", str(named_store)) if name in text]
    assert "truncated file" in text and "frame times are not increasing" in text
    assert "left knee" in caplog.text  # the archive is gone, which the terminal says in full


def test_with_names_the_owner_sees_files_and_notes(named_store):
    text = save_report(named_store, names=True).read_text()
    assert "Smith Jane/left knee.mp4" in text and "Dr. Who" in text
    assert "This report has names of files" in text


def test_counts_of_scans_patients_labels_and_notes(named_store):
    page = read_report(save_report(named_store))
    assert page.all("h1")[0].text == "3 scans of 2 patients"
    facts = {node.all("dt")[0].text: node.all("dd")[0].text for node in page.all("dl")[0].all("div")}
    assert facts["usable scans"] == "3 of 4" and facts["minutes of video"] == "0.5"
    assert facts["minutes of speech"] == "0.1"
    rows = section(page, "labels").all("tbody")[0].all("tr")
    assert [[cell.text for cell in row.children] for row in rows] == [
        ["effusion", "1", "1", "5.0"],
        ["normal", "1", "1", "4.0"],
    ]
    assert "50 different values, too many to be classes" in section(page, "labels").text
    assert table_values(section(page, "patients").all("table")[0])[0][1] == "scans"
    assert "1 to 2 scans" in section(page, "patients").text
    assert "To look at: 1 scan skipped." in page.text


def test_without_prepared_scans_speech_is_drawn_from_the_catalogue(named_store):
    page = read_report(save_report(named_store))
    bars = [node for node in section(page, "speech").all("rect") if "data-value" in node.attributes]
    assert [float(bar.attributes["data-value"]) for bar in bars] == pytest.approx([0.9, 0.1] * 3, abs=1e-6)
    assert "No scan is prepared yet" in section(page, "spectrograms").text
    assert "'usvs prepare STORE'" in section(page, "speech").text


def test_a_store_with_one_scan_that_is_not_prepared_is_not_called_unprepared(noise_store, tmp_path, caplog):
    shutil.copytree(noise_store, tmp_path / "store")
    scans = sorted(path for path in (tmp_path / "store" / "prepared").iterdir() if path.is_dir())
    shutil.rmtree(scans[0])
    caplog.set_level("INFO")
    page = read_report(save_report(tmp_path / "store"))
    assert "Not all scans are prepared and up to date" in section(page, "spectrograms").text
    assert scans[0].name in caplog.text  # the reason is on the terminal


def test_a_store_whose_archive_is_gone_has_all_other_sections(noise_store):
    page = read_report(save_report(noise_store, out=noise_store.parent / "elsewhere.html"))
    assert not (noise_store / "report.html").exists()
    assert section(page, "speech").all("img") and section(page, "spectrograms").all("img")
    bars = [node for node in section(page, "speech").all("rect") if "data-value" in node.attributes]
    assert len(bars) == 4 * 6


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("truncated file", "truncated file"),
        ("gaze: expected a number, got 'Smith'", "gaze: expected a number"),
        ("line 3: 'Dr. Who' is no time", "line 3"),
        ('line 3: "Dr. Who" is no time', "line 3"),
        ("smith.csv has no times", "a note that names files"),
        ("'Smith' is no time", "a note that names files"),
        ("2 fields missing in SMITH", "a note that names files"),
    ],
)
def test_notes_are_shown_without_names(note, shown):
    row = {"path": "Smith/1.mp4", "gaze_path": "Smith/smith.csv", "sound_path": None}
    found = without_names(note, row)
    assert found.startswith(shown) and "Who" not in found


def test_a_damaged_catalogue_is_an_error(named_store):
    (named_store / "catalogue" / "scans.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="run 'usvs index' again"):
        save_report(named_store)


def test_sectors_are_drawn_from_the_archive_and_indexing_again_keeps_the_report(make_video, tmp_path):
    video = make_video("Jane/1.mp4", size=(96, 128))
    store = tmp_path / "store"
    index(video.parents[1], store)
    page = read_report(save_report(store))
    tiles = section(page, "sectors").all("li")
    assert len(tiles) == 1 and tiles[0].all("img")[0].attributes["src"].startswith("data:image/jpeg")
    assert "confidence" in tiles[0].text and "Jane" not in page.text
    index(video.parents[1], store)
    assert (store / "report.html").exists()
    assert not [finding for finding in audit_store(store).findings if "report" in str(finding)]
