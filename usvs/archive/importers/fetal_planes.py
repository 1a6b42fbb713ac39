"""FETAL_PLANES_DB and sets of its kind (a csv and a folder of images) as an archive that every verb reads.

Source: Burgos-Artizzu et al. 2020, zenodo 3904280; Sendra-Balcells et al. 2023, zenodo 7540448 (African planes).
"""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.archive.labels import find_plane_index
from usvs.errors import DataError
from usvs.utils.progress import track

# A label of the set and the plane it is here; what is no plane of ours stays unlabelled, for it may hold one.
CLASSES: dict[str, str | None] = {
    "Fetal abdomen": "abdomen",
    "Fetal femur": "femur",
    "Fetal thorax": "4CH",  # the set's axial view of the thorax, with the heart
    "Maternal cervix": "background",
    "Other": None,
    "Trans-cerebellum": "brain_tc",
    "Trans-ventricular": "brain_tv",
    "Trans-thalamic": None,
    "Fetal brain": None,
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
RATE_HZ = 100  # so fast that no clip fits: stills are for fine-tuning, there is no order in them to learn
MOST_IMAGES = 150  # in a video: a clip of two seconds would need 200

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ImportSummary:
    """What was imported: numbers of images by the plane they became."""

    images: int
    patients: int
    videos: int
    planes: dict[str, int]

    def __str__(self) -> str:
        """Return two lines for a terminal."""
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.planes.items()))
        return (
            f"import: {self.images} images of {self.patients} patients in {self.videos} videos without loss\n"
            f"  {counted}; fine-tune with --set temporal_stride=1"
        )


@dataclass(frozen=True)
class _Labelled:
    path: Path
    patient: str
    split: str
    plane: str | None


def import_fetal_planes(source: Path, archive: Path, classes: Mapping[str, str | None] | None = None) -> ImportSummary:
    """Write an image set as an archive: lossless videos of stills, a folder a patient, with labels by frame.

    Args:
        source: the unpacked set; only read.
        archive: a new folder.
        classes: planes for labels of the set, laid over `CLASSES`; None leaves a label out.

    Raises:
        DataError: for a set without its csv or with an image missing, and for an archive folder that is not empty.
    """
    mapping = {**CLASSES, **(classes or {})}
    unknown = [plane for plane in mapping.values() if plane is not None and find_plane_index(plane) is None]
    if unknown:
        raise DataError(f"classes: unknown plane '{unknown[0]}'")
    rows = _read_rows(source, mapping)
    if archive.exists() and (not archive.is_dir() or any(archive.iterdir())):
        raise DataError(f"'{archive}' is not empty: name a new folder for the archive")
    if archive.resolve().is_relative_to(source.resolve()):
        raise DataError(f"'{archive}' lies inside the set, which is never written to; name a folder elsewhere")
    people: dict[str, list[_Labelled]] = defaultdict(list)
    for row in rows:
        people[row.patient].append(row)
    lines = [("scan", "patient", "split")]
    for patient, images in track(people.items(), "importing patients", total=len(people)):
        lines += [(scan, patient, split) for scan, split in _write_patient(archive, patient, images)]
    with (archive / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    planes = Counter(row.plane or "unlabelled" for row in rows)
    return ImportSummary(len(rows), len(people), len(lines) - 1, dict(planes))


def _read_rows(source: Path, mapping: Mapping[str, str | None]) -> list[_Labelled]:
    table, images = _table(source), _images(source)
    rows: list[_Labelled] = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        delimiter = ";" if ";" in file.readline() else ","
        file.seek(0)
        reader = csv.DictReader(file, delimiter=delimiter)
        for raw in reader:
            # the set's last column is called "Train " with a space behind it
            fields = {str(name).strip(): str(text or "").strip() for name, text in raw.items()}
            name = fields.get("Image_name") or fields.get("Filename") or ""
            path = images.get(Path(name).stem if name.lower().endswith(IMAGE_SUFFIXES) else name)
            if path is None:
                raise DataError(f"{table.name}, line {reader.line_num}: image '{name}' is not in the folder")
            label = fields.get("Plane", "")
            brain = fields.get("Brain_plane", "")
            named = brain if label == "Fetal brain" and brain in mapping and brain != "Other" else label
            if named not in mapping:
                known = ", ".join(mapping)
                raise DataError(f"{table.name}, line {reader.line_num}: unknown plane '{named}', known are {known}")
            patient, split = fields.get("Patient_num", ""), {"1": "train", "0": "test"}.get(fields.get("Train", ""), "")
            if not patient or not patient.isalnum():
                raise DataError(f"{table.name}, line {reader.line_num}: expected Patient_num, got '{patient}'")
            rows.append(_Labelled(path, patient, split, mapping[named]))
    if not rows:
        raise DataError(f"{table.name}: no image is listed")
    return rows


def _table(source: Path) -> Path:
    if not source.is_dir():
        raise DataError(f"'{source}' is not a folder")
    for table in sorted(source.glob("*.csv")):
        head = table.open(encoding="utf-8-sig", errors="replace").readline()
        if "Plane" in head and "Patient_num" in head:
            return table
    raise DataError(f"'{source}' holds no csv with the columns Patient_num and Plane")


def _images(source: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in found:
                raise DataError(f"two images are called '{path.stem}'")
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found[path.stem] = path
    return found


def _write_patient(archive: Path, patient: str, rows: Iterable[_Labelled]) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[Image, str | None]]] = defaultdict(list)
    for row in rows:
        picture = cv2.imread(os.fspath(row.path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise DataError(f"image '{row.path.name}' is not readable")
        groups[row.split, picture.shape].append((picture.astype(np.uint8, copy=False), row.plane))
    for (split, (height, width)), images in groups.items():
        for first in range(0, len(images), MOST_IMAGES):
            part = images[first : first + MOST_IMAGES]
            scan = f"{patient}/{split or 'stills'}_{width}x{height}_{first // MOST_IMAGES}.mkv"
            (archive / scan).parent.mkdir(parents=True, exist_ok=True)
            _write_stills(archive / scan, [picture for picture, _ in part])
            lines = [f"{number},{plane}\n" for number, (_, plane) in enumerate(part) if plane is not None]
            labels = (archive / scan).with_suffix(".planes.csv")
            labels.write_text("frame,plane\n" + "".join(lines), encoding="utf-8")
            yield scan, split


def _write_stills(path: Path, pictures: list[Image]) -> None:
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE_HZ)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = "gray"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
