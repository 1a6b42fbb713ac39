"""Frames of a narrated scan: silent videos played to and fro on one canvas."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.sector import detect_sector
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.narration.labelled_videos import LabelledVideo
from usvs.narration.media import LIMITED_RANGE
from usvs.narration.plan import Played

NEUTRAL_CHROMA = 128
MAX_CACHED_BYTES, MAX_CACHED_VIDEOS = 8 << 20, 48  # of one video on the canvas; number of videos
SECTOR_FRAMES = 12  # of a video, for the detection of its sector


def canvas_size(played: Sequence[Played], longer_side: int) -> tuple[int, int]:
    """Return width and height of a scan's frames: even numbers, in the median aspect ratio of its videos."""
    aspect = float(np.median([part.video.aspect for part in played]))
    width, height = (longer_side, longer_side / aspect) if aspect >= 1 else (longer_side * aspect, longer_side)
    return max(2, round(width / 2) * 2), max(2, round(height / 2) * 2)


@dataclass(frozen=True)
class Canvas:
    """How videos are shown.

    Attributes:
        width: in pixels.
        height: in pixels.
        rate_hz: frame rate of the scan.
        crop_to_sector: show only the bounding box of each video's sector, without the scanner's screen around it.
    """

    width: int
    height: int
    rate_hz: int
    crop_to_sector: bool

    def frame_bytes(self) -> int:
        """Return the size of a frame as planar YUV 4:2:0."""
        return self.width * self.height * 3 // 2


def iter_pictures(played: Sequence[Played], canvas: Canvas) -> Iterator[NDArray[np.uint8]]:
    """Yield every frame as limited-range planar YUV 4:2:0 [height * 3 / 2, width], in gray.

    Args:
        played: clips of the scan.
        canvas: on which they are shown.

    Raises:
        DataError: for a video that cannot be decoded.
    """
    for part in played:
        clock = played_seconds(part.stop - part.start, part.video.last_seconds, part.phase, canvas.rate_hz)
        ticks = np.round(clock * canvas.rate_hz).astype(int)
        first, count = int(ticks.min()), int(ticks.max() - ticks.min()) + 1
        whole = int(part.video.last_seconds * canvas.rate_hz) + 1
        if whole * canvas.frame_bytes() <= MAX_CACHED_BYTES and part.video.last_seconds <= len(clock) / canvas.rate_hz:
            first, count = 0, whole
            frames = _decode_cached(part.video, first, count, canvas)
        else:
            frames = _decode(part.video, first, count, canvas)
        yield from (frames[min(tick - first, len(frames) - 1)] for tick in ticks.tolist())


def played_seconds(frames: int, last_seconds: float, phase: float, rate_hz: int) -> NDArray[np.float64]:
    """Return the time in a video of each frame that is shown, in seconds after its first frame [frames].

    A video that is longer than it is played for runs forward only, from a random start.

    Args:
        frames: number of frames for which it is played.
        last_seconds: time of its last frame.
        phase: where it begins, 0 .. 1.
        rate_hz: frame rate of the scan.
    """
    clock = np.arange(frames) / rate_hz
    if last_seconds > frames / rate_hz:
        return np.asarray(phase * (last_seconds - frames / rate_hz) + clock)
    way = np.mod(phase * 2 * last_seconds + clock, 2 * last_seconds)
    return np.asarray(np.minimum(way, 2 * last_seconds - way))


def _decode(video: LabelledVideo, first: int, count: int, canvas: Canvas) -> list[NDArray[np.uint8]]:
    """Return the frames shown at `count` ticks of the scan's frame rate from tick `first` on, on the canvas."""
    try:
        info = read_video_info(video.path)
        times = np.asarray(info.timing.seconds, np.float64) - info.timing.seconds[0]
        clock = np.arange(first, first + count) / canvas.rate_hz
        index = np.clip(np.searchsorted(times, clock + 1e-6, side="right") - 1, 0, None)
        needed = np.unique(index)
        frames: list[NDArray[np.uint8]] = []
        for seconds, gray in iter_gray_frames(video.path, info):
            # a frame that cannot be decoded is replaced by the next one, or at the end by the one before
            while len(frames) < len(needed) and seconds - info.timing.seconds[0] >= times[needed[len(frames)]] - 1e-6:
                frames.append(gray)
            if len(frames) == len(needed):
                break
    except DataError as error:
        raise DataError(f"video '{video.file}': {error}; remove its row to leave it out") from None
    if not frames:
        raise DataError(f"video '{video.file}': no frame can be decoded; remove its row to leave it out")
    shown = _crop_to_sector(frames, info.region) if canvas.crop_to_sector else frames
    planar = [_to_canvas(gray, canvas) for gray in shown]
    return [planar[min(row, len(planar) - 1)] for row in np.searchsorted(needed, index).tolist()]


_decode_cached = lru_cache(maxsize=MAX_CACHED_VIDEOS)(_decode)  # a video is shown in several scans


def _crop_to_sector(frames: list[NDArray[np.uint8]], region: Box | None) -> list[NDArray[np.uint8]]:
    """Return the bounding box of the sector of each frame; without a sector, the region that the file states."""
    if region is not None:  # it may hold letters beside the sector
        frames = [region.crop(frame) for frame in frames]
    chosen = np.unique(np.linspace(0, len(frames) - 1, SECTOR_FRAMES).astype(int))
    bounds = detect_sector(np.stack([frames[index] for index in chosen.tolist()])).bounds
    return frames if bounds is None else [bounds.crop(frame) for frame in frames]


def _to_canvas(gray: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
    """Scale a frame to fit into the canvas, on black, as planar YUV."""
    width, height = canvas.width, canvas.height
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
