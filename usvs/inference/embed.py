"""Features of frames as a table: of a prepared store, of image and video files, or of images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from usvs.archive.labels import STANDARD_PLANES
from usvs.data.frame_table import every_nth_frame, read_frames
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import DataError
from usvs.inference.frames import Source, as_files, prepared_side
from usvs.inference.models import file_batches
from usvs.models.encoder import Encoder, as_encoder
from usvs.store.identity import ARCHIVE_FILE
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import default_class_list, has_planes
from usvs.tasks.features import BATCH_FRAMES, encode_inputs
from usvs.tasks.pretraining.load import load_encoder


def embed(source: Source, encoder: nn.Module | str | Path, *, stride: int = TEMPORAL_STRIDE) -> pa.Table:
    """Compute the features of frames by an encoder in evaluation mode.

    The input size and the crop are those of the encoder's `pretrained_cfg`.

    Args:
        source: a prepared store's folder; image or video files (their sector is detected as `usvs index` does); or
            images in memory, as of `usvs.models.preprocessing.preprocess_images`.
        encoder: the video encoder, for example of `usvs.load_encoder`, or a pretraining run.
        stride: every `stride`-th frame of a scan or a video is used; 8 is the paper's (section 3.2).

    Returns:
        A table with a row per frame: ``features`` (fixed-size list of float32), ``scan`` (keyed hash in a store; the
        path of a file), ``patient`` (keyed hash), ``seconds`` on the scan's clock, and ``label`` (name of the standard
        plane, or of the class where the store has labels of one other column); null where a value is not known.
        ``np.stack(table["features"].to_numpy())`` is [n, C].

    Raises:
        DataError: for a store without prepared scans, or a file that cannot be read.
    """
    network = load_encoder(Path(encoder)) if isinstance(encoder, (str, Path)) else encoder
    module = as_encoder(network)
    files = as_files(source)
    if files is not None and len(files) == 1 and files[0].is_dir():
        return _embed_store(files[0], module, stride)
    if files is not None:
        return _embed_files(files, module, stride)
    features = _features(module, source)
    nothing = [None] * len(features)
    return _table(features, nothing, nothing, nothing, nothing)


def _embed_store(folder: Path, encoder: Encoder, stride: int) -> pa.Table:
    if not (folder / ARCHIVE_FILE).is_file():
        raise DataError(f"'{folder}': expected a prepared store, or image and video files, got another folder")
    store = PreparedStore(folder)
    if not store.scans:
        raise DataError(f"store '{folder}': no scan is prepared")
    classes = None if has_planes(store) else default_class_list(store)
    table = every_nth_frame(store, range(len(store.scans)), stride, classes)
    names, features = STANDARD_PLANES if classes is None else classes.names, []
    for start in range(0, len(table), BATCH_FRAMES):
        rows = table.take(np.arange(start, min(start + BATCH_FRAMES, len(table))))
        features.append(_features(encoder, read_frames(store, rows)))
    rows_of_table = list(zip(table.scan.tolist(), table.frame.tolist(), strict=True))
    return _table(
        np.concatenate(features),
        [store.scans[scan] for scan, _ in rows_of_table],
        [store.scan(scan).patient_key or None for scan, _ in rows_of_table],
        [float(store.scan(scan).frame_seconds[frame]) for scan, frame in rows_of_table],
        [names[number] if number >= 0 else None for number in table.label.tolist()],
    )


def _embed_files(files: Sequence[Path], encoder: Encoder, stride: int) -> pa.Table:
    side = prepared_side(encoder.pretrained_cfg["input_size"][1], encoder.pretrained_cfg["crop_fraction"])
    features, scans, seconds = [], [], []
    for file in files:
        for moments, frames in file_batches(file, side, stride):
            features.append(_features(encoder, frames))
            scans += [str(file)] * len(frames)
            seconds += moments
    if not features:
        raise DataError("embed: expected at least one frame, got none")
    nothing = [None] * len(scans)
    return _table(np.concatenate(features), scans, nothing, seconds, nothing)


def _features(encoder: Encoder, images: Any) -> NDArray[np.float32]:
    """Return the features [n, C] of images; the encoder's mode is restored."""
    with torch.inference_mode():
        inputs = encoder.preprocess(images)
    return encode_inputs(encoder, torch.split(inputs, BATCH_FRAMES))


def _table(
    features: NDArray[np.float32],
    scans: Sequence[str | None],
    patients: Sequence[str | None],
    seconds: Sequence[float | None],
    labels: Sequence[str | None],
) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
    return pa.table(
        {
            "features": pa.FixedSizeListArray.from_arrays(flat, features.shape[1]),
            "scan": pa.array(scans, pa.string()),
            "patient": pa.array(patients, pa.string()),
            "seconds": pa.array(seconds, pa.float64()),
            "label": pa.array(labels, pa.string()),
        }
    )
