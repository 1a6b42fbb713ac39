from pathlib import Path

import numpy as np
import pytest

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES, find_plane_index, read_plane_labels
from usvs.errors import DataError

HEAD = "start_seconds,end_seconds,plane\n"


def test_the_14_planes_of_the_paper():
    assert len(STANDARD_PLANES) == len(set(STANDARD_PLANES)) == 14
    assert STANDARD_PLANES[BACKGROUND] == "background"


def test_intervals_are_half_open(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text(HEAD + "2.0,3.5,femur\n0.0,2.0,4CH\n")
    labels = read_plane_labels(path).at(np.array([-0.1, 0.0, 1.99, 2.0, 3.49, 3.5, 9.0]))
    femur, heart = STANDARD_PLANES.index("femur"), STANDARD_PLANES.index("4CH")
    np.testing.assert_array_equal(labels, [-1, heart, heart, femur, femur, -1, -1])
    assert labels.dtype == np.int16


def test_an_empty_list_labels_nothing(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text(HEAD)
    np.testing.assert_array_equal(read_plane_labels(path).at(np.array([0.0, 1.0])), [-1, -1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "0,1,\n", "line 2: expected a plane, got none"),
        (HEAD + "0,1,femur\n0.5,2,4CH\n", "intervals overlap: expected a start at 1 s or later, got 0.5 s"),
        (HEAD + "0,1,femur\n2,2,4CH\n", "line 3: expected start before end"),
        (HEAD + "soon,2,4CH\n", "line 2: expected numbers as start_seconds and end_seconds, got 'soon' and '2'"),
        ("from,to,plane\n0,1,femur\n", "'start_seconds' is missing"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "a.planes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_plane_labels(path)


def test_labels_by_frame_follow_the_frame_times(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text("frame,plane\n3,femur\n0,4CH\n4,femur\n")
    seconds = np.array([0.0, 0.1, 0.15, 0.4, 0.9, 1.0])
    labels = read_plane_labels(path, seconds).at(seconds + 1e-12)
    femur, heart = STANDARD_PLANES.index("femur"), STANDARD_PLANES.index("4CH")
    np.testing.assert_array_equal(labels, [heart, -1, -1, femur, femur, -1])
    path.write_text("frame,plane\n6,femur\n")
    with pytest.raises(DataError, match="line 2: expected a frame from 0 to 5, got '6'"):
        read_plane_labels(path, seconds)
    path.write_text("frame,plane\n1,femur\n1,4CH\n")
    with pytest.raises(DataError, match="line 3: frame 1 has two planes"):
        read_plane_labels(path, seconds)


@pytest.mark.parametrize(
    ("name", "plane"),
    [("Femur", "femur"), ("3VV", "3VT"), ("Brain (Tv.)", "brain_tv"), ("brain-tc", "brain_tc"), ("4ch", "4CH"),
     ("Trans-thalamic", None), ("", None)],
)  # fmt: skip
def test_aliases_of_planes(name: str, plane: str | None):
    assert find_plane_index(name) == (None if plane is None else STANDARD_PLANES.index(plane))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (
            "start_seconds;end_seconds;plane\n0;1,5;femur\n",
            "utf-8",
        ),  # as spreadsheets save it where the decimal separator is a comma
        ("start_seconds\tend_seconds\tplane\r\n0\t1.5\tfemur\r\n", "utf-8-sig"),
        ("start_seconds, end_seconds, plane\n0, 1.5, femur\n,,\n", "utf-8"),
    ],
)
def test_csv_files_as_spreadsheets_save_them(tmp_path: Path, text: str, encoding: str):
    path = tmp_path / "a.planes.csv"
    path.write_bytes(text.encode(encoding))
    labels = read_plane_labels(path)
    assert (labels.start_seconds.tolist(), labels.end_seconds.tolist()) == ([0.0], [1.5])
    assert labels.plane.tolist() == [STANDARD_PLANES.index("femur")]


def test_labels_outside_of_the_scan_are_noted(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text(HEAD + "0,9,femur\n9,19,4CH\n1000,2000,4CH\n")  # an end after the last frame is not noted
    assert read_plane_labels(path).note(10.0) == (
        "plane labels: 1 of 3 intervals are outside of the scan: expected 0 to 10.0 s, got 0 to 2000 s"
    )
    assert read_plane_labels(path).note(1001.0) is None
