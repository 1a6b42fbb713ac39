"""Features of frames: an encoder in evaluation mode over a store's scans or over video files."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from usvs.data.frame_table import every_nth_frame
from usvs.data.settings import AugmentSettings
from usvs.media.decoders import iter_gray_frames, probe
from usvs.media.sector import detect_sector
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings, prepare_profile
from usvs.tasks.features import BATCH_FRAMES, embed_frames, features_of

SECTOR_FRAMES = 24  # of a file, spread over it, to find its fan in


def embed(
    source: Path | Sequence[Path],
    encoder: Encoder,
    frame_pixels: int = 224,
    temporal_stride: int = 8,
    augment: AugmentSettings | None = None,
    prepare: PrepareSettings | None = None,
) -> tuple[NDArray[np.float32], pa.Table]:
    """Return the features of every n-th frame of a prepared store, or of video files.

    Args:
        source: a store folder, or video files (decoded whole, their fan found as `usvs index` does).
        encoder: the video stream, as `usvs.load_encoder` gives it; read in evaluation mode.
        frame_pixels: side of the network's input.
        temporal_stride: every how many frames.
        augment: whose `crop_fraction` decides the central crop; default: the profiles'.
        prepare: for files, the side their frames are brought to first; default: the paper profile's.

    Returns:
        features float32 [n, C], and a table of n rows with `scan_key` (for a file: its number in `source`)
        and `seconds` on that scan's clock.

    Raises:
        DataError: for a store without prepared scans or a file that cannot be read.
    """
    augment, prepare = augment or AugmentSettings(), prepare or prepare_profile("paper")
    if isinstance(source, Path) and source.is_dir():
        store = PreparedStore(source)
        table = every_nth_frame(store, range(len(store.scans)), temporal_stride)
        rows = list(zip(table.scan.tolist(), table.frame.tolist(), strict=True))
        keys, seconds = [store.scans[scan] for scan, _ in rows], [_seconds(store, *row) for row in rows]
        return embed_frames(store, table, encoder, frame_pixels, augment), _moments(keys, seconds)
    features, keys, seconds = [], [], []
    for number, file in enumerate([source] if isinstance(source, Path) else source):
        moments, frames = _file_frames(file, temporal_stride, prepare.frame_pixels)
        batches = (frames[start : start + BATCH_FRAMES] for start in range(0, len(frames), BATCH_FRAMES))
        features.append(features_of(encoder, batches, frame_pixels, augment))
        keys += [str(number)] * len(moments)
        seconds += moments
    return np.concatenate(features), _moments(keys, seconds)


def _seconds(store: PreparedStore, scan: int, frame: int) -> float:
    return float(store.scan(scan).frame_seconds[frame])


def _moments(keys: Sequence[str], seconds: Sequence[float]) -> pa.Table:
    return pa.table({"scan_key": pa.array(keys, pa.string()), "seconds": pa.array(seconds, pa.float64())})


def _file_frames(file: Path, stride: int, side: int) -> tuple[list[float], NDArray[np.uint8]]:
    """Decode a file twice, once to find its fan and once for every n-th frame; neither time is all of it in memory."""
    info = probe(file)
    spread = max(1, info.frames // SECTOR_FRAMES)
    looked_at = np.stack([gray for _, gray in islice(iter_gray_frames(file, info), 0, None, spread)])
    box = detect_sector(looked_at, info.region).box
    moments, frames = [], []
    for seconds, gray in islice(iter_gray_frames(file, info), 0, None, stride):
        moments.append(seconds)
        frames.append(cv2.resize(box.crop(gray), (side, side), interpolation=cv2.INTER_AREA))
    return moments, np.stack(frames).astype(np.uint8, copy=False)
