"""`examples/mixed_archive.py` composes a table that `usvs narrate` takes, with the sources of the clips."""

import csv
import runpy
import sys
from pathlib import Path

import pytest

from usvs.narration import TableColumns, read_lexicon
from usvs.narration.labelled_videos import choose_part, read_labelled_videos

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def compose(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["mixed_archive.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / "mixed_archive.py"), run_name="__main__")


def test_real_clips_of_two_sets_become_one_table(shared_data, tmp_path, monkeypatch, capsys):
    table, few = tmp_path / "labels.csv", tmp_path / "few.csv"
    compose(monkeypatch, table, "--blues", shared_data / "blues", "--lung", shared_data)
    assert "upper_anterior: 77 clips of 38 sources" in capsys.readouterr().out
    with table.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    with few.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows[::12])
    words = read_lexicon(EXAMPLES / "lexicons" / "mixed.toml")
    videos = read_labelled_videos(Path("/"), few, words.names, TableColumns(exam="exam")).videos
    assert {video.exam for video in videos} == {"lung points", "lung findings"}
    train, test = (choose_part(videos, part, 0.3) for part in ("train", "test"))
    assert train and test and not {video.patient for video in train} & {video.patient for video in test}


def test_dicom_files_of_one_patient_are_of_one_source(tmp_path, monkeypatch):
    from tests.support.dicom_files import gray_frames, write_dicom

    for name, patient in (("a.dcm", "x"), ("b.dcm", "x"), ("c.dcm", "y")):
        write_dicom(tmp_path / name, gray_frames(), FrameTime=40, PatientID=patient)
    compose(monkeypatch, tmp_path / "labels.csv", "--echo", *sorted(tmp_path.glob("*.dcm")))
    with (tmp_path / "labels.csv").open(encoding="utf-8") as lines:
        assert [row["patient"] for row in csv.DictReader(lines)] == ["echo 1", "echo 1", "echo 2"]
