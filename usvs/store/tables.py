"""The catalogue on disk: one row per scan in a Parquet file, and one value per clip in memory-mapped columns.

The clips are in a folder of their own, which the metadata of the Parquet file names. That file is renamed last, so a
kill at any instant leaves either the old catalogue or the new one.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.archive.class_list import ClassRules
from usvs.errors import DataError
from usvs.store.settings import ClipSettings
from usvs.utils.atomic_files import publish, write_durably
from usvs.utils.columns import ColumnWriter, map_column
from usvs.utils.hashing import file_sha256
from usvs.utils.regular_files import read_regular

# fmt: off
SCAN_SCHEMA = pa.schema([
    ("scan_key", pa.string()), ("patient_key", pa.string()), ("path", pa.string()),
    ("bytes", pa.int64()), ("modified_ns", pa.int64()),
    ("container", pa.string()), ("video_codec", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
    ("frames", pa.int64()), ("duration_seconds", pa.float64()), ("rate_hz", pa.float64()),
    ("start_seconds", pa.float64()),
    ("audio_codec", pa.string()), ("audio_rate_hz", pa.int32()), ("audio_channels", pa.int32()), ("sound", pa.string()),
    ("sector_left", pa.int32()), ("sector_top", pa.int32()), ("sector_right", pa.int32()),
    ("sector_bottom", pa.int32()), ("sector_source", pa.string()),
    ("sector_confidence", pa.float64()), ("sector_geometry", pa.string()),  # edges and curves (JSON); null: unknown
    ("gaze", pa.bool_()), ("planes", pa.bool_()), ("clips", pa.int32()), ("high_affinity_clips", pa.int32()),
    ("status", pa.string()), ("reason", pa.string()),
    # what is unusual about a usable scan; null: nothing
    ("time_note", pa.string()), ("sector_note", pa.string()), ("sound_note", pa.string()), ("gaze_note", pa.string()),
    ("planes_note", pa.string()), ("file_note", pa.string()),
    # companion files of the video, relative to the archive
    ("sound_path", pa.string()), ("gaze_path", pa.string()), ("planes_path", pa.string()),
    ("companions", pa.string()),  # their sizes and times when they were read (JSON)
    # alignment of sound and gaze with the video (JSON), and the part of the owner's own split that the scan is in
    ("alignment", pa.string()), ("split", pa.string()),
    # labels by label column (JSON, see usvs.archive.label_tracks), why they are not used, and their own file
    ("labels", pa.string()), ("labels_note", pa.string()), ("labels_path", pa.string()),
    # keyed hashes of the DICOM PatientID: as written, and as it is compared (null for a placeholder)
    ("patient_id_key", pa.string()), ("folded_patient_id_key", pa.string()),
    # a hash of everything that the row depends on; a row is kept while its state is unchanged
    ("state", pa.string()),
])
# fmt: on
CLIP_COLUMNS: dict[str, type[np.generic]] = {
    "scan": np.int32,
    "start_seconds": np.float64,
    "speech_fraction": np.float32,
}
SCANS_FILE = "scans.parquet"
CLIPS_FOLDER_PREFIX = "clips."
HASHES_FILE = "sha256.json"  # in the folder of the clips: hashes of the columns and of the Parquet file
ROWS_PER_BATCH = 512
# what reading a damaged Parquet file, or files that differ from their hashes, may raise
DAMAGE = (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError, MemoryError)


class CatalogueWriter:
    """Writes a catalogue scan by scan; it replaces the old one in `publish`."""

    def __init__(self, folder: Path, clips: ClipSettings, rules: ClassRules | None = None) -> None:
        self.scans: int = 0
        self._folder, self._settings = folder, clips
        self._pending: list[dict[str, object]] = []
        self._keys: set[str] = set()
        for leftover in folder.glob(".scans.*"):  # of an interrupted index
            leftover.unlink()
        self._clips = Path(tempfile.mkdtemp(prefix=CLIPS_FOLDER_PREFIX, dir=folder))
        self._open = ExitStack()
        self._partial = folder / ".scans.partial"
        metadata = {"clips": self._clips.name, "clip_settings": clips.model_dump_json()}
        metadata["class_rules"] = (rules or ClassRules()).dump()
        schema = SCAN_SCHEMA.with_metadata(metadata)
        self._table = self._open.enter_context(pq.ParquetWriter(self._partial, schema))
        self._columns = {
            name: self._open.enter_context(ColumnWriter(self._clips / f"{name}.npy", kind))
            for name, kind in CLIP_COLUMNS.items()
        }

    def add(self, row: dict[str, object], fractions: NDArray[np.float32] | None) -> None:
        """Add a scan and the speech fraction of each of its clips.

        Raises:
            DataError: if another scan has the same key.
        """
        key = str(row["scan_key"])
        if key in self._keys:
            raise DataError(
                "two scans have the same key by chance (once in 50,000 archives): index the archive into a new store"
            )
        self._keys.add(key)
        count = 0 if fractions is None else len(fractions)
        if fractions is not None:
            self._columns["scan"].append(np.full(count, self.scans, np.int32))
            self._columns["start_seconds"].append(np.arange(count) * self._settings.clip_seconds)
            self._columns["speech_fraction"].append(fractions)
        self._pending.append(row)
        self.scans += 1
        if len(self._pending) == ROWS_PER_BATCH:
            self._flush()

    def publish(self) -> None:
        """Complete the catalogue and replace the old one."""
        self._flush()
        self._open.close()
        hashes = {path.name: file_sha256(path) for path in self._clips.iterdir()}
        hashes[SCANS_FILE] = file_sha256(self._partial)
        write_durably(self._clips / HASHES_FILE, json.dumps(hashes).encode())
        publish(self._partial, self._folder / SCANS_FILE)
        remove_leftovers(self._folder)

    def _flush(self) -> None:
        if self._pending:
            self._table.write_table(pa.Table.from_pylist(self._pending, self._table.schema))
            self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._open.close()
        if kind is not None:
            shutil.rmtree(self._clips, ignore_errors=True)
            self._partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what does not belong to the catalogue in a folder: an older one's clips, files of an interrupted index."""
    clips = (pq.read_schema(folder / SCANS_FILE).metadata or {})[b"clips"].decode()
    for other in folder.iterdir():
        if other.name not in (clips, SCANS_FILE):
            shutil.rmtree(other, ignore_errors=True) if other.is_dir() else other.unlink()


def read_scans(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Read the table of scans in a catalogue folder, or some of its columns.

    Raises:
        DataError: if there is none, or it is damaged or of another version.
    """
    try:
        with pq.ParquetFile(folder / SCANS_FILE) as file:
            names = file.schema_arrow.names
            if names == SCAN_SCHEMA.names:
                _verify(folder, file.schema_arrow.metadata, [SCANS_FILE])
            table = file.read(columns) if names == SCAN_SCHEMA.names else None
    except DAMAGE:
        raise DataError(f"the catalogue has no readable {SCANS_FILE}: run 'usvs index' again") from None
    if table is None:
        raise DataError(f"the catalogue's {SCANS_FILE} was written by another version of usvs: run 'usvs index' again")
    return table


def read_first_key(folder: Path) -> tuple[str, str] | None:
    """Return path and key of the first scan in a catalogue of any version; None if there is none to read."""
    try:
        with pq.ParquetFile(folder / SCANS_FILE) as file:
            first = next(file.iter_batches(batch_size=1, columns=["path", "scan_key"])).to_pylist()[0]
        return str(first["path"]), str(first["scan_key"])
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError, StopIteration):
        return None


def read_rows(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of the table of scans, with few of them in memory at a time; errors as of `read_scans`."""
    read_scans(folder, [])
    with pq.ParquetFile(folder / SCANS_FILE) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()


def map_clips(folder: Path) -> pa.Table:
    """Map the clips of a catalogue folder: a table whose columns are read from disk when they are used.

    Raises:
        DataError: if they are missing or damaged.
    """
    try:
        metadata = pq.read_schema(folder / SCANS_FILE).metadata or {}
        clips = _verify(folder, metadata, [f"{name}.npy" for name in CLIP_COLUMNS])
        columns = {name: map_column(clips / f"{name}.npy") for name in CLIP_COLUMNS}
        return pa.table({name: pa.array(column) for name, column in columns.items()})
    except DAMAGE:
        raise DataError("the catalogue has no readable clips: run 'usvs index' again") from None


def read_clip_settings(folder: Path) -> ClipSettings:
    """Return how the scans of a catalogue were cut into clips; errors as of `read_scans`."""
    read_scans(folder, [])
    metadata = pq.read_schema(folder / SCANS_FILE).metadata
    return ClipSettings.model_validate_json(metadata[b"clip_settings"])


def read_class_rules_of(folder: Path) -> ClassRules:
    """Return how the labels of a catalogue are made classes; errors as of `read_scans`."""
    read_scans(folder, [])
    metadata = pq.read_schema(folder / SCANS_FILE).metadata
    return ClassRules.load(metadata[b"class_rules"].decode())


def _verify(folder: Path, metadata: dict[bytes, bytes] | None, names: list[str]) -> Path:
    """Compare files of a catalogue with their hashes, and return the folder of its clips.

    Raises:
        KeyError, TypeError, ValueError, OSError: if they are missing or differ.
    """
    clips = folder / (metadata or {})[b"clips"].decode()
    hashes = json.loads(read_regular(clips / HASHES_FILE))
    for name in names:
        path = (folder if name == SCANS_FILE else clips) / name
        if file_sha256(path) != hashes[name]:
            raise ValueError(f"{name}: expected its SHA-256 of {HASHES_FILE}")
    return clips
