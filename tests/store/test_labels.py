"""Labels of any kind from the archive to the store: counts, questions, merging by file alone, and what is not used."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.dicom_files import gray_frames, write_dicom
from tests.support.indexing import CLIPS, rows
from usvs.archive.class_list import ClassList
from usvs.errors import ConfigError, DataError
from usvs.store.index_summary import IndexSummary
from usvs.store.indexing import index_archive
from usvs.store.label_summary import ClassCount
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings

PREPARE = PrepareSettings(frame_pixels=32, codec="raw")


def index(archive: Path, store: Path, **options) -> IndexSummary:
    return index_archive(archive, store, clips=CLIPS, workers=1, **options)


def prepared(store: Path) -> tuple[PreparedStore, dict[str, int]]:
    """The prepared store, and the number of each scan by its path."""
    path_of = {row["scan_key"]: path for path, row in rows(store).items()}
    opened = PreparedStore(store)
    return opened, {path_of[key]: number for number, key in enumerate(opened.scans)}


def shown(store: Path, column: str) -> dict[str, list[str | None]]:
    """The class of each frame of each scan, without repetitions."""
    opened, numbers = prepared(store)
    classes, found = opened.labels.class_list(column), {}
    for path, number in numbers.items():
        known = opened.labels.of_scan(number, classes, opened.scan(number).frame_seconds)
        names = [] if known is None else [classes.names[one] if one >= 0 else None for one in known.tolist()]
        found[path] = [name for name, before in zip(names, [object(), *names], strict=False) if name != before]
    return found


@pytest.fixture
def clips(make_video, archive: Path) -> Path:
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "c/9.mp4"):
        make_video(name, count=20)
    return archive


def test_labels_of_files_and_of_parts_become_classes_with_counts(clips: Path, store: Path):
    (clips / "labels.csv").write_text(
        "file,view,point\na/1.mp4,PLAX,1\na/2.mp4,4CH,10\nb/1.mp4,PLAX,2\nelse.mp4,PLAX,2\n"
    )
    (clips / "c/9.labels.csv").write_text("start_seconds,end_seconds,view\n0,0.5,4CH\n0.5,0.8,apex\n")
    summary = index(clips, store)
    assert summary.no_labels == 0 and summary.other == {}
    assert summary.labels.counts["view"] == {
        "4CH": ClassCount(2, pytest.approx(1.5), 2), "apex": ClassCount(1, pytest.approx(0.3), 1),
        "PLAX": ClassCount(2, pytest.approx(2.0), 2),
    }  # fmt: skip
    text = str(summary)
    assert "labels 'view': 3 classes" in text and "labels 'point': 3 classes" in text
    assert "1 row of labels.csv of files that are not in the archive, line 5: else.mp4" in text
    prepare_store(store, profile=PREPARE, workers=1)
    opened, _ = prepared(store)
    assert opened.labels.class_list("point").names == ("1", "2", "10")
    assert shown(store, "view") == {
        "a/1.mp4": ["PLAX"], "a/2.mp4": ["4CH"], "b/1.mp4": ["PLAX"], "c/9.mp4": ["4CH", "apex", None],
    }  # fmt: skip
    assert shown(store, "point")["c/9.mp4"] == []
    with pytest.raises(ConfigError, match=r"expected --labels with one of view \(3 classes\), point \(3 classes\)"):
        opened.labels.choose_column()
    with pytest.raises(ConfigError, match="expected one of the store's \\('view', 'point'\\), got 'viw'"):
        opened.labels.choose_column("viw")


def test_spellings_are_asked_about_and_merged_by_the_file_alone(clips: Path, store: Path):
    (clips / "labels.csv").write_text("file,label\na/1.mp4,4CH\na/2.mp4,4CH\nb/1.mp4,4-chamber\nc/9.mp4,poor\n")
    summary = index(clips, store)
    prepare_store(store, profile=PREPARE, workers=1)
    assert list(summary.labels.counts["label"]) == ["4-chamber", "4CH", "poor"]
    assert summary.labels.questions == {"label": [{"4CH": 2, "4-chamber": 1}]}
    lines = [line.strip() for line in str(summary).splitlines()]
    asked = lines.index("question: are these labels of column 'label' one class? '4CH' (2 files), '4-chamber' (1 file)")
    assert str(clips / "classes.csv") in lines[asked + 1]
    answer = lines[asked + 2 : asked + 4]
    assert answer == ["column,label,class", "label,4-chamber,4CH"]
    assert shown(store, "label")["b/1.mp4"] == ["4-chamber"]  # asked about, not merged
    (clips / "classes.csv").write_text("\n".join([*answer, "label,poor,"]) + "\n")
    merged = index(clips, store)  # no new preparation
    assert list(merged.labels.counts["label"]) == ["4CH"] and merged.labels.questions == {"label": []}
    assert merged.labels.counts["label"]["4CH"].files == 3 and "labels of 1 file are left out" in str(merged)
    assert shown(store, "label") == {"a/1.mp4": ["4CH"], "a/2.mp4": ["4CH"], "b/1.mp4": ["4CH"], "c/9.mp4": [None]}
    (clips / "classes.csv").write_text("column,label,class\n" + "\n".join(lines[asked + 5 : asked + 7]) + "\n")
    settled = index(clips, store)
    assert list(settled.labels.counts["label"]) == ["4CH", "4-chamber", "poor"]
    assert settled.labels.questions == {"label": []}, "answered"
    (clips / "classes.csv").write_text("column,label,class\nlable,4-chamber,4CH\n")
    assert "classes.csv: rows of column 'lable', which no label is in, are not used" in str(index(clips, store))


def test_a_corrected_label_needs_no_preparation_and_is_another_store_to_results(clips: Path, store: Path):
    from usvs.tasks.fingerprint import store_sha256

    table = "file,label\na/1.mp4,{}\na/2.mp4,B\nb/1.mp4,B\nc/9.mp4,B\n"
    (clips / "labels.csv").write_text(table.format("A"))
    index(clips, store)
    prepare_store(store, profile=PREPARE, workers=1)
    first = store_sha256(PreparedStore(store))
    (clips / "labels.csv").write_text(table.format("C"))
    index(clips, store)
    assert shown(store, "label")["a/1.mp4"] == ["C"]
    assert prepare_store(store, profile=PREPARE, workers=1).unchanged == 4
    assert store_sha256(PreparedStore(store)) != first


def test_labels_that_are_no_standard_planes_become_classes(clips: Path, store: Path):
    for scan, text in (("a/1", "0,0.5,femur\n0.5,1,bladder\n"), ("b/1", "0,1,3VV\n")):
        (clips / f"{scan}.planes.csv").write_text("start_seconds,end_seconds,plane\n" + text)
    summary = index(clips, store)
    assert not summary.unused_tables
    assert "some are no standard planes: 'usvs finetune classify' makes classes of them" in str(summary)
    assert list(summary.labels.counts["plane"]) == ["3VV", "bladder", "femur"]
    prepare_store(store, profile=PREPARE, workers=1)
    assert shown(store, "plane")["a/1.mp4"] == ["femur", "bladder"]
    opened, numbers = prepared(store)
    planes = np.asarray(opened.scan(numbers["a/1.mp4"]).planes)
    assert planes[:10].tolist() == [3] * 10 and planes[10:].tolist() == [-1] * 10


def test_a_label_that_the_file_names_as_a_plane_is_that_plane(clips: Path, store: Path):
    from usvs.data.frame_table import frame_classes

    (clips / "a/1.planes.csv").write_text("start_seconds,end_seconds,plane\n0,0.5,thigh\n0.5,1,4CH\n")
    index(clips, store)
    prepare_store(store, profile=PREPARE, workers=1)
    (clips / "classes.csv").write_text("column,label,class\nplane,thigh,femur\n")
    index(clips, store)
    opened, numbers = prepared(store)
    assert np.unique(frame_classes(opened, numbers["a/1.mp4"])).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("labels.csv", "file,label\na/1.mp4,A\na/1.mp4,B\n", "labels overlap"),
        ("labels.csv", "video_file_name,label\na/1.mp4,A\n", "expected a column file or"),
        ("a/1.labels.csv", "start_seconds,label\n0,A\n", "got 'start_seconds' alone"),
        ("a/1.labels.csv", "frame,label\n20,A\n", "expected frames from 0 to 19, got 20"),
    ],
)
def test_a_table_that_is_not_used_is_listed(clips: Path, store: Path, name: str, text: str, reason: str):
    (clips / name).write_text(text)
    summary = index(clips, store)
    ((file, why),) = summary.unused_tables
    assert file.endswith(name) and reason in why and summary.usable == 4 and summary.no_labels == 4


def test_one_column_in_two_files_is_refused_and_not_merged(clips: Path, store: Path):
    (clips / "labels.csv").write_text("file,label\na/1.mp4,A\na/2.mp4,B\n")
    (clips / "a/1.labels.csv").write_text("start_seconds,end_seconds,label\n0,1,B\n")
    summary = index(clips, store)
    assert summary.unused_tables == (("a/1.labels.csv", "labels: expected column 'label' in one file, got it in two"),)
    assert rows(store)["a/1.mp4"]["labels"] is None and rows(store)["a/2.mp4"]["labels"] is not None


def test_patients_of_the_table_are_those_of_the_manifest_where_it_has_none(clips: Path, store: Path):
    (clips / "labels.csv").write_text("file,patient,label\na/1.mp4,p1,A\na/2.mp4,p2,A\nb/1.mp4,p1,B\nc/9.mp4,p3,B\n")
    (clips / "manifest.csv").write_text("scan,patient\nc/9.mp4,p2\n")
    assert index(clips, store).patients == 2
    found = {path: row["patient_key"] for path, row in rows(store).items()}
    assert found["a/1.mp4"] == found["b/1.mp4"] != found["a/2.mp4"] == found["c/9.mp4"]


def test_a_store_of_other_classes_is_refused_with_both_lists(clips: Path, store: Path):
    from usvs.store.store_labels import check_classes

    (clips / "labels.csv").write_text("file,label,side\na/1.mp4,A,L\na/2.mp4,B,R\n")
    index(clips, store)
    prepare_store(store, profile=PREPARE, workers=1)
    labels = PreparedStore(store).labels
    for fitting in (
        ClassList(("B", "C", "A"), column="label"),
        ClassList(("R", "L")),
        ClassList(("b", "A"), {"B": "b"}),
    ):
        check_classes(fitting, labels)
    check_classes(ClassList(("x", "A", "B"), column="other"), labels)
    for other in (ClassList(("A", "C"), column="label"), ClassList(("L", "R"), column="label"), ClassList(("A", "L"))):
        with pytest.raises(DataError) as refused:
            check_classes(other, labels)
        assert f"model{', column ' if other.column else ''}" in str(refused.value)
        assert ", ".join(other.names) in str(refused.value) and "column 'label': A, B" in str(refused.value)


def test_labels_of_dicom_frames_count_the_frames_of_the_file(archive: Path, store: Path):
    archive.mkdir()
    write_dicom(archive / "p.dcm", gray_frames(range(40, 160, 10)), FrameTime="40")
    (archive / "p.labels.csv").write_text("frame,view\n0,A\n1,A\n2,B\n11,A\n")
    assert index(archive, store).labels.counts["view"]["A"].seconds == pytest.approx(3 * 0.04)
    prepare_store(store, profile=PREPARE, workers=1)
    assert shown(store, "view") == {"p.dcm": ["A", "B", None, "A"]}


def test_the_owner_names_the_files_or_puts_them_beside_the_archive(clips: Path, store: Path, tmp_path: Path):
    table, rules = tmp_path / "my labels.csv", tmp_path / "my classes.csv"
    table.write_text("file,label\na/1.mp4,A\na/2.mp4,a\nb/1.mp4,B\n")
    rules.write_text("label,class\nB,B\n")
    summary = index(clips, store, label_file=table, class_file=rules)
    assert list(summary.labels.counts["label"]) == ["B", "A", "a"]
    assert f"write into '{rules}'" in str(summary), "the file in use, or its rows would be lost"
    beside = tmp_path / "archive.classes.csv"
    beside.write_text("label,class\na,A\n")
    (tmp_path / "archive.csv").write_text(table.read_text())
    summary = index(clips, store)
    assert list(summary.labels.counts["label"]) == ["A", "B"] and str(tmp_path / "archive.csv") in str(summary)
    (clips / "classes.csv").write_text("label,class\nB,\n")
    assert list(index(clips, store).labels.counts["label"]) == ["A", "a"]
    with pytest.raises(DataError, match=r"absent\.csv: not readable"):
        index(clips, store, class_file=tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"labels '.*absent\.csv': expected a csv, got no such file"):
        index(clips, store, label_file=tmp_path / "absent.csv")
