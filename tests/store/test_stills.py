"""Labelled pictures as scans: PNG, JPEG, BMP and TIFF that a table of labels names, beside videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.test_sector import make_screens
from tests.support.dicom_files import write_dicom
from tests.support.media_files import write_video
from usvs.archive.class_list import ClassList
from usvs.archive.discovery import discover_scans
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.errors import DataError
from usvs.media.video import read_video_info
from usvs.store.contact_sheet import save_contact_sheets
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings

SUFFIXES = ("png", "jpg", "bmp", "tiff")


def write_pictures(archive: Path, patients: int = 4, each: int = 2) -> dict[str, str]:
    """Write pictures of vertical and horizontal stripes, and their labels; return the labels by file."""
    labels = {}
    for number in range(patients * each):
        rows, columns = np.mgrid[:96, :112]
        wave = np.sin((rows if number % 2 else columns) * 0.4 + number)
        file = archive / f"p{number // each}" / f"Größe {number}.{SUFFIXES[number % 4]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.rint(110 + 80 * wave).astype(np.uint8))
        labels[file.relative_to(archive).as_posix()] = ("up", "across")[number % 2]
    lines = [f"{file},{file.split('/')[0]},{label}\n" for file, label in labels.items()]
    (archive / "labels.csv").write_text("file,patient,stripes\n" + "".join(lines), encoding="utf-8")
    return labels


def test_pictures_with_own_labels_become_frames_of_their_patients(tmp_path: Path):
    archive, store = tmp_path / "archive", tmp_path / "store"
    labels = write_pictures(archive)
    (archive / "p0" / "logo.png").write_bytes((archive / "p0" / "Größe 0.png").read_bytes())  # without a label
    summary = index_archive(archive, store, workers=1)
    assert (summary.found, summary.usable, summary.clips) == (8, 8, 0)
    prepare_store(store, profile=PrepareSettings(frame_pixels=48, codec="raw"), workers=1)
    prepared = PreparedStore(store)
    table = labelled_frames(prepared, 8, classes=ClassList(("across", "up"), {}, column="stripes"))
    assert sorted(table.label.tolist()) == [0] * 4 + [1] * 4 and len(set(table.group.tolist())) == 4
    frames = read_frames(prepared, table.take(np.arange(8)))
    is_across = np.ptp(frames.mean(axis=2), axis=1) > np.ptp(frames.mean(axis=1), axis=1)
    assert (is_across == (table.label == 0)).all() and len(labels) == 8


def test_a_picture_named_as_a_video_and_one_without_a_label_are_no_scans(tmp_path: Path):
    write_pictures(tmp_path, patients=1)
    write_video(tmp_path / "p0" / "clip.mp4", pictures=[np.zeros((48, 64), np.uint8)] * 3)
    for name in ("clip.png", "other.jpg"):
        (tmp_path / "p0" / name).write_bytes(b"x")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("clip,p0,up\n")  # fits the video alone
    found = discover_scans(tmp_path)
    assert [scan.path for scan in found.scans] == ["p0/Größe 0.png", "p0/Größe 1.jpg", "p0/clip.mp4"]
    assert found.scans[2].label_rows and found.other == {".png": 1, ".jpg": 1}
    assert found.label_table.problem is None


def test_pictures_without_labels_are_refused_with_what_is_expected(tmp_path: Path):
    write_pictures(tmp_path, patients=1)
    text = (tmp_path / "labels.csv").read_text("utf-8")
    (tmp_path / "labels.csv").write_text(text.replace("file,", "picture,"))
    with pytest.raises(DataError, match=r"no video among .*expected a column file .*or pictures that labels.csv has"):
        discover_scans(tmp_path)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(
        DataError, match=r"no video among its 2 files: expected .*pictures that labels.csv has labels of"
    ):
        discover_scans(tmp_path)


def test_a_picture_that_cannot_be_read_is_skipped_with_its_reason(tmp_path: Path):
    write_pictures(tmp_path / "archive", patients=1)
    (tmp_path / "archive/p0/Größe 0.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^expected a PNG, JPEG, BMP or TIFF, got a file that begins with"):
        read_video_info(tmp_path / "archive/p0/Größe 0.png")
    summary = index_archive(tmp_path / "archive", tmp_path / "store", workers=1)
    assert (summary.found, summary.usable) == (2, 1) and "p0/Größe 0.png: expected a PNG" in str(summary)


def test_contact_sheets_name_the_least_certain_of_pictures_and_dicom_files(tmp_path: Path):
    archive, screens = tmp_path / "archive", make_screens(3)[0]
    archive.mkdir()
    blob = cv2.GaussianBlur(np.random.default_rng(2).normal(0, 1, screens.shape[1:]), (0, 0), 40) > 0.005
    cv2.imwrite(str(archive / "a_clear.png"), screens[0])
    cv2.imwrite(str(archive / "b_unclear.png"), np.where(blob, screens[0], 0))
    write_dicom(archive / "c_clear.dcm", screens)
    write_dicom(archive / "d_unclear.dcm", np.where(blob, screens, 0))
    (archive / "labels.csv").write_text("file,view\na_clear.png,x\nb_unclear.png,y\n")
    index_archive(archive, tmp_path / "store", workers=1)
    save_contact_sheets(tmp_path / "store", tmp_path / "out", workers=1)
    rows = [line.split(",") for line in (tmp_path / "out" / "sectors.csv").read_text("utf-8").splitlines()[1:]]
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    assert {row[3] for row in rows[:2]} == {"b_unclear.png", "d_unclear.dcm"} and len(rows) == 4
