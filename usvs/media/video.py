"""Reading of files as gray frames on the scan clock (t = 0 at the first frame): FFmpeg containers, DICOM, stills."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.media.box import Box
from usvs.media.containers import (
    iter_container_frames,
    iter_container_keyframes,
    read_container_info,
    replace_frame_times,
)
from usvs.media.dicom import iter_dicom_frames, read_dicom_info
from usvs.media.dicom_file import DicomFile, is_dicom, open_dicom
from usvs.media.dicom_header import read_frame_seconds, read_patient_id, read_region
from usvs.media.quiet_pydicom import quiet_pydicom
from usvs.media.stills import STILL, is_still, read_still, read_still_info
from usvs.media.video_info import VideoDecodeStats, VideoInfo


def read_video_info(path: str | Path) -> VideoInfo:
    """Read a video's header and packets, without decoding it.

    Args:
        path: a video file of any container that FFmpeg reads, a DICOM file, or a still picture.

    Raises:
        DataError: with what is wrong with the file, without its name.
    """
    path = Path(path)
    if is_still(path):
        return read_still_info(path)
    dicom = open_dicom(path) if is_dicom(path) else None
    if dicom is None:
        return read_container_info(path)
    return _read_stream_info(path, dicom) if dicom.is_video_stream else read_dicom_info(dicom)


def iter_gray_frames(
    path: str | Path,
    info: VideoInfo | None = None,
    stats: VideoDecodeStats | None = None,
    box: Box | None = None,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame in presentation order: its time in seconds and the full-range gray image [H, W].

    Args:
        path: video file.
        info: result of `read_video_info` for the file, if it was read already.
        stats: updated with what was decoded and what could not be decoded.
        box: part of the frame to return, in display orientation; None: all of it.

    Raises:
        DataError: if the file cannot be read or changes its frame size.
    """
    path = Path(path)
    info, stats = info or read_video_info(path), stats if stats is not None else VideoDecodeStats()
    if info.container == STILL:
        picture = read_still(path)
        stats.frames += 1
        yield 0.0, picture if box is None else box.crop(picture)
        return
    dicom = open_dicom(path) if info.container == "dicom" else None
    if dicom is None:
        yield from iter_container_frames(path, info, stats, box)
        return
    for seconds, gray in iter_dicom_frames(dicom, info, stats):
        yield seconds, gray if box is None else box.crop(gray)


def iter_keyframes(path: str | Path, info: VideoInfo, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield some keyframes as full-range gray images [H, W], by seeking; one that cannot be decoded is left out.

    Args:
        path: video file.
        info: result of `read_video_info` for the file.
        indices: frame indices out of `info.timing.keyframes`, increasing [k].
    """
    path = Path(path)
    if info.container == STILL:
        yield from (read_still(path) for _ in indices)
    elif info.container == "dicom":
        yield from (gray for _, gray in iter_dicom_frames(open_dicom(path), info, VideoDecodeStats(), indices))
    else:
        yield from iter_container_keyframes(path, info, indices)


@quiet_pydicom()
def _read_stream_info(path: Path, dicom: DicomFile) -> VideoInfo:
    info = read_container_info(path)
    seconds, note = read_frame_seconds(dicom.header, info.frames)
    # The DICOM tags take precedence over the stream's timestamps, unless the tags are missing or do not fit.
    timed = info if note is not None else replace_frame_times(info, seconds)
    return replace(
        timed,
        container=f"dicom of {info.container}",
        region=read_region(dicom.header, info.pixel_aspect),
        file_note=None,
        patient=read_patient_id(dicom.header),
    )
