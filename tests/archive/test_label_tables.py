"""Tables of labels of files and of parts of them: where they are found, which scan a row is of, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from usvs.archive.label_tables import LabelTable, find_label_table, read_label_table
from usvs.archive.label_tracks import dump_labels, in_seconds, load_labels, make_tracks, read_label_rows
from usvs.archive.settings import LabelSettings
from usvs.errors import DataError

SCANS = ("a/x 1.mp4", "a/y.mp4", "b/y.mp4", "b/Größe.gif")


def read(tmp_path: Path, text: str, scans=SCANS, **settings) -> LabelTable:
    (tmp_path / "labels.csv").write_bytes(text.encode())
    return read_label_table(tmp_path / "labels.csv", scans, "archive", LabelSettings(**settings))


def labels_of(table: LabelTable) -> dict[str, dict[str, str]]:
    return {path: dict(rows[0].labels) for path, rows in table.rows.items()}


@pytest.mark.parametrize(
    "name", ["a/x 1.mp4", "x 1.mp4", "x 1", "a\\x 1.mp4", "archive/a/x 1.mp4", "A/X 1.MP4", " x 1.mp4 "]
)
def test_a_row_finds_its_scan(tmp_path: Path, name: str):
    assert labels_of(read(tmp_path, f"file,label\n{name},covid\n")) == {"a/x 1.mp4": {"label": "covid"}}


def test_every_column_that_is_no_file_patient_or_time_has_labels(tmp_path: Path):
    text = "\ufefffile;Patient;point;severity;;age\r\nx 1.mp4;p7;3;mild;;\r\nb/y.mp4;p7;1;;;40\r\n\r\n"
    table = read(tmp_path, text)
    assert labels_of(table) == {"a/x 1.mp4": {"point": "3", "severity": "mild"}, "b/y.mp4": {"point": "1", "age": "40"}}
    assert table.patients == {"a/x 1.mp4": "p7", "b/y.mp4": "p7"}
    text = "name,source,view,note\nx 1,9,PLAX,n\nGROSSE,8,A,\nzz,7,B,\n"
    table = read(tmp_path, text, file_column="name", patient_column="source", columns=("view",))
    assert labels_of(table) == {"a/x 1.mp4": {"view": "PLAX"}} and table.patients == {"a/x 1.mp4": "9"}
    assert (table.unmatched, table.first_unmatched) == (2, "line 3: GROSSE")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na,b\n", "line 1: expected a column file or scan .*, got 'label'"),
        ("file\na\n", "line 1: expected a column with labels"),
        ("file,label\n,b\n", "line 2, column 'file': expected the path of a file"),
        ("file,label\ny.mp4,b\n", "line 2: 'y.mp4' fits 2 videos, 'a/y.mp4' and 'b/y.mp4'"),
        ("file,label\na/y.mp4,b\na/y.mp4,c\n", "lines 2 and 3, column 'label': labels overlap: .* got 'b' and 'c'"),
        ("file,patient,label\na/y.mp4,p,b\na/y.mp4,q,b\n", "line 3: expected one patient for a file"),
        ("file,start_seconds,label\na/y.mp4,0,b\n", "got 'start_seconds' alone"),
        ("file,start_sec,end_seconds,label\na/y.mp4,0,1,b\n", "got 'end_seconds' alone"),
        ("file,start second,end second,label\na/y.mp4,0,1,b\n", "'end second': did you mean 'end_seconds'"),
        ("file,Start,End,label\na/y.mp4,0,1,b\n", "expected the names start_seconds and end_seconds, got 'start'"),
        ("file,start_seconds,end_seconds,label\na/y.mp4,2,1,b\n", "line 2: expected start before end, got 2 and 1"),
        ("file,start_seconds,end_seconds,label\na/y.mp4,nan,1,b\n", "expected a number as start_seconds, got 'nan'"),
        ("file,frame,label\na/y.mp4,-1,b\n", "line 2: expected the number of a frame, got '-1'"),
        (f"file,label\na/y.mp4,{'b' * 201}\n", "line 2: expected a label of at most 200 letters, got 201"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_an_error_with_its_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(DataError, match=words):
        read(tmp_path, text)


def test_a_missing_patient_column_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="expected a column 'source_id' with patients"):
        read(tmp_path, "file,label\na/y.mp4,b\n", patient_column="source_id")


def test_parts_of_a_scan_have_labels_of_their_own(tmp_path: Path):
    text = "file,start_seconds,end_seconds,view,side\nx 1,2,3.5,PLAX,\nx 1,0,2,4CH,L\nb/y.mp4,,,A,R\n"
    table = read(tmp_path, text)
    tracks = make_tracks(table.rows["a/x 1.mp4"], "labels.csv")
    seconds = np.array([-0.1, 0, 1.99, 2, 3.49, 3.5])
    assert [tracks["view"].spans[row].label if row >= 0 else None for row in tracks["view"].at(seconds)] == [
        None, "4CH", "4CH", "PLAX", "PLAX", None,
    ]  # fmt: skip
    assert tracks["side"].at(seconds).tolist() == [-1, 0, 0, -1, -1, -1]
    assert tracks["view"].seconds(3.0, 30).tolist() == [2.0, 1.0] and tracks["view"].outside(1.0, 10) == 1
    whole = make_tracks(table.rows["b/y.mp4"], "labels.csv")["view"]
    assert whole.at(seconds).tolist() == [0] * 6 and whole.seconds(3.0, 30).tolist() == [3.0]
    assert load_labels(dump_labels(tracks)) == tracks and load_labels(None) == {} and dump_labels({}) is None


def test_labels_of_frames_count_frames(tmp_path: Path):
    path = tmp_path / "a.labels.csv"
    path.write_text("frame,view\n3,femur\n0,4CH\n4,femur\n")
    track = make_tracks(read_label_rows(path, "labels"), "labels")["view"]
    assert [span[:2] for span in track.spans] == [(0, 1), (3, 5)]  # neighbours of one label are one span
    times = np.array([0.0, 0.1, 0.15, 0.4, 0.9, 1.0])
    assert track.at(times).tolist() == [0, -1, -1, 1, 1, -1]
    np.testing.assert_array_equal(in_seconds({"view": track}, times)["view"].at(times), track.at(times))
    np.testing.assert_allclose(track.seconds(6.0, 6), [1.0, 2.0])


def test_a_table_of_several_scans_beside_one_gives_its_rows(tmp_path: Path):
    path = tmp_path / "x.labels.csv"
    path.write_text("video,start_seconds,end_seconds,view\nx.mp4,0,1,A\nz.mp4,0,1,B\n")
    (row,) = read_label_rows(path, "labels", (), ("p/x.mp4", "p/x.labels.csv"))
    assert row.labels == {"view": "A"} and (row.start, row.end) == (0.0, 1.0)


def test_a_table_beside_the_archive_is_found_if_it_names_a_file_of_it(tmp_path: Path):
    archive, beside = tmp_path / "clips", tmp_path / "clips.csv"
    archive.mkdir()

    def found():
        return find_label_table(archive, ("y.mp4",), LabelSettings(), None)

    assert found() == LabelTable()
    (tmp_path / "labels.csv").write_text("file,label\nclips/y.mp4,b\n")
    assert found().file == tmp_path / "labels.csv" and labels_of(found()) == {"y.mp4": {"label": "b"}}
    beside.write_text("file,label\ny.mp4,a\n")
    assert found().file == beside
    beside.write_text("file,label\nother.mp4,a\n")
    assert found().file == tmp_path / "labels.csv"
    beside.write_text("some,other,table\n1,2,3\n")
    assert found().file == tmp_path / "labels.csv"
    beside.write_text("file,label\ny.mp4,a\ny.mp4,b\n")  # of this archive, but invalid: not skipped in silence
    assert found().problem is not None and "overlap" in found().problem
    with pytest.raises(DataError, match="got no such file"):
        find_label_table(archive, ("y.mp4",), LabelSettings(), tmp_path / "absent.csv")


def test_a_table_beside_the_archive_that_names_no_file_of_it_is_not_left_out_in_silence(tmp_path: Path, caplog):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips.csv").write_text("file,label\nelsewhere/x.mp4,a\nelsewhere/z.mp4,b\n")
    assert find_label_table(tmp_path / "clips", ("p/x.mp4",), LabelSettings(), None).file is None
    assert "clips.csv' are not used: expected rows that name files of the archive" in caplog.text
    assert "elsewhere/x.mp4" in caplog.text and "the first of 2" in caplog.text
