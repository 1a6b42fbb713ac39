"""manifest.csv: its alignment, files, screen and split reach the prepared store."""

import wave
from math import radians, tan
from pathlib import Path

import numpy as np
import pytest

from usvs.archive.manifest import read_manifest
from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared_scan import PreparedScan
from usvs.store.settings import ClipSettings, PrepareSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


def prepare(archive: Path) -> PreparedScan:
    store = archive.parent / "store"
    index_archive(archive, store, clips=CLIPS, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=32), workers=1)
    return PreparedScan(store / "prepared" / Catalogue.load(store).scans["scan_key"][0].as_py())


def test_alignment_companions_and_screen_reach_the_store(make_video, tmp_path: Path):
    make_video("p/a.mp4", count=200, size=(60, 80))
    archive = tmp_path / "archive"
    (archive / "recorder").mkdir()
    sound = np.zeros(8000 * 10)
    sound[8000 * 8 : 8000 * 8 + 400] = 0.5 * np.sin(np.arange(400) * 0.8)
    with wave.open(str(archive / "recorder/0001.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    rows = [f"{7_000_000 + 10_000 * n},0.45,0.7,1,0.45,0.7,1" for n in range(200)]
    head = ",".join(
        f"{eye}_gaze_point_{what}"
        for eye in ("left", "right")
        for what in ("on_display_area_x", "on_display_area_y", "validity")
    )
    (archive / "recorder/eyes.csv").write_text(f"system_time_stamp,{head}\n" + "\n".join(rows) + "\n")
    (archive / "manifest.csv").write_text(
        "scan,patient,split,sector,sound,gaze,sound_offset_seconds,sound_drift_ppm,gaze_zero,gaze_offset_seconds,"
        "viewing_distance_mm,screen_width_mm,screen_height_mm,screen_pixels,picture_on_screen,remarks\n"
        'p/a.mp4,P7,train,"20,10,60,50",recorder/0001.wav,recorder/eyes.csv,0.25,10000,6500000,0.1,700,600,350,'
        '"2000x1000","500,200,1500,1000",a note of the owner\n'
    )
    scan = prepare(archive)
    beep = np.flatnonzero(np.abs(scan.speech(0.0, 9 * 24_000).astype(int)) > 5000)[0] / 24_000
    assert beep == pytest.approx(0.25 + 8 / 1.01, abs=0.002)
    # the gaze is at 0.45, 0.7 of the screen, which is 0.4, 0.625 of the video: pixel 32, 37.5
    looked = np.isfinite(scan.gaze[:, 0])
    times = scan.frame_seconds[looked]
    assert times[0] == pytest.approx(0.6, abs=0.051) and times[-1] == pytest.approx(2.6, abs=0.051)
    np.testing.assert_allclose(scan.gaze[looked], [[(32 - 20) / 40, (37.5 - 10) / 40]] * looked.sum(), atol=1e-6)
    size_mm = 700 * tan(radians(1))
    expected = (size_mm / (600 * 0.5) * 80 / 40, size_mm / (350 * 0.8) * 60 / 40)
    assert scan.gaze_degree == pytest.approx(expected)


def test_another_offset_in_the_manifest_prepares_the_scan_again(make_video, tmp_path: Path):
    make_video("p/a.mp4", count=40, sound=0.3 * np.sin(np.arange(96_000) * 0.3))
    archive, store = tmp_path / "archive", tmp_path / "store"
    assert np.abs(prepare(archive).speech(0.1, 2400)).max() > 3000
    (archive / "manifest.csv").write_text("scan,patient,sound_offset_seconds\np/a.mp4,p,0.5\n")
    scan = prepare(archive)
    assert np.abs(scan.speech(0.1, 2400)).max() == 0 and np.abs(scan.speech(0.6, 2400)).max() > 3000
    assert prepare_store(store, profile=PrepareSettings(frame_pixels=32), workers=1).unchanged == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "scan,sound_ofset_seconds\na,1\n",
            "unknown column 'sound_ofset_seconds': did you mean 'sound_offset_seconds'",
        ),
        ("scan,sound_offset_seconds\na,soon\n", "line 2, column 'sound_offset_seconds': expected a number, got 'soon'"),
        (
            "scan,sound_drift_ppm\na,90000\n",
            "line 2, column 'sound_drift_ppm': expected parts per million from -20000 to 20000, got '90000'",
        ),
        ("scan,viewing_distance_mm\na,0\n", "line 2, column 'viewing_distance_mm': expected a number above 0, got '0'"),
        ('scan,picture_on_screen\na,"0,0,100,100"\n', "column 'screen_pixels': expected"),
        ('scan,picture_on_screen,screen_pixels\na,"0,0,100,100","80,60"\n', "of the screen that contains"),
        ('scan,picture_on_screen,screen_pixels\na,"9,0,5,100","80,60"\n', "column 'picture_on_screen': expected"),
        ('scan,sector\na,"1,2,3"\n', "column 'sector': expected"),
        (
            "scan,patient\na,Doe, Jane\nb,Doe, John\n",
            "line 2: expected 2 values, got 3",
        ),  # otherwise both would be "Doe"
        ("scan,patient,patient\na,p,q\n", "line 1: column 3 repeats the name of an earlier one: expected each once"),
        ("scan,patient\n,p\n", "line 2, column 'scan': expected the path of a video in the archive, got ''"),
        ('scan,patient\n"a,p\nb,q\n', "line 3: not readable as csv"),
    ],
)
def test_an_invalid_manifest_is_an_error_with_its_line(tmp_path: Path, text: str, words: str):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_another_encoding_is_an_error(tmp_path: Path, encoding: str):
    (tmp_path / "manifest.csv").write_bytes("scan,patient\na.mp4,Müller\n".encode(encoding))
    with pytest.raises(DataError, match="expected UTF-8"):
        read_manifest(tmp_path / "manifest.csv")


def test_a_manifest_as_spreadsheets_save_it(tmp_path: Path):
    path = tmp_path / "manifest.csv"
    path.write_text('scan;patient;sound_offset_seconds;sector\na.mp4;"Doe, Jane";0,5;1,2,30,40\n;;;\n;;;\n')
    rows, columns = read_manifest(path)
    assert columns == {"scan", "patient", "sound_offset_seconds", "sector"} and list(rows) == ["a.mp4"]
    row = rows["a.mp4"]
    assert row.patient == "Doe, Jane" and row.alignment.sound_offset_seconds == 0.5
    assert row.sector is not None and row.sector.right == 30


def test_a_named_companion_that_is_missing(make_video, tmp_path: Path):
    make_video("a.mp4")
    (tmp_path / "archive/manifest.csv").write_text("scan,sound\na.mp4,gone.wav\n")
    with pytest.raises(DataError, match=r"the sound 'gone.wav' of scan 'a.mp4' is not in the archive"):
        prepare(tmp_path / "archive")
