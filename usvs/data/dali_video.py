"""Clips decoded from an archive's H.264 videos on a GPU, by NVDEC through DALI, cropped and resized as `prepare` does.

Only frame times and crop boxes come from the prepared store. Frames equal the prepared ones within some gray levels:
NVDEC decodes bit-exactly, but the resize filter is another. DALI does not decode H.264 on a CPU, so this runs on a GPU
only; the pipeline's arguments are checked wherever DALI is installed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from usvs.data.dali_frames import import_dali
from usvs.errors import DataError
from usvs.store.folder import CATALOGUE, read_archive_path
from usvs.store.prepared import PreparedStore
from usvs.store.tables import read_rows

CODEC = "h264"
ROUNDING_SECONDS = 1e-6  # of frame times; without it a clip's first frame may count for the clip before


class VideoClip(NamedTuple):
    """Frames first .. end - 1 of a video, and the inscribed crop of the sector in its picture, pixels."""

    path: Path
    first: int
    end: int
    box: tuple[int, int, int, int]  # left, top, right, bottom


def video_clips(store: PreparedStore, rows: NDArray[np.int64], clip_seconds: float) -> list[VideoClip]:
    """Find clips, given by rows of the store's clip table, in the archive's videos.

    Raises:
        DataError: for a clip whose video is not H.264, or of which not every frame was prepared.
    """
    scans = store.clips.scan[rows].tolist()
    videos = find_videos(store, scans)
    clips = []
    for scan, start in zip(scans, store.clips.start_seconds[rows].tolist(), strict=True):
        prepared, (path, box) = store.scan(scan), videos[scan]
        edges = np.array([start, start + clip_seconds]) - ROUNDING_SECONDS
        first, end = np.searchsorted(prepared.frame_seconds, edges).tolist()
        clips.append(VideoClip(path, first, end, box))
    return clips


def find_videos(store: PreparedStore, scans: list[int]) -> dict[int, tuple[Path, tuple[int, int, int, int]]]:
    """Return the video of each scan, and the inscribed crop in its picture, by the scan's number in the store.

    Raises:
        DataError: for a scan whose video is not H.264, or of which not every frame was prepared.
    """
    archive = read_archive_path(Path(store.store))
    expected = {store.scans[scan] for scan in scans}
    rows = {row["scan_key"]: row for row in read_rows(Path(store.store) / CATALOGUE) if row["scan_key"] in expected}
    found = {}
    for number in set(scans):
        prepared, row = store.scan(number), rows[store.scans[number]]
        if prepared.manifest.settings.crop != "inscribed":
            raise DataError(
                f"scan {prepared.scan_key}: expected crop=inscribed, got crop={prepared.manifest.settings.crop};"
                " load it from the prepared store instead"
            )
        if row["video_codec"] != CODEC or row["frames"] != len(prepared.frame_seconds):
            raise DataError(
                f"scan {prepared.scan_key}: expected a complete {CODEC} video, got {row['video_codec']} with"
                f" {row['frames']} frames, {len(prepared.frame_seconds)} of them prepared; load it from the"
                " prepared store instead"
            )
        found[number] = archive / str(row["path"]), prepared.manifest.sector
    return found


def video_pipeline(
    file_list: Path, boxes: Iterator[NDArray[np.float32]], frames: int, side: int, batch_size: int, device_id: int
) -> Any:
    """Define the pipeline that decodes clips in the order of a file list; it is not built yet.

    Args:
        file_list: lines ``path label first end``, frame numbers, as DALI reads them.
        boxes: for each batch, left, top, width and height of each clip's crop as fractions of the picture [B, 4].
        frames: per clip.
        side: of the result, pixels.
        batch_size: clips per batch.
        device_id: the GPU.

    Returns:
        A pipeline with outputs uint8 [frames, side, side, 1], and the clip's label [1].
    """
    dali = import_dali()
    fn, types = dali.fn, dali.types

    @dali.pipeline_def(batch_size=batch_size, num_threads=1, device_id=device_id)  # type: ignore[untyped-decorator]
    def clips() -> Any:
        video, label = fn.readers.video(
            device="gpu",
            file_list=str(file_list),
            file_list_frame_num=True,
            sequence_length=frames,
            step=frames,
            random_shuffle=False,
            skip_vfr_check=True,
            pad_last_batch=True,
            name="video",
        )
        box = fn.external_source(source=boxes, batch=True, dtype=types.FLOAT, ndim=1)
        inner = fn.slice(video, box[0:2], box[2:4], axis_names="WH", normalized_anchor=True, normalized_shape=True)
        gray = fn.color_space_conversion(inner, image_type=types.RGB, output_type=types.GRAY)
        small = fn.resize(gray, size=(side, side), interp_type=types.INTERP_TRIANGULAR, antialias=True)
        return small, label

    return clips()


def decode_clips(clips: list[VideoClip], side: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the clips' frames uint8 [B, F, side, side] on a GPU, in order.

    The list of files that DALI reads contains paths of the archive; it is in a private temporary folder.

    Raises:
        MissingDependencyError: without DALI.
        DataError: for clips of different length.
    """
    lengths = sorted({clip.end - clip.first for clip in clips})
    if len(lengths) != 1:
        raise DataError(f"clips to decode: expected one number of frames, got {lengths}")
    with tempfile.TemporaryDirectory(prefix="usvs-") as folder:
        file_list = Path(folder) / "clips"
        lines = [f"{clip.path} {n} {clip.first} {clip.end}" for n, clip in enumerate(clips)]
        file_list.write_text("\n".join(lines) + "\n", encoding="utf-8")
        boxes = _boxes(clips, batch_size)
        pipeline = video_pipeline(file_list, boxes, lengths[0], side, batch_size, device.index or 0)
        for start in range(0, len(clips), batch_size):
            frames, _ = pipeline.run(torch.cuda.current_stream(device))
            decoded: Tensor = from_dlpack(frames.as_tensor()).clone().squeeze(4)
            yield decoded[: len(clips) - start]


def _boxes(clips: list[VideoClip], batch_size: int) -> Iterator[NDArray[np.float32]]:
    from usvs.media.video import read_video_info

    sizes: dict[Path, tuple[int, int]] = {}
    while True:
        for start in range(0, len(clips), batch_size):
            batch = [clips[min(start + n, len(clips) - 1)] for n in range(batch_size)]
            fractions = np.empty((batch_size, 4), np.float32)
            for box, clip in zip(fractions, batch, strict=True):
                if clip.path not in sizes:
                    info = read_video_info(clip.path)
                    sizes[clip.path] = info.width, info.height
                width, height = sizes[clip.path]
                left, top, right, bottom = clip.box
                box[:] = left / width, top / height, (right - left) / width, (bottom - top) / height
            yield fractions
