"""What of a video's frames `usvs prepare` keeps: the inscribed crop, the complete sector, or the unfolded sector."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.sector import bounding_box
from usvs.media.sector_geometry import SectorGeometry
from usvs.media.video import iter_gray_frames
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.store.settings import PrepareSettings

OVERSAMPLING = 2  # of the unfolded sector, before it is reduced to the side of a frame


def shown_box(settings: PrepareSettings, inscribed: Box, geometry: SectorGeometry | None, info: VideoInfo) -> Box:
    """Return the part of the picture that frames show; of the unfolded sector, the part that it is resampled from.

    Where the geometry is unknown, because manifest.csv states the crop or no sector was found, this is the crop itself.
    """
    if settings.crop == "inscribed" or geometry is None:
        return inscribed
    mask = geometry.draw_mask(info.height, info.width)
    return bounding_box(mask) if mask.any() else inscribed


def iter_prepared_frames(
    video: Path,
    info: VideoInfo,
    decoded: VideoDecodeStats,
    settings: PrepareSettings,
    inscribed: Box,
    geometry: SectorGeometry | None,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield time in seconds and prepared frame uint8 [P, P] of every frame of a video.

    Args:
        video: the file.
        info: its streams and frame times.
        decoded: updated with what was decoded.
        settings: of the prepared scans.
        inscribed: the inscribed crop.
        geometry: of the sector, in pixels of the picture; None if unknown.

    Raises:
        DataError: if the file cannot be read.
    """
    side = settings.frame_pixels
    if settings.crop == "unfolded" and geometry is not None:
        for seconds, gray in iter_gray_frames(video, info, decoded):
            unfolded = geometry.unfold(gray, OVERSAMPLING * side, OVERSAMPLING * side)
            yield seconds, _resize(unfolded, side)
        return
    box = shown_box(settings, inscribed, geometry, info)
    outside = np.zeros((box.height, box.width), bool)
    if settings.crop == "sector" and geometry is not None:
        outside = ~box.crop(geometry.draw_mask(info.height, info.width))
    for seconds, cropped in iter_gray_frames(video, info, decoded, box):
        yield seconds, _resize(np.where(outside, np.uint8(0), cropped) if outside.any() else cropped, side)


def check_gaze(settings: PrepareSettings, has_gaze: bool) -> None:
    """Refuse gaze with unfolded frames: its positions and the visual angle are of the picture.

    Raises:
        DataError: for such a scan.
    """
    if settings.crop == "unfolded" and has_gaze:
        raise DataError("crop=unfolded: expected a scan without gaze, got one with gaze; use crop=sector or inscribed")


def _resize(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
