"""FETAL_PLANES_DB: a csv and a folder of PNG files become an archive, a store, and labelled frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from usvs.archive.importers.fetal_planes import import_fetal_planes
from usvs.archive.labels import STANDARD_PLANES
from usvs.cli import main
from usvs.data.frame_table import labelled_frames, read_frames
from usvs.errors import ConfigError, DataError
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings

HEAD = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \n"
ROWS = [
    ("Patient00001_Plane1_1_of_2", 1, "Fetal abdomen", "Not A Brain", 1, "abdomen", (60, 80)),
    ("Patient00001_Plane1_2_of_2", 1, "Fetal femur", "Not A Brain", 1, "femur", (60, 80)),
    ("Patient00001_Plane3_1_of_1", 1, "Fetal brain", "Trans-cerebellum", 1, "brain_tc", (50, 90)),
    ("Patient00002_Plane3_1_of_1", 2, "Fetal brain", "Trans-thalamic", 0, None, (60, 80)),
    ("Patient00002_Plane5_1_of_1", 2, "Maternal cervix", "Not A Brain", 0, "background", (60, 80)),
    ("Patient00002_Plane6_1_of_1", 2, "Other", "Not A Brain", 0, None, (60, 80)),
    ("Patient00003_Plane2_1_of_1", 3, "Fetal thorax", "Not A Brain", 1, "4CH", (60, 80)),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "Images").mkdir(parents=True)
    lines = []
    for number, (name, patient, plane, brain, train, _, size) in enumerate(ROWS):
        picture = np.random.default_rng(number).integers(0, 256, size).astype(np.uint8)
        cv2.imwrite(str(folder / "Images" / f"{name}.png"), cv2.GaussianBlur(picture, (0, 0), 1.0))
        lines.append(f"{name};{patient};{plane};{brain};Op. 1;Voluson E6;{train}\n")
    (folder / "FETAL_PLANES_DB_data.csv").write_text(HEAD + "".join(lines))
    return folder


def test_every_image_is_imported_with_label_patient_and_pixels(source: Path, tmp_path: Path):
    archive, store = tmp_path / "archive", tmp_path / "store"
    main(["import", "fetal-planes", str(source), str(archive)])
    summary = index_archive(archive, store, workers=1)
    assert (summary.found, summary.usable, summary.no_planes, summary.clips) == (4, 4, 0, 0)
    prepare_store(store, profile=PrepareSettings(frame_pixels=64, codec="raw"), workers=1)
    prepared = PreparedStore(store)
    table = labelled_frames(prepared, stride=1)
    expected = sorted(STANDARD_PLANES.index(row[5]) for row in ROWS if row[5])
    assert sorted(table.label.tolist()) == expected and len(set(table.group.tolist())) == 3
    (row,) = np.flatnonzero(table.label == STANDARD_PLANES.index("brain_tc"))
    frame = read_frames(prepared, table.take(np.array([row])))[0]
    sector = prepared.scan(int(table.scan[row])).manifest.sector
    picture = cv2.imread(str(source / "Images" / f"{ROWS[2][0]}.png"), cv2.IMREAD_GRAYSCALE)
    left, top, right, bottom = sector
    cropped = cv2.resize(picture[top:bottom, left:right], (64, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(frame, cropped)  # lossless to the gray level


def test_a_label_map_and_the_african_planes_set(source: Path, tmp_path: Path):
    (source / "FETAL_PLANES_DB_data.csv").rename(source / "notes.txt")
    (source / "Images").rename(source / "Egypt")
    lines = [f"{patient},{plane},{train},Egypt,{name}\n" for name, patient, plane, _, train, _, _ in ROWS]
    (source / "African_planes_database.csv").write_text("Patient_num,Plane,Train,Center,Filename\n" + "".join(lines))
    summary = import_fetal_planes(source, tmp_path / "archive", {"Other": "background", "Fetal thorax": None})
    assert summary.planes == {"abdomen": 1, "femur": 1, "background": 2, "unlabelled": 3}
    assert "manifest.csv" in {path.name for path in (tmp_path / "archive").iterdir()}


def test_an_invalid_set_is_an_error_of_one_line(source: Path, tmp_path: Path):
    table = source / "FETAL_PLANES_DB_data.csv"
    text = table.read_text()
    for change, words in (
        (text.replace("Fetal femur", "Fetal toe"), "line 3: unknown plane 'Fetal toe'"),
        (
            text.replace("Patient00001_Plane1_1", "Patient00009"),
            "line 2: image 'Patient00009_of_2' is not in the folder",
        ),
        (text.replace(";3;", ";../x;"), "line 8: expected letters and digits as Patient_num, got '../x'"),
        (HEAD, "no image is listed"),
    ):
        table.write_text(change)
        with pytest.raises(DataError, match=words):
            import_fetal_planes(source, tmp_path / "archive")
        assert not (tmp_path / "archive").exists()
    table.write_text(text)
    with pytest.raises(DataError, match="is inside the set"):
        import_fetal_planes(source, source / "archive")
    with pytest.raises(DataError, match="is not empty"):
        import_fetal_planes(source, source)
    with pytest.raises(ConfigError, match="label map: unknown plane 'knee': expected one of 3VT"):
        import_fetal_planes(source, tmp_path / "archive", {"Other": "knee"})
    table.unlink()
    with pytest.raises(DataError, match="holds no csv"):
        import_fetal_planes(source, tmp_path / "archive")
