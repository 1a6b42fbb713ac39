"""Tables that hold several recordings, participants or scans: the right rows are chosen by name, or all are refused."""

from pathlib import Path

import numpy as np
import pytest

from usvs.archive.gaze import read_gaze
from usvs.archive.labels import STANDARD_PLANES, read_plane_labels
from usvs.archive.mixed_tables import find_identity_columns
from usvs.errors import DataError

FEMUR, LIPS = STANDARD_PLANES.index("femur"), STANDARD_PLANES.index("lips")
NAMES = ("patient_a/visit_1.mp4", "patient_a/visit_1.gaze.csv")
USVS = "{column},timestamp_us,x,y,valid\n"


def gaze_file(folder: Path, column: str, values: list[str], head: str = USVS) -> Path:
    """Three samples of each recording, at x = 0.1, 0.2, ... in the order of `values`."""
    path = folder / "visit_1.gaze.csv"
    rows = [f"{value},{t * 10_000},0.{n + 1},0.5,1\n" for t in range(3) for n, value in enumerate(values)]
    path.write_text(head.format(column=column) + "".join(rows))
    return path


@pytest.mark.parametrize(
    "value", ["visit_1", "Visit_1.MP4", "patient_a/visit_1", "patient_a\\visit_1.mp4", " visit_1 "]
)
@pytest.mark.parametrize("column", ["Recording name", "scan", "video_file", "participantId"])
def test_the_recording_of_the_scan_is_chosen_by_name(tmp_path: Path, column: str, value: str):
    samples = read_gaze(gaze_file(tmp_path, column, ["other", value, ""]), names=NAMES)
    assert samples.x.tolist() == [0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("Recording name", ["one", "two"]),
        ("Participant name", ["Jane", "John"]),
        ("participant_id", ["1", "2"]),
        ("Subject", ["1", "2", "3"]),
        ("scan", ["visit_2", "visit_3"]),
        ("patient", ["visit_1", "patient_a/visit_1"]),  # both are names of the scan
        ("StudyInstanceUID", ["1.2", "1.3"]),
        ("Reader ID", ["1", "2"]),
        ("annotator", ["A", "B"]),
        ("Trial number", ["1", "2"]),
    ],
)
def test_several_recordings_of_which_none_is_the_scans_are_refused(tmp_path: Path, column: str, values: list[str]):
    with pytest.raises(DataError, match="several recordings in one table: expected one") as caught:
        read_gaze(gaze_file(tmp_path, column, values), names=NAMES)
    assert "Jane" not in str(caught.value)


def test_one_recording_may_have_any_name(tmp_path: Path):
    assert len(read_gaze(gaze_file(tmp_path, "Recording name", ["Recording7", ""]), names=NAMES).seconds) == 6


def test_two_people_in_the_chosen_recording_are_refused(tmp_path: Path):
    head, rows = (
        "Recording name,Participant name,timestamp_us,x,y,valid\n",
        "visit_1,A,0,0.1,0.5,1\nvisit_1,B,0,0.2,0.5,1\n",
    )
    path = tmp_path / "a.csv"
    path.write_text(head + rows + "visit_2,C,0,0.3,0.5,1\n")
    with pytest.raises(DataError, match="got 2 values in column 'Participant name'"):
        read_gaze(path, names=NAMES)


def test_tobii_pro_lab_export_of_two_recordings(tmp_path: Path):
    head = (
        "Recording timestamp [ms]\tRecording name\tRecording duration [ms]\tRecording resolution width\t"
        "Recording resolution height\tGaze point X [DACS px]\tGaze point Y [DACS px]\n"
    )
    rows = [f"{t}\t{name}\t90\t1000\t1000\t{x}\t500\n" for name, x in (("visit_1", 100), ("b", 900)) for t in (0, 10)]
    path = tmp_path / "a.gaze.tsv"
    path.write_text(head + "".join(rows))
    assert read_gaze(path, names=NAMES).x.tolist() == [0.1, 0.1]
    with pytest.raises(DataError, match="got 2 values in column 'Recording name'"):
        read_gaze(path, names=("visit_9.mp4",))


def test_recordings_one_after_the_other_without_a_name_are_refused(tmp_path: Path):
    path = tmp_path / "a.gaze.csv"
    rows = [f"{t * 10_000},{x},0.5,1\n" for x in (0.1, 0.9) for t in range(300)]
    path.write_text("timestamp_us,x,y,valid\n" + "\n" + "".join(rows))
    with pytest.raises(DataError, match=r"gaze, line 303: the time goes back by 2.99 s: expected the samples of one"):
        read_gaze(path)


def test_samples_a_little_out_of_order_are_sorted(tmp_path: Path):
    path = tmp_path / "a.gaze.csv"
    path.write_text("timestamp_us,x,y,valid\n" + "".join(f"{t}0000,0.5,0.5,1\n" for t in (0, 2, 1, 3, 5, 4, 9)))
    assert np.diff(read_gaze(path).seconds).min() > 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("timestamp_us,x,y,valid\n0,0.5,0.5,1\n1,a,0.5,1\n", 3),
        ("timestamp_us,x,y,valid\n0,0.5,0.5,1\n\n\n1,0.5,0.5,ja\n", 5),
        ("scan,timestamp_us,x,y,valid\nb,0,0.5,0.5,1\nvisit_1,0,0.5,0.5,1\nvisit_1,1,0.5,0.5,ja\n", 4),
        ('note,timestamp_us,x,y,valid\n"a b",0,0.5,0.5,1\nc,1,0.5,0.5,ja\n', 3),
        ("time,x,y,valid\n0,0.5,0.5,1\n", 1),
    ],
)
def test_an_invalid_value_of_gaze_is_named_with_its_line(tmp_path: Path, text: str, line: int):
    path = tmp_path / "a.gaze.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"^gaze, line {line}: "):
        read_gaze(path, names=NAMES)


def test_labels_of_several_scans_in_one_table(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_text("scan,start_seconds,end_seconds,plane\nvisit_1.mp4,0,2,femur\nvisit_2.mp4,0,1,lips\n")
    at = np.array([0.5])
    assert read_plane_labels(path, names=NAMES).at(at).tolist() == [FEMUR]
    assert read_plane_labels(path, names=("patient_a/visit_2.mp4",)).at(at).tolist() == [LIPS]
    with pytest.raises(DataError, match="plane labels: several recordings in one table"):
        read_plane_labels(path, names=("visit_3.mp4",))
    # without an overlap in time, they would have been merged silently
    path.write_text("Patient,frame,plane\nA,0,femur\nB,1,lips\n")
    with pytest.raises(DataError, match="got 2 values in column 'Patient'"):
        read_plane_labels(path, np.arange(3) / 10, names=NAMES)


def test_columns_that_identify_recordings():
    yes = ["Recording name", "participant_id", "Subject", "scan", "video_path", "PatientID", "file", "sessionId"]
    no = [
        "Recording timestamp [ms]",
        "Recording duration",
        "plane",
        "frame",
        "x",
        "valid",
        "Recording resolution width",
        "",
    ]
    assert find_identity_columns([*no, *yes]) == yes


@pytest.mark.parametrize(
    "first_line", ["root:x:0:0:root:/root:/bin/bash", "secret,word;x", "-----BEGIN KEY-----", "a\tb"]
)
@pytest.mark.parametrize("kind", ["gaze", "labels", "manifest"])
def test_the_first_line_of_a_foreign_file_is_not_shown(tmp_path: Path, kind: str, first_line: str):
    from usvs.archive.manifest import read_manifest

    (tmp_path / "secret").write_text(f"{first_line}\n{first_line}\n")
    path = tmp_path / "linked.csv"
    path.symlink_to(tmp_path / "secret")
    read = {"gaze": read_gaze, "labels": read_plane_labels, "manifest": read_manifest}[kind]
    with pytest.raises(DataError, match=r"line 1: .*column.* of unknown name") as caught:
        read(path)
    assert not any(word in str(caught.value) for word in first_line.replace(";", ",").split(",") if len(word) > 2)


def test_a_similar_column_name_is_shown(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text("Start seconds,end_seconds,plane,remark\n0,1,femur,\n")
    words = r"'Start seconds' \(not 'start_seconds'\), 'end_seconds', 'plane', 1 other column of unknown name"
    with pytest.raises(DataError, match=words):
        read_plane_labels(path)


def test_two_people_without_a_column_that_names_them_are_refused(tmp_path: Path):
    path = tmp_path / "a.gaze.csv"
    rows = [f"{i * 10_000},{x},0.5,1\n" for i in range(50) for x in (0.3, 0.7)]
    path.write_text("timestamp_us,x,y,valid\n" + "".join(rows))
    with pytest.raises(DataError, match=r"expected one person's, got two at 50 of 50 times, the first at 0.000 s"):
        read_gaze(path)
    eyes = [f"{i * 10_000},{x},0.5,1\n" for i in range(50) for x in (0.30, 0.32)]  # of one person
    path.write_text("timestamp_us,x,y,valid\n" + "".join(eyes) + rows[-1])
    assert len(read_gaze(path).x) == 101


def test_columns_of_one_name_are_not_left_out(tmp_path: Path):
    path = tmp_path / "a.gaze.csv"
    path.write_text("timestamp_us,x,y,valid,x\n0,0.5,0.5,1,0.1\n")
    with pytest.raises(DataError, match="line 1: expected one column 'x', got 2"):
        read_gaze(path)
    path.write_text("timestamp_us,x,y,valid,participant,participant\n0,0.5,0.5,1,A,B\n1,0.5,0.5,1,A,C\n")
    with pytest.raises(DataError, match=r"several recordings in one table.* 2 values in column 'participant, 6'"):
        read_gaze(path)
