"""Frames of a narrated scan: silent videos played to and fro on one canvas."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.sector import detect_sector
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.media.video_info import VideoInfo
from usvs.narration.media import LIMITED_RANGE
from usvs.narration.plan import Played

NEUTRAL_CHROMA = 128
SECTOR_FRAMES = 12  # of a video, for the detection of its sector


def canvas_size(played: Sequence[Played], longer_side: int) -> tuple[int, int]:
    """Return width and height of a scan's frames: even numbers, in the median aspect ratio of its videos."""
    aspect = float(np.median([part.video.aspect for part in played]))
    width, height = (longer_side, longer_side / aspect) if aspect >= 1 else (longer_side * aspect, longer_side)
    return max(2, round(width / 2) * 2), max(2, round(height / 2) * 2)


def iter_pictures(
    played: Sequence[Played], size: tuple[int, int], rate_hz: int, crop_to_sector: bool
) -> Iterator[NDArray[np.uint8]]:
    """Yield every frame as limited-range planar YUV 4:2:0 [height * 3 / 2, width], in gray.

    Args:
        played: clips of the scan.
        size: width and height of the canvas.
        rate_hz: frame rate of the scan.
        crop_to_sector: show only the bounding box of each video's sector, without the scanner's screen around it.

    Raises:
        DataError: for a video that cannot be decoded.
    """
    for part in played:
        yield from _play(part, size, rate_hz, crop_to_sector)


def played_seconds(length_seconds: float, last_seconds: float, phase: float, rate_hz: int) -> NDArray[np.float64]:
    """Return the time in a video of each frame that is shown, in seconds after its first frame [n].

    A video that is longer than it is played for runs forward only, from a random start.

    Args:
        length_seconds: for which it is played.
        last_seconds: time of its last frame.
        phase: where it begins, 0 .. 1.
        rate_hz: frame rate of the scan.
    """
    clock = np.arange(round(length_seconds * rate_hz)) / rate_hz
    if last_seconds > length_seconds:
        return np.asarray(phase * (last_seconds - length_seconds) + clock)
    way = np.mod(phase * 2 * last_seconds + clock, 2 * last_seconds)
    return np.asarray(np.minimum(way, 2 * last_seconds - way))


@lru_cache(maxsize=1024)  # a clip is played in several scans
def _read_info(path: Path) -> VideoInfo:
    return read_video_info(path)


def _play(part: Played, size: tuple[int, int], rate_hz: int, crop_to_sector: bool) -> Iterator[NDArray[np.uint8]]:
    try:
        info = _read_info(part.video.path)
        times = np.asarray(info.timing.seconds, np.float64) - info.timing.seconds[0]
        clock = played_seconds((part.stop - part.start) / rate_hz, float(times[-1]), part.phase, rate_hz)
        index = np.clip(np.searchsorted(times, clock + 1e-6, side="right") - 1, 0, None)
        needed = np.unique(index)
        frames: list[NDArray[np.uint8]] = []
        for seconds, gray in iter_gray_frames(part.video.path, info):
            # a frame that cannot be decoded is replaced by the next one, or at the end by the one before
            while len(frames) < len(needed) and seconds - info.timing.seconds[0] >= times[needed[len(frames)]] - 1e-6:
                frames.append(gray)
            if len(frames) == len(needed):
                break
    except DataError as error:
        raise DataError(f"video '{part.video.file}': {error}; remove its row to leave it out") from None
    if not frames:
        raise DataError(f"video '{part.video.file}': no frame can be decoded; remove its row to leave it out")
    planar = [_to_canvas(gray, size) for gray in (_crop_to_sector(frames, info.region) if crop_to_sector else frames)]
    for row in np.searchsorted(needed, index).tolist():
        yield planar[min(row, len(planar) - 1)]


def _crop_to_sector(frames: list[NDArray[np.uint8]], region: Box | None) -> list[NDArray[np.uint8]]:
    """Return the bounding box of the sector of each frame; without a sector, the region that the file states."""
    if region is not None:  # it may hold letters beside the sector
        frames = [region.crop(frame) for frame in frames]
    chosen = np.unique(np.linspace(0, len(frames) - 1, SECTOR_FRAMES).astype(int))
    bounds = detect_sector(np.stack([frames[index] for index in chosen.tolist()])).bounds
    return frames if bounds is None else [bounds.crop(frame) for frame in frames]


def _to_canvas(gray: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a frame to fit into the canvas, on black, as planar YUV."""
    width, height = size
    factor = min(width / gray.shape[1], height / gray.shape[0])
    w, h = max(1, round(gray.shape[1] * factor)), max(1, round(gray.shape[0] * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    left, top = (width - w) // 2, (height - h) // 2
    planar = np.full((height * 3 // 2, width), NEUTRAL_CHROMA, np.uint8)
    planar[:height] = LIMITED_RANGE[0]
    planar[top : top + h, left : left + w] = cv2.LUT(
        cv2.resize(gray, (w, h), interpolation=interpolation), LIMITED_RANGE
    )
    return planar
