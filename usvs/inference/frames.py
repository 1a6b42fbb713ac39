"""Frames from whatever a user has: image files, video files, arrays; as square gray frames like those of a store."""

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.data.settings import TEMPORAL_STRIDE, check_stride
from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.images import crop_to, read_gray_image
from usvs.media.sector import Sector, detect_sector
from usvs.media.stills import is_still
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoInfo
from usvs.models.preprocessing import Images
from usvs.tasks.features import BATCH_FRAMES

logger: logging.Logger = logging.getLogger(__name__)

FOLDER_OF_FILES = "a folder of files: name the files, or index and prepare the folder"
SECTOR_FRAMES = 24  # of a video, evenly spaced, in which the sector is detected

# An image or video file, several of them, or images in memory.
Source: TypeAlias = str | Path | Sequence[str | Path] | Images


def as_files(source: Source) -> list[Path] | None:
    """Return the files that a source names; None for images in memory."""
    if isinstance(source, (str, Path)):
        return [Path(source)]
    if isinstance(source, (list, tuple)) and source and all(isinstance(one, (str, Path)) for one in source):
        return [Path(one) for one in source]
    return None


def crop_sector(image: NDArray[np.float64], file: Path, box: Box | None = None) -> NDArray[np.uint8]:
    """Return the inscribed crop of the sector of an image, or the given box of it; uint8 [h, w].

    Raises:
        DataError: where the box reaches outside of the image.
    """
    if box is None:
        sector = detect_sector(np.rint(image).astype(np.uint8)[None])
        if sector.note is not None:
            logger.info(f"'{file}': {sector.note}")
        box = sector.crop_box
    return np.rint(crop_to(image, box, file)).astype(np.uint8)


def resized(crop: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize a crop to a square frame, as `usvs prepare` does."""
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def read_image_frame(file: Path, side: int, box: Box | None = None) -> NDArray[np.uint8]:
    """Read an image file as a frame [side, side] of its sector, or of the given box.

    Raises:
        DataError: for a file that cannot be read, or a box outside of it.
    """
    return resized(crop_sector(read_gray_image(file), file, box), side)


def iter_video_frames(
    file: Path, side: int, stride: int, box: Box | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield time in seconds and frame [side, side] of every `stride`-th frame of a video.

    The video is decoded twice: once to detect the sector, once for the frames; it is never completely in memory.

    Args:
        file: the video.
        side: of the frames, in pixels.
        stride: every `stride`-th frame is yielded.
        box: the region to use, in pixels; None: the sector is detected.

    Raises:
        DataError: for a file that cannot be read.
    """
    info = read_video_info(file)
    if box is None:
        box = sample_sector(file, info).crop_box
    for seconds, gray in iter_gray(file, info, stride):
        yield seconds, resized(box.crop(gray), side)


def sample_sector(file: Path, info: VideoInfo) -> Sector:
    """Return the sector of a video, detected in frames from all of it.

    Raises:
        DataError: where no frame can be decoded.
    """
    sampled = [gray for _, gray in iter_gray(file, info, max(1, info.frames // SECTOR_FRAMES))]
    if not sampled:
        raise DataError(f"video '{file}': no frame could be decoded")
    return detect_sector(np.stack(sampled), info.region)


def iter_gray(file: Path, info: VideoInfo, stride: int) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield time in seconds and complete gray frame of every `stride`-th frame of a video."""
    check_stride(stride)
    return islice(iter_gray_frames(file, info), 0, None, stride)


def file_batches(
    file: Path, side: int, stride: int = TEMPORAL_STRIDE, box: Box | None = None
) -> Iterator[tuple[list[float | None], NDArray[np.uint8]]]:
    """Yield the times and frames [b, side, side] of an image or a video file, in batches of at most `BATCH_FRAMES`.

    Args:
        file: an image or a video.
        side: of the frames, in pixels.
        stride: every `stride`-th frame of a video is used.
        box: the region to use, in pixels of the file; None: the sector is detected.

    Raises:
        DataError: for a file that cannot be read; the frames before are yielded first.
    """
    if os.path.isdir(file):  # noqa: PTH112  which no name makes an error, as one that is too long does
        raise DataError(f"expected an image, a video or a prepared store, got {FOLDER_OF_FILES}")
    if is_still(file):
        yield [None], read_image_frame(file, side, box)[None]
        return
    seconds: list[float | None] = []
    frames: list[NDArray[np.uint8]] = []
    try:
        for moment, frame in iter_video_frames(file, side, stride, box):
            seconds.append(moment)
            frames.append(frame)
            if len(frames) == BATCH_FRAMES:
                yield seconds, np.stack(frames)
                seconds, frames = [], []
    except DataError:
        if frames:
            yield seconds, np.stack(frames)
        raise
    if frames:
        yield seconds, np.stack(frames)
