"""Embedding of frames as a table: of a prepared store, of image and video files, or of images in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import nn

from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.inference.frame_batches import FrameBatch, source_batches
from usvs.inference.frames import Source, as_files
from usvs.models.encoder import as_encoder
from usvs.models.preprocessing import prepared_side
from usvs.tasks.features import BATCH_FRAMES, encode_inputs
from usvs.tasks.pretraining.load import load_encoder
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.utils.atomic_files import replacing, writing
from usvs.utils.private_files import make_private_folder
from usvs.utils.text import quantity, utf8_text

Space = Literal["features", "shared"]
EmbedFrames = Callable[[Any], NDArray[np.float32]]  # frames like those of a store, or images, to rows
# Of a Parquet file: what is in memory at a time. Small, since tables that are kept between the large allocations of a
# network fragment the heap, which then takes several times their size.
ROW_GROUP_FRAMES = 4096


def embed(
    source: Source, encoder: nn.Module | str | Path, *, stride: int = TEMPORAL_STRIDE, space: Space = "features"
) -> pa.Table:
    """Embed frames by an encoder in evaluation mode.

    The input size and the crop are those of the encoder's `pretrained_cfg`.

    Args:
        source: a prepared store's folder; image or video files (their sector is detected as `usvs index` does); or
            images in memory, as of `usvs.models.preprocessing.preprocess_images`.
        encoder: the video encoder, for example of `usvs.load_encoder`, or a pretraining run.
        stride: every `stride`-th frame of a scan or a video is used; 8 is the paper's (section 3.2).
        space: ``features`` of the encoder, for other tasks; ``shared``: the projections of a pretraining run, which can
            be compared with those of speech.

    Returns:
        A table with a row per frame: ``features`` (``embedding`` in the shared space; a fixed-size list of float32),
        ``scan`` (keyed hash in a store; the path of a file), ``patient`` (keyed hash), ``seconds`` on the scan's clock,
        and ``label`` (name of the standard plane, or of the class where the store has labels of one other column);
        null where a value is not known. ``np.stack(table["features"].to_numpy())`` is [n, C].

    Raises:
        DataError: for a store without prepared scans, or a file that cannot be read.
        ConfigError: for a shared space of something that is no pretraining run.
    """
    rows, side = _embedder(encoder, space)
    files = as_files(source)
    if files is None:
        features = rows(source)
        nothing = [None] * len(features)
        return _table(features, FrameBatch("", None, [*nothing], [*nothing], np.zeros(0, np.uint8)), space)
    return pa.concat_tables(_tables(files, rows, side, stride, space)).combine_chunks()


def embed_to_file(
    files: list[Path],
    encoder: nn.Module | str | Path,
    out: Path,
    *,
    stride: int = TEMPORAL_STRIDE,
    space: Space = "features",
) -> int:
    """Embed the frames of files and stores into a Parquet file, whatever their number; return the number of rows.

    A table of one part at a time is in memory. The file appears when it is complete and is its owner's only. Arguments
    are those of `embed`.

    Raises:
        ConfigError: as of `embed`, and for a name of `out` that does not end in ``.parquet``, or a file that another
            process writes.
        DataError: where a file or a store cannot be read, once the frames of all others are written.
        ResourceError: where the disk is full or not writable.
    """
    if out.suffix.lower() != ".parquet":
        raise ConfigError(f"OUT: expected a name that ends in .parquet, got '{out}'")
    rows, side = _embedder(encoder, space)
    failed = list[str]()
    tables = _tables(files, rows, side, stride, space, failed)
    first = next(tables)
    count, waiting = 0, [first]
    with writing(f"'{out}'"):
        make_private_folder(out.parent)
        with replacing(out) as file, pyarrow.parquet.ParquetWriter(file, first.schema) as writer:
            for table in tables:
                if sum(map(len, waiting)) + len(table) > ROW_GROUP_FRAMES:
                    count += _write(writer, waiting)
                    waiting = []
                waiting.append(table)
            count += _write(writer, waiting)
    if failed:
        raise DataError(
            f"{_count_failed(failed, files)}: {failed[0]}; the {quantity(count, 'row')} of the others are in '{out}'"
        )
    return count


def _write(writer: Any, tables: list[pa.Table]) -> int:
    table = pa.concat_tables(tables)
    writer.write_table(table, row_group_size=ROW_GROUP_FRAMES)
    return int(table.num_rows)


def _embedder(encoder: nn.Module | str | Path, space: Space) -> tuple[EmbedFrames, int]:
    """Return what embeds frames, and the side of the frames that it takes."""
    if space not in get_args(Space):
        raise ConfigError(f"space: expected {' or '.join(get_args(Space))}, got '{space}'")
    if space == "shared":
        if not isinstance(encoder, (str, Path)):
            raise ConfigError("space 'shared': expected the folder of a pretraining run, got an encoder")
        shared = SharedSpace.load(encoder)
        return shared.embed_images, shared.prepared_pixels
    module = as_encoder(load_encoder(Path(encoder)) if isinstance(encoder, (str, Path)) else encoder)

    def features(images: Any) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = module.preprocess(images)
        return encode_inputs(module, torch.split(inputs, BATCH_FRAMES))  # restores the encoder's mode

    return features, prepared_side(module.pretrained_cfg["input_size"][1], module.pretrained_cfg["crop_fraction"])


def _tables(
    files: list[Path], rows: EmbedFrames, side: int, stride: int, space: Space, failed: list[str] | None = None
) -> Iterator[pa.Table]:
    empty = True
    for batch in source_batches(files, side, stride, "embedding", failed):
        yield _table(rows(batch.frames), batch, space)
        empty = False
    if empty and failed:
        raise DataError(failed[0] if len(files) == 1 else f"{_count_failed(failed, files)}: {failed[0]}")
    if empty:
        raise DataError("embed: expected at least one frame, got none")


def _count_failed(failed: list[str], files: list[Path]) -> str:
    return f"embed: {len(failed)} of {quantity(len(files), 'file')} could not be read to the end"


def _table(features: NDArray[np.float32], batch: FrameBatch, space: Space) -> pa.Table:
    flat, count = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1)), len(features)
    column = "embedding" if space == "shared" else "features"
    return pa.table(
        {
            column: pa.FixedSizeListArray.from_arrays(flat, features.shape[1]),
            "scan": pa.array([utf8_text(batch.scan) or None] * count, pa.string()),
            "patient": pa.array([batch.patient] * count, pa.string()),
            "seconds": pa.array(batch.seconds, pa.float64()),
            "label": pa.array(batch.labels, pa.string()),
        }
    )
