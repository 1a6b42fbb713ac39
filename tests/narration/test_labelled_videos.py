"""The table of labels is read strictly, and patients are divided by class without overlap."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from usvs.errors import DataError
from usvs.narration.labelled_videos import LabelledVideo, TableColumns, choose_part, read_labelled_videos

CLASSES = ("liver", "spleen")


@pytest.fixture
def folder(tmp_path, make_video):
    make_video("sub/a.mp4")
    folder = make_video("b.mp4", size=(64, 96), rate=10).parent
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def read(folder: Path, text: str, columns: TableColumns | None = None):
    table = folder / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return read_labelled_videos(folder, table, CLASSES, columns or TableColumns())


def test_a_table_gives_class_patient_and_header(folder):
    table = read(folder, "file,label,patient\nsub/a.mp4,spleen,p1\nb.mp4,liver,p2\nbroken.mp4,,p2\n")
    first, second = table.videos
    assert (first.file, first.topic, first.patient) == ("sub/a.mp4", 1, "p1")
    assert (second.topic, second.aspect, second.last_seconds) == (0, 1.5, pytest.approx(1.9))
    assert table.unlabelled == 1 and table.has_patients


def test_other_columns_can_be_named_and_patients_are_optional(folder):
    table = read(folder, "file;organ;case;kind\nsub\\a.mp4;liver;7;x\n", TableColumns("organ", "case", "kind"))
    assert (table.videos[0].patient, table.videos[0].exam) == ("7", "x")
    alone = read(folder, "file,label\nsub/a.mp4,liver\nb.mp4,liver\n")
    assert [video.patient for video in alone.videos] == ["sub/a.mp4", "b.mp4"] and not alone.has_patients


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,class\nb.mp4,liver\n",
            "line 1: column 'label' is missing: expected file, label.*--label-column names another",
        ),
        ("path,label\nb.mp4,liver\n", "line 1: column 'file' is missing"),
        ("file,label\nb.mp4,lung\n", "line 2: label 'lung' has no terms in the lexicon: expected one of liver, spleen"),
        ("file,label\nb.mp4,Liver\n", "line 2: label 'Liver' has no terms"),
        ("file,label\nc.mp4,liver\n", "line 2: expected a video file in .*, got 'c.mp4'"),
        ("file,label\n,liver\n", "line 2: expected a video file in .*, got ''"),
        ("file,label\nsub,liver\n", "line 2: expected a video file in .*, got 'sub'"),
        ("file,label\nb.mp4,liver\nsub/../b.mp4,liver\n", "line 3: file .* is named in line 2 already"),
        ("file,label\nbroken.mp4,liver\n", "video 'broken.mp4': not readable as a video.*remove its row"),
        ("file,label,patient\nb.mp4,liver,\n", "line 2: expected a value in column 'patient', got none"),
        ("file,label\nb.mp4,\n", "expected one or more rows with a label in column 'label', got none"),
        ("", "column 'file' is missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder, text, message):
    with pytest.raises(DataError, match=message):
        read(folder, text)


def videos(patients: dict[str, list[int]]) -> tuple[LabelledVideo, ...]:
    return tuple(
        LabelledVideo(f"{patient}_{topic}", Path(), topic, patient)
        for patient, topics in patients.items()
        for topic in topics
    )


def test_no_patient_is_in_both_parts_and_every_class_is_in_each():
    rng = np.random.default_rng(3)
    patients = {f"p{number}": sorted(set(rng.integers(0, 3, 4).tolist())) for number in range(40)}
    patients |= {f"rare{number}": [3] for number in range(2)} | {"single": [4]}
    both = videos(patients)
    parts = {part: choose_part(both, part, 0.3) for part in ("train", "test")}
    assert len(parts["train"]) + len(parts["test"]) == len(both)
    assert not {v.patient for v in parts["train"]} & {v.patient for v in parts["test"]}
    count = {part: Counter(video.topic for video in chosen) for part, chosen in parts.items()}
    assert count["test"][4] == 0 and count["train"][4] == 1
    assert count["test"][3] == count["train"][3] == 1
    for topic in range(3):
        assert 0.15 < count["test"][topic] / (count["test"][topic] + count["train"][topic]) < 0.4
    assert choose_part(both[::-1], "test", 0.3)[::-1] == parts["test"]
