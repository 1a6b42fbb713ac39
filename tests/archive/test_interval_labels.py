from pathlib import Path

import numpy as np
import pytest

from usvs.archive.interval_labels import read_interval_labels
from usvs.errors import DataError

PATHS = ["a/one.mp4", "a/two.mp4", "b/one.mkv"]
HEADER = "file,start_seconds,end_seconds,label\n"


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_table_of_all_scans(tmp_path, caplog):
    rows = "a/one.mp4,3,5,liver\n./b/one,0,2.5,heart\na/one,0,3,heart\nelsewhere.mp4,0,1,spleen\na/two.mp4,0,1,\n"
    read = read_interval_labels(write(tmp_path, HEADER + rows), PATHS)
    assert read.names == ("heart", "liver") and set(read.scans) == {0, 2}
    assert read.scans[0].at(np.array([-1.0, 0.0, 2.99, 3.0, 4.99, 5.0])).tolist() == [-1, 0, 0, 1, 1, -1]
    assert "1 row skipped" in caplog.text and "elsewhere.mp4" in caplog.text


def test_a_folder_of_ground_truth(tmp_path):
    write(tmp_path, "start_seconds,end_seconds,label,file\n0,1.0000,2,source.mp4\n1.0,2,1,source.mp4\n",
          "a/two.intervals.csv")  # fmt: skip
    read = read_interval_labels(tmp_path, PATHS)
    assert read.names == ("1", "2") and read.scans[1].at(np.array([0.5, 1.0])).tolist() == [1, 0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected files such as 'a/one.intervals.csv'.*got none"):
        read_interval_labels(tmp_path / "empty", PATHS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a/one.mp4,3,2,x\n", r"line 2: expected 0 <= start_seconds < end_seconds, got 3 and 2"),
        (HEADER + "a/one.mp4,,2,x\n", r"line 2: expected 0 <= start_seconds < end_seconds, got nan and 2"),
        (HEADER + "a/one.mp4,0,2,x\na/one.mp4,1,3,y\n", r"line 3: expected intervals of a scan that do not overlap"),
        (HEADER + "c.mp4,0,2,x\n", r"expected paths of scans in column 'file', such as 'a/one.mp4', got 'c.mp4'"),
        (HEADER, r"got no row"),
        ("file,start_seconds,end_seconds\na/one.mp4,0,1\n", r"column 'label' is missing"),
        (HEADER + "a/one.mp4,soon,2,x\n", r"line 2: column 'start_seconds' is not readable"),
    ],
)
def test_an_impossible_table_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_interval_labels(write(tmp_path, text), PATHS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"labels '.*absent.csv'"):
        read_interval_labels(tmp_path / "absent.csv", PATHS)


def test_names_are_those_of_all_scans_of_the_archive(tmp_path):
    """A label of a scan that is not prepared is not taken for another scan of the same name."""
    paths, others = ["p/1.mp4", "é/2.mp4"], ["1.mp4", "p/3.mp4"]
    rows = "1.mp4,0,1,x\n1,1,2,x\np\\1.MP4,0,1,y\ne\u0301/2,0,1,z\n"
    read = read_interval_labels(write(tmp_path, HEADER + rows), paths, others)
    assert read.names == ("y", "z") and set(read.scans) == {0, 1}
    folder = tmp_path / "intervals"
    for name, label in (("1", "x"), ("p/1", "y"), ("e\u0301/2", "z")):
        write(folder, f"start_seconds,end_seconds,label\n0,1,{label}\n", f"{name}.intervals.csv")
    for known in (others, []):  # in a folder, a file is of the scan at its whole path
        read = read_interval_labels(folder, paths, known)
        assert read.names == ("y", "z") and set(read.scans) == {0, 1}


def test_a_name_that_fits_two_scans_is_refused(tmp_path):
    paths = ["p/1.mp4", "p/1.avi"]
    with pytest.raises(DataError, match=r"labels '.*', line 3: 'p/1' fits 2 videos, 'p/1.avi' and 'p/1.mp4'"):
        read_interval_labels(write(tmp_path, HEADER + "p/1.avi,0,1,x\np/1,0,1,x\n"), paths)
    write(tmp_path / "f", "start_seconds,end_seconds,label\n0,1,x\n", "p/1.intervals.csv")
    with pytest.raises(DataError, match=r"labels '.*': 'p/1' fits 2 videos"):
        read_interval_labels(tmp_path / "f", paths)
    write(tmp_path / "f", "start_seconds,end_seconds,label\n0,1,x\n", "p/1.mp4.intervals.csv")
    with pytest.raises(DataError, match=r"expected one file for scan 'p/1.mp4', got '.*p/1.intervals.csv' as well"):
        read_interval_labels(tmp_path / "f", paths[:1])
