"""Formats of eye trackers: validity, units and clock are read from the header; positions become those on the video."""

from math import radians, tan
from pathlib import Path

import numpy as np
import pytest

from tests.support.media_files import write_video
from usvs.archive import gaze_formats
from usvs.archive.alignment import GazeAlignment
from usvs.archive.discovery import ScanFiles
from usvs.archive.gaze import GazeSamples, read_gaze
from usvs.archive.gaze_formats import GazeFormat, GazeRecording
from usvs.archive.settings import GazeSettings
from usvs.archive.text_table import TextTable
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.store.inspect_scan import IndexTask, inspect_scan
from usvs.store.settings import ClipSettings

SDK = (
    "device_time_stamp,system_time_stamp,left_gaze_point_on_display_area_x,left_gaze_point_on_display_area_y,"
    "left_gaze_point_validity,right_gaze_point_on_display_area_x,right_gaze_point_on_display_area_y,"
    "right_gaze_point_validity,left_gaze_origin_in_user_coordinate_system_z\n"
)
SDK_ROWS = (
    "900,5000000,0.2,0.4,1,0.4,0.6,1,610\n"  # both eyes
    "901,5010000,0.2,0.4,1,nan,nan,0,620\n"  # the left one only
    "902,5020000,0.9,0.9,0,0.5,0.5,1,\n"  # the right one only
    "903,5030000,0.9,0.9,0,nan,nan,0,nan\n"  # a blink
)
LAB_COLUMNS = [
    "Recording timestamp [{unit}]", "Recording date UTC", "Sensor", "Recording resolution width",
    "Recording resolution height", "Gaze point left X [DACS px]", "Gaze point left Y [DACS px]",
    "Gaze point right X [DACS px]", "Gaze point right Y [DACS px]", "Validity left", "Validity right",
    "Eye position left Z [DACS mm]", "Event",
]  # fmt: skip
LAB = "\t".join(LAB_COLUMNS) + "\n"


def lab_rows(per_second: float) -> str:
    def row(seconds: float, positions: str, validity: str, distance: str = "650,5") -> str:
        ticks = round(seconds * per_second)
        return f"{ticks}\t24/11/2026\tEye Tracker\t1920\t1080\t{positions}\t{validity}\t{distance}\t\n"

    return (
        f"{round(1.0 * per_second)}\t24/11/2026\t\t1920\t1080\t\t\t\t\t\t\t\tRecordingStart\n"
        + row(1.0, "480\t540\t480\t540", "Valid\tValid")
        + row(1.5, "960,5\t540\t\t", "Valid\tInvalid", "")  # a decimal comma, as in some languages
        + row(2.0, "100\t100\t100\t100", "Invalid\tInvalid")
    )


def read(
    tmp_path: Path, text: str, view: GazeAlignment | None = None, name: str = "a.gaze.tsv", encoding: str = "utf-8"
):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return read_gaze(path, view)


def assert_gaze(found: GazeSamples, seconds: list[float], x: list[float], y: list[float]) -> None:
    np.testing.assert_allclose(found.seconds, seconds, atol=1e-9)
    np.testing.assert_allclose(found.x, x)
    np.testing.assert_allclose(found.y, y)


def assert_on_screen(found, viewing_distance_mm: float, note: str):
    assert found.viewing_distance_mm == viewing_distance_mm
    assert note in str(found.note)


def test_tobii_sdk(tmp_path: Path):
    found = read(tmp_path, SDK + SDK_ROWS)
    assert_gaze(found, [0, 0.01, 0.02], [0.3, 0.2, 0.5], [0.5, 0.4, 0.5])  # microseconds on the computer's clock
    assert_on_screen(found, 615, "the first sample is assumed to be at the first frame")


def test_tobii_sdk_with_tuples(tmp_path: Path):
    """The dictionary of tobii_research in a table: positions as tuples, validity as numbers."""
    text = (
        "device_time_stamp\tleft_gaze_point_on_display_area\tleft_gaze_point_validity\t"
        "right_gaze_point_on_display_area\tright_gaze_point_validity\tleft_gaze_origin_in_user_coordinate_system\n"
        "1000000\t(0.2, 0.4)\t1\t(0.4, 0.6)\t1\t(1.0, 2.0, 580.0)\n"
        "1011111\t(nan, nan)\t0\t(0.5, 0.5)\t1\t(nan, nan, nan)\n"
    )
    found = read(tmp_path, text, GazeAlignment(zero=1_000_000))
    np.testing.assert_allclose(found.seconds, [0, 0.011111])
    np.testing.assert_allclose(found.x, [0.3, 0.5])
    assert found.viewing_distance_mm == 580 and found.note is None  # the clock is stated


@pytest.mark.parametrize(("unit", "per_second"), [("ms", 1e3), ("μs", 1e6), ("µs", 1e6)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tobii_pro_lab(tmp_path: Path, unit: str, per_second: float, encoding: str):
    found = read(tmp_path, LAB.format(unit=unit) + lab_rows(per_second), encoding=encoding)
    assert_gaze(found, [1.0, 1.5], [0.25, 960.5 / 1920], [0.5, 0.5])
    assert_on_screen(found, 650.5, "the start of the recording is assumed to be at the first frame")


def test_tobii_pro_lab_without_a_unit_and_with_one_position_for_both_eyes(tmp_path: Path):
    text = (
        "Recording timestamp\tRecording resolution width\tRecording resolution height\tGaze point X\tGaze point Y\t"
        "Validity left\tValidity right\n"
        "500\t1000\t500\t250\t125\tInvalid\tValid\n510\t1000\t500\t500\t250\tInvalid\tInvalid\n"
    )
    found = read(tmp_path, text)
    np.testing.assert_allclose([found.seconds, found.x, found.y], [[0.5], [0.25], [0.25]])


def test_sonoassist(tmp_path: Path):
    rows = "1600000000500000,5,1,0.5,0.25\n1600000000600000,6,2,0.6,0.5\n"
    text = "Reception OS time,Reception tobii time,Onboard time,X,Y\n" + rows
    found = read(tmp_path, text, GazeAlignment(zero=1_600_000_000_000_000), name="a.gaze.csv")
    np.testing.assert_allclose(found.seconds, [0.5, 0.6], atol=1e-6)
    np.testing.assert_allclose(found.x, [0.5, 0.6])
    np.testing.assert_allclose(read(tmp_path, text).seconds, [0.0, 0.1], atol=1e-6)


def test_the_clock_and_the_position_of_the_video_on_the_screen(tmp_path: Path):
    view = GazeAlignment(zero=5_000_000, offset_seconds=2.0, drift_ppm=1000.0, picture=(0.1, 0.2, 0.6, 1.2))
    found = read(tmp_path, SDK + SDK_ROWS, view)
    np.testing.assert_allclose(found.seconds, 2.0 + np.array([0, 0.01, 0.02]) / 1.001)
    np.testing.assert_allclose(found.x, (np.array([0.3, 0.2, 0.5]) - 0.1) / 0.5)
    np.testing.assert_allclose(found.y, (np.array([0.5, 0.4, 0.5]) - 0.2) / 1.0)


def test_positions_of_the_usvs_format_are_on_the_video_image(tmp_path: Path):
    text = "timestamp_us,x,y,valid\n1000000,0.5,0.5,1\n"
    found = read(tmp_path, text, GazeAlignment(picture=(0.1, 0.1, 0.5, 0.5), offset_seconds=0.5))
    np.testing.assert_allclose([found.seconds, found.x, found.y], [[1.5], [0.5], [0.5]])


def test_the_size_of_a_degree():
    view = GazeAlignment(picture=(0.0, 0.0, 0.5, 1.0)).fill_defaults(GazeSettings(), viewing_distance_mm=700.0)
    size_mm = 700 * tan(radians(1))
    assert view.degree_size == pytest.approx((size_mm / (509 / 2), size_mm / 286))
    stated = GazeAlignment(viewing_distance_mm=500, screen_width_mm=400, screen_height_mm=300)
    assert stated.fill_defaults(GazeSettings(), 700.0).degree_size == pytest.approx(
        (500 * tan(radians(1)) / 400, 0.02909), rel=1e-3
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SDK.replace("left_gaze_point_validity", "left_ok"), "'left_gaze_point_validity' is missing"),
        (SDK.replace("left_gaze_point_on_display_area_y", "l"), "'left_gaze_point_on_display_area_x' is missing"),
        (LAB.format(unit="h") + lab_rows(1e3), "expected ms or μs"),
        (LAB.format(unit="ms").replace("DACS px", "DACS mm") + lab_rows(1e3), r"'Gaze point X \[DACS px\]' is missing"),
        (LAB.format(unit="ms").replace("Recording resolution width", "w"), "'Recording resolution width' is missing"),
        (SDK + "1,soon,0,0,1,0,0,1,600\n", "column 'system_time_stamp' is not readable: expected a number, got 'soon'"),
        (
            "Time,Where\n1,2\n",
            "unknown format: expected the columns timestamp_us, x, .* Tobii SDK.*, got 2 columns of unknown name",
        ),
        (
            "timestamp_us;x;y;valid\n0;0,5;0,5;WAHR\n",
            "column 'valid': expected 1/1.0/true/valid or 0/0.0/false/invalid/nan, got 'wahr'",
        ),
        (
            LAB.format(unit="ms") + lab_rows(1e3).replace("\tValid", "\tGültig"),
            "column 'Validity left': expected valid/0/1 or invalid/2/3/4, got 'gültig'",
        ),
        (
            "timestamp_us,x,y,valid\n0,0.5,0.5,0\n9,0.5,0.5,0\n",
            "no valid sample: expected at least one, got 2 samples that are not valid",
        ),
        ("timestamp_us,x,y,valid\n", "no valid sample: expected at least one, got 0 samples that are not valid"),
        ("timestamp_us,x,y,valid\n0,0.5,0.5,1\n0,5,0,5,1\n", "line 3: expected 4 values as in the header, got 5"),
        ("", "the file is empty"),
    ],
)
def test_an_invalid_recording_is_an_error_of_one_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["shift_jis", "utf-16-le"])
def test_another_encoding_is_an_error(tmp_path: Path, encoding: str):
    with pytest.raises(DataError, match="expected UTF-8 or UTF-16"):
        read(tmp_path, "記録タイムスタンプ\t注視点X\n0\t1\n", encoding=encoding)


def test_blanks_in_the_header_are_ignored(tmp_path: Path):
    assert read(tmp_path, "timestamp_us, x, y, valid\n0, 0.5, 0.5, 1\n", name="a.gaze.csv").x.tolist() == [0.5]


@pytest.mark.parametrize(
    ("step", "note"),
    [
        (11, "gaze: expected 1 to 5000 samples per second, got 9.09e+04: check the clock's unit"),
        (11_000, None),
        (9e6, "gaze: expected 1 to 5000 samples per second, got 0.111: check the clock's unit"),
    ],
)
def test_an_implausible_sample_rate_is_noted(tmp_path: Path, step: int, note: str | None):
    rows = "".join(f"{n * step:.0f},0.5,0.5,1\n" for n in range(9))
    found = read(tmp_path, "timestamp_us,x,y,valid\n" + rows, name="a.gaze.csv").note
    assert found is None if note is None else str(found).startswith(note)


def test_a_recording_outside_of_the_scan_is_not_used_and_noted(tmp_path: Path):
    write_video(tmp_path / "a.mp4", count=20)
    (tmp_path / "a.gaze.csv").write_text("timestamp_us,x,y,valid\n5000000,0.5,0.5,1\n5010000,0.5,0.5,1\n")
    facts = inspect_scan(
        IndexTask(tmp_path, ScanFiles("a.mp4", gaze="a.gaze.csv"), ClipSettings(), VoiceActivitySettings())
    )
    assert not facts.gaze and facts.reason is None
    assert str(facts.gaze_note).startswith("gaze: expected samples between 0 and 1.0 s, got 5.0 to 5.0 s")


def test_a_format_is_added_by_one_entry(tmp_path: Path, monkeypatch):
    def read_toy(table: TextTable) -> GazeRecording:
        is_valid = table.parse_flags("state", true=("ok",), false=("lost",))
        x, y = (np.where(is_valid, table.parse_numbers(column), np.nan) for column in ("gx", "gy"))
        return GazeRecording(table.parse_numbers("time"), 1e3, x, y, on_screen=True)

    text = "time\tgx\tgy\tstate\n0\t0.5\t0.5\tok\n10\t0.6\t0.5\tlost\n20\t0.25\t0.75\tok\n"
    with pytest.raises(DataError, match="unknown format"):
        read(tmp_path, text)
    monkeypatch.setattr(gaze_formats, "GAZE_FORMATS", [*gaze_formats.GAZE_FORMATS])
    gaze_formats.GAZE_FORMATS.append(GazeFormat("toy", lambda columns: "gx" in columns, read_toy))
    found = read(tmp_path, text)
    np.testing.assert_allclose([found.seconds, found.x, found.y], [[0, 0.02], [0.5, 0.25], [0.5, 0.75]])
    with pytest.raises(DataError, match="usvs, toy"):
        read(tmp_path, "Time,Where\n1,2\n")
