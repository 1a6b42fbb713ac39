"""Video files as gray frames on the scan clock: t = 0 at the first frame's timestamp. FFmpeg's containers and DICOM."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.media.audio import read_sound
from usvs.media.containers import (
    iter_container_frames,
    iter_container_keyframes,
    open_video,
    probe_container,
    with_times,
)
from usvs.media.dicom import iter_dicom_frames, probe_dicom
from usvs.media.dicom_file import DicomFile, is_dicom, open_dicom
from usvs.media.dicom_header import dicom_patient, dicom_region, dicom_seconds
from usvs.media.grayscale import to_gray
from usvs.media.sector import Box
from usvs.media.video_info import Decoded, VideoInfo

__all__ = ["Decoded", "VideoInfo", "iter_gray_frames", "iter_keyframes", "open_video", "probe", "read_sound", "to_gray"]


def probe(path: Path) -> VideoInfo:
    """Read a video's header and packets.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    dicom = open_dicom(path) if is_dicom(path) else None
    if dicom is None:
        return probe_container(path)
    return _probe_stream(path, dicom) if dicom.is_video_stream else probe_dicom(dicom)


def iter_gray_frames(
    path: Path, info: VideoInfo | None = None, decoded: Decoded | None = None, box: Box | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame in presentation order: seconds on the scan clock, full-range gray [H, W].

    Args:
        path: of the video.
        info: from `probe`, where the caller has it already.
        decoded: is kept up to date with what could not be decoded.
        box: what of the picture as it is shown is expected; None: all of it.

    Raises:
        DataError: where the file cannot be read or changes its picture size.
    """
    info, decoded = info or probe(path), decoded if decoded is not None else Decoded()
    dicom = open_dicom(path) if info.container == "dicom" else None
    if dicom is None:
        yield from iter_container_frames(path, info, decoded, box)
        return
    for seconds, gray in iter_dicom_frames(dicom, info, decoded):
        yield seconds, gray if box is None else box.crop(gray)


def iter_keyframes(path: Path, info: VideoInfo, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of some keyframes [H, W], by seeking; one that cannot be decoded is left out.

    Args:
        path: of the video.
        info: from `probe`.
        numbers: of keyframes, rising.
    """
    if info.container == "dicom":
        yield from (gray for _, gray in iter_dicom_frames(open_dicom(path), info, Decoded(), numbers))
    else:
        yield from iter_container_keyframes(path, info, numbers)


def _probe_stream(path: Path, dicom: DicomFile) -> VideoInfo:
    info = probe_container(path)
    seconds, note = dicom_seconds(dicom.header, info.frames)
    own = info if note is not None else with_times(info, seconds)
    region = dicom_region(dicom.header, info.pixel_aspect)
    return replace(
        own,
        container=f"dicom of {info.container}",
        region=region,
        file_note=None,
        patient=dicom_patient(dicom.header),
    )
