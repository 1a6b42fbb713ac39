"""Silent videos with a label each: the table that lists them, and what their headers state."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usvs.archive.csv_rows import CsvRow, describe_columns, open_csv
from usvs.errors import DataError
from usvs.media.video import read_video_info
from usvs.utils.progress import track

FILE_COLUMN, PATIENT_COLUMN = "file", "patient"
MIN_FRAMES = 2  # of a video that can be played to and fro


@dataclass(frozen=True)
class LabelledVideo:
    """One silent video.

    Attributes:
        file: path as the table states it.
        path: of the file.
        topic: index of its class in the lexicon.
        patient: patient or source; all videos of one are in the same part.
        exam: kind of examination; scans that join videos of several patients are of one kind each.
        aspect: width divided by height.
        last_seconds: time of its last frame.
    """

    file: str
    path: Path
    topic: int
    patient: str
    exam: str = ""
    aspect: float = 1.0
    last_seconds: float = 0.0


@dataclass(frozen=True)
class VideoTable:
    """The videos of a table.

    Attributes:
        videos: in the order of the table.
        unlabelled: number of rows without a label, which are left out.
        has_patients: whether the table names patients; if not, each video is a patient of its own.
    """

    videos: tuple[LabelledVideo, ...]
    unlabelled: int
    has_patients: bool


@dataclass(frozen=True)
class TableColumns:
    """Names of the columns that are read, besides ``file``.

    Attributes:
        label: of the classes; a row without one is left out.
        patient: of patients or sources; None: ``patient`` if there is one, otherwise each video is its own patient.
        exam: of the kinds of examination; None: all videos are of one kind.
    """

    label: str = "label"
    patient: str | None = None
    exam: str | None = None


def read_labelled_videos(folder: Path, labels: Path, classes: tuple[str, ...], columns: TableColumns) -> VideoTable:
    """Read the table of labels, and the header of each video.

    Args:
        folder: paths of the table are relative to it.
        labels: a csv.
        classes: names of the lexicon's classes.
        columns: of the csv.

    Raises:
        DataError: for a missing column, a label without terms, a file that is missing, named twice or not readable.
    """
    what = f"labels '{labels}'"
    with open_csv(labels, what) as table:
        if columns.patient is None and PATIENT_COLUMN in table.columns:
            columns = replace(columns, patient=PATIENT_COLUMN)
        needed = [name for name in (FILE_COLUMN, columns.label, columns.patient, columns.exam) if name is not None]
        if missing := [name for name in needed if name not in table.columns]:
            got = describe_columns(table.columns, needed)
            expected = f"expected {', '.join(needed)}"
            hint = "; --label-column names another" if missing[0] == columns.label else ""
            raise DataError(f"{what}, line 1: column '{missing[0]}' is missing: {expected}, got {got}{hint}")
        rows = list(table.rows)
    labelled = [row for row in rows if row.values[columns.label]]
    if not labelled:
        raise DataError(f"{what}: expected one or more rows with a label in column '{columns.label}', got none")
    videos = list(_parse_rows(folder, labelled, classes, what, columns))
    inspected = list(track((_inspect(video, what) for video in videos), "inspecting videos", len(videos)))
    return VideoTable(tuple(inspected), len(rows) - len(labelled), columns.patient is not None)


def _parse_rows(
    folder: Path, rows: Iterable[CsvRow], classes: tuple[str, ...], what: str, columns: TableColumns
) -> Iterator[LabelledVideo]:
    line_of: dict[Path, int] = {}
    for row in rows:
        where = f"{what}, line {row.line}"
        file, label = row.values[FILE_COLUMN], row.values[columns.label]
        if label not in classes:
            raise DataError(
                f"{where}: label '{label}' has no terms in the lexicon: expected one of {', '.join(classes)}; "
                "add the class, or empty the label to leave the video out"
            )
        path = folder / file.replace("\\", "/")
        if not file or not path.is_file():
            raise DataError(f"{where}: expected a video file in '{folder}', got '{file}'")
        if (first := line_of.setdefault(path.resolve(), row.line)) != row.line:
            raise DataError(f"{where}: file '{file}' is named in line {first} already: expected each video once")
        for column in (columns.patient, columns.exam):
            if column is not None and not row.values[column]:
                raise DataError(f"{where}: expected a value in column '{column}', got none")
        patient = row.values[columns.patient] if columns.patient else file
        yield LabelledVideo(file, path, classes.index(label), patient, row.values[columns.exam] if columns.exam else "")


def _inspect(video: LabelledVideo, what: str) -> LabelledVideo:
    try:
        info = read_video_info(video.path)
    except DataError as error:
        raise DataError(f"{what}: video '{video.file}': {error}; remove its row to leave it out") from None
    if info.frames < MIN_FRAMES:
        raise DataError(f"{what}: video '{video.file}': expected {MIN_FRAMES} or more frames, got {info.frames}")
    seconds = np.asarray(info.timing.seconds)
    return replace(video, aspect=info.width / info.height, last_seconds=float(seconds[-1] - seconds[0]))


def choose_part(videos: tuple[LabelledVideo, ...], part: str, test_fraction: float) -> tuple[LabelledVideo, ...]:
    """Divide patients into two parts and return the videos of one.

    Of each class, the fraction of its patients is in the test part, as nearly as the patients with several classes
    allow. A class with only one patient is in the training part. Patients are ranked by a hash of their names, so the
    division depends neither on the seed nor on the order of the table.

    Args:
        videos: all videos.
        part: ``train`` or ``test``.
        test_fraction: of the patients of each class.
    """
    topics_of: dict[str, set[int]] = {}
    for video in videos:
        topics_of.setdefault(video.patient, set()).add(video.topic)
    order = sorted(topics_of, key=lambda patient: hashlib.sha256(f"part {patient}".encode()).digest())
    patients = Counter(topic for topics in topics_of.values() for topic in topics)
    missing = {topic: min(max(1, round(test_fraction * count)), count - 1) for topic, count in patients.items()}
    tested: set[str] = set()
    for topic in sorted(missing, key=lambda topic: (patients[topic], topic)):
        for patient in order:
            if missing[topic] <= 0:
                break
            # a patient whose other classes have no place left would empty the training part of a rare class
            if (
                patient not in tested
                and topic in topics_of[patient]
                and all(missing[t] > 0 for t in topics_of[patient])
            ):
                tested.add(patient)
                for other in topics_of[patient]:
                    missing[other] -= 1
    return tuple(video for video in videos if (video.patient in tested) == (part == "test"))
