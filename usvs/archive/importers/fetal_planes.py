"""Importer of FETAL_PLANES_DB and sets of the same form: a csv and a folder of images.

Source: Burgos-Artizzu et al. 2020, zenodo 3904280; Sendra-Balcells et al. 2023, zenodo 7540448 (African planes).
"""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from usvs.archive.csv_rows import MAX_HEADER_BYTES, CsvRow, open_csv
from usvs.archive.discovery import iter_paths
from usvs.archive.importers import ImportSummary
from usvs.archive.labels import STANDARD_PLANES, find_plane_index
from usvs.errors import ConfigError, DataError
from usvs.media.images import IMAGE_SUFFIXES, read_gray_image
from usvs.utils.progress import track
from usvs.utils.regular_files import open_regular

# Label of the set and the standard plane it corresponds to. None: unlabelled, since it may show any plane.
LABEL_MAP: dict[str, str | None] = {
    "Fetal abdomen": "abdomen",
    "Fetal femur": "femur",
    "Fetal thorax": "4CH",  # the set's axial view of the thorax, which shows the heart
    "Maternal cervix": "background",
    "Other": None,
    "Trans-cerebellum": "brain_tc",
    "Trans-ventricular": "brain_tv",
    "Trans-thalamic": None,
    "Fetal brain": None,
}
SPLITS = {"1": "train", "0": "test"}  # values of the set's column Train
# Stills are for fine-tuning; their order carries nothing to learn. At this rate and length no video holds a clip.
RATE_HZ = 100
MAX_IMAGES_PER_VIDEO = 150  # a clip of two seconds would need 200

Image: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class _LabelledImage:
    path: Path
    patient: str
    split: str
    plane: str | None


def import_fetal_planes(
    source: str | Path, archive: str | Path, label_map: Mapping[str, str | None] | None = None
) -> ImportSummary:
    """Write an image set as an archive: lossless videos of stills, one folder per patient, labels by frame.

    Args:
        source: the unpacked set; only read.
        archive: a new folder.
        label_map: plane for labels of the set, replacing `LABEL_MAP`; None leaves a label out.

    Raises:
        ConfigError: for a plane of the label map that is none.
        DataError: for a set without its csv or with a missing image, and for an archive folder that is not empty.
    """
    source, archive = Path(source), Path(archive)
    mapping = {**LABEL_MAP, **(label_map or {})}
    unknown = [plane for plane in mapping.values() if plane is not None and find_plane_index(plane) is None]
    if unknown:
        raise ConfigError(f"label map: unknown plane '{unknown[0]}': expected one of {', '.join(STANDARD_PLANES)}")
    images = _read_images(source, mapping)
    _check_target(source, archive)
    images_of: dict[str, list[_LabelledImage]] = defaultdict(list)
    for image in images:
        images_of[image.patient].append(image)
    rows = [("scan", "patient", "split")]
    for patient, patient_images in track(images_of.items(), "importing patients", total=len(images_of)):
        rows += [(scan, patient, split) for scan, split in _write_patient(archive, patient, patient_images)]
    with (archive / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    planes = Counter(image.plane or "unlabelled" for image in images)
    return ImportSummary(len(images), len(images_of), len(rows) - 1, dict(planes))


def _check_target(source: Path, archive: Path) -> None:
    if archive.exists() and (not archive.is_dir() or any(archive.iterdir())):
        raise DataError(f"'{archive}' is not empty: expected a new folder for the archive")
    if archive.resolve().is_relative_to(source.resolve()):
        raise DataError(f"'{archive}' is inside the set '{source}', which is only read: expected a folder elsewhere")


def _read_images(source: Path, mapping: Mapping[str, str | None]) -> list[_LabelledImage]:
    table, path_of = _find_table(source), _find_images(source)
    with open_csv(table, table.name) as file:
        images = [_parse_image(row, table.name, path_of, mapping) for row in file.rows]
    if not images:
        raise DataError(f"{table.name}: no image is listed")
    return images


def _parse_image(
    row: CsvRow, table: str, path_of: Mapping[str, Path], mapping: Mapping[str, str | None]
) -> _LabelledImage:
    line, values = f"{table}, line {row.line}", row.values
    name = values.get("Image_name") or values.get("Filename") or ""
    path = path_of.get(Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name)
    if path is None:
        raise DataError(f"{line}: image '{name}' is not in the folder")
    label, brain_plane = values.get("Plane", ""), values.get("Brain_plane", "")
    if label == "Fetal brain" and brain_plane in mapping and brain_plane != "Other":
        label = brain_plane
    if label not in mapping:
        raise DataError(f"{line}: unknown plane '{label}': expected one of {', '.join(mapping)}")
    patient, split = values.get("Patient_num", ""), SPLITS.get(values.get("Train", ""), "")
    if not patient or not patient.isalnum():
        raise DataError(f"{line}: expected letters and digits as Patient_num, got '{patient}'")
    return _LabelledImage(path, patient, split, mapping[label])


def _find_table(source: Path) -> Path:
    if not source.is_dir():
        raise DataError(f"'{source}' is not a folder")
    for table in sorted(source.glob("*.csv")):
        with open_regular(table) as file:
            header = file.readline(MAX_HEADER_BYTES).decode("utf-8-sig", "replace")
        if "Plane" in header and "Patient_num" in header:
            return table
    raise DataError(f"'{source}' holds no csv with the columns Patient_num and Plane")


def _find_images(source: Path) -> dict[str, Path]:
    path_of: dict[str, Path] = {}
    for relative in iter_paths(source):
        path = source / relative
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in path_of:
            raise DataError(f"two images are named '{path.stem}': expected unique names in '{source}'")
        path_of[path.stem] = path
    return path_of


def _write_patient(archive: Path, patient: str, images: Iterable[_LabelledImage]) -> Iterator[tuple[str, str]]:
    """Write a patient's videos, one or more for each split and image size; yield path and split of each."""
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[Image, str | None]]] = defaultdict(list)
    for image in images:
        pixels = np.rint(read_gray_image(image.path)).astype(np.uint8)
        groups[image.split, pixels.shape].append((pixels, image.plane))
    for (split, (height, width)), group in groups.items():
        for first in range(0, len(group), MAX_IMAGES_PER_VIDEO):
            part = group[first : first + MAX_IMAGES_PER_VIDEO]
            scan = f"{patient}/{split or 'stills'}_{width}x{height}_{first // MAX_IMAGES_PER_VIDEO}.mkv"
            (archive / scan).parent.mkdir(parents=True, exist_ok=True)
            _write_stills(archive / scan, [pixels for pixels, _ in part])
            lines = [f"{frame},{plane}\n" for frame, (_, plane) in enumerate(part) if plane is not None]
            labels = (archive / scan).with_suffix(".planes.csv")
            labels.write_text("frame,plane\n" + "".join(lines), encoding="utf-8")
            yield scan, split


def _write_stills(path: Path, images: list[Image]) -> None:
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE_HZ)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = "gray"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
