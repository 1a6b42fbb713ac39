"""Frames of a store, of image and video files, in batches with what is known about each: what embedding is made of."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import ClassList
from usvs.archive.labels import STANDARD_PLANES
from usvs.data.frame_table import every_nth_frame, read_frames
from usvs.errors import DataError
from usvs.inference.frames import FOLDER_OF_FILES, file_batches
from usvs.media.box import Box
from usvs.store.identity import is_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import default_class_list, has_planes
from usvs.tasks.features import BATCH_FRAMES
from usvs.utils.progress import track
from usvs.utils.text import shell_command

logger: logging.Logger = logging.getLogger(__name__)


class FrameBatch(NamedTuple):
    """Some frames of one scan or file, in order of time.

    Attributes:
        scan: keyed hash of a store's scan, or the path of a file.
        patient: keyed hash; None where it is not known.
        seconds: time of each frame; None for an image.
        labels: name of the plane, or of the class of the store's only other label column; None without a label.
        frames: uint8 [b, P, P].
    """

    scan: str
    patient: str | None
    seconds: list[float | None]
    labels: list[str | None]
    frames: NDArray[np.uint8]


class KnownLabels(NamedTuple):
    """Which labels of a store are read with its frames.

    Attributes:
        classes: of which the labels are; None: the standard planes.
        names: of the classes in their order; empty: no label is read.
    """

    classes: ClassList | None
    names: Sequence[str]


def open_store(folder: Path) -> PreparedStore:
    """Open a prepared store for its frames.

    Raises:
        DataError: for another folder, or a store without prepared scans.
    """
    if not is_store(folder):
        raise DataError(f"'{folder}': expected a prepared store, or image and video files, got {FOLDER_OF_FILES}")
    store = PreparedStore(folder)
    if not store.scans:
        raise DataError(
            f"store '{folder}': expected prepared scans, got none: {shell_command('usvs', 'prepare', folder)}"
        )
    return store


def source_batches(
    files: Sequence[Path], side: int, stride: int, what: str, failed: list[str] | None = None
) -> Iterator[FrameBatch]:
    """Yield the frames of stores, images and videos.

    Args:
        files: stores, images and videos.
        side: of the frames of a file, in pixels.
        stride: in frames.
        what: is done with them, for the progress.
        failed: gets the reason for each file that cannot be read, or not to its end; None: the first one is an error.

    Raises:
        DataError: naming the file that cannot be read.
    """
    for file in track(files, what) if len(files) > 1 else files:
        try:
            if os.path.isdir(file):  # noqa: PTH112  as in `file_batches`
                yield from store_batches(open_store(file), stride, what, failed)
            else:
                yield from media_batches(file, side, stride)
        except DataError as error:
            _skip(error if str(file) in str(error) else DataError(f"'{file}': {error}"), what, failed)


def store_batches(
    store: PreparedStore, stride: int, what: str, failed: list[str] | None = None
) -> Iterator[FrameBatch]:
    """Yield every `stride`-th frame of each scan of a store.

    Args:
        store: the prepared scans.
        stride: in frames.
        what: is done with them, for the progress.
        failed: as of `source_batches`, for each scan.

    Raises:
        DataError: for a scan that is damaged.
    """
    classes = None if has_planes(store) else default_class_list(store)
    known = KnownLabels(classes, STANDARD_PLANES if classes is None else classes.names)
    for number in track(range(len(store.scans)), what):
        try:
            yield from scan_batches(store, number, stride, known)
        except DataError as error:
            _skip(error, what, failed)


def scan_batches(store: PreparedStore, number: int, stride: int, known: KnownLabels) -> Iterator[FrameBatch]:
    """Yield every `stride`-th frame of one scan, with its known labels."""
    scan, table = store.scan(number), every_nth_frame(store, [number], stride, known.classes)
    for start in range(0, len(table), BATCH_FRAMES):
        rows = table.take(np.arange(start, min(start + BATCH_FRAMES, len(table))))
        yield FrameBatch(
            store.scans[number],
            scan.patient_key or None,
            scan.frame_seconds[rows.frame].tolist(),
            [known.names[label] if known.names and label >= 0 else None for label in rows.label.tolist()],
            read_frames(store, rows),
        )


def _skip(error: DataError, what: str, failed: list[str] | None) -> None:
    if failed is None:
        raise error from None
    failed.append(str(error))
    logger.warning(f"{what}, skipped: {error}")


def media_batches(file: Path, side: int, stride: int, box: Box | None = None) -> Iterator[FrameBatch]:
    """Yield an image, or every `stride`-th frame of a video; arguments and errors as of `file_batches`."""
    for seconds, frames in file_batches(file, side, stride, box):
        yield FrameBatch(str(file), None, seconds, [None] * len(frames), frames)
