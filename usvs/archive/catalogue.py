"""The catalogue: one row a scan and one a clip, in Parquet inside the store; paths of the archive live nowhere else."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.archive.discovery import Found, ScanFiles, discover
from usvs.archive.index_summary import IndexSummary
from usvs.archive.keys import Keys
from usvs.archive.pool import run_each
from usvs.archive.scan_index import IndexTask, ScanFacts, look_into
from usvs.archive.store import CATALOGUE, archive_of, create_store, locked, sync_folder
from usvs.config import ClipSettings, GazeSettings, VoiceActivitySettings
from usvs.errors import DataError
from usvs.progress import track

__all__ = ["Catalogue", "IndexSummary", "index_archive", "read_frame_times"]

OK, QUARANTINED = "ok", "quarantined"
MISSING = "the manifest names it, the archive does not hold it"

# fmt: off
SCANS = pa.schema([
    ("scan_key", pa.string()), ("patient_key", pa.string()), ("path", pa.string()),
    ("bytes", pa.int64()), ("modified_ns", pa.int64()),
    ("container", pa.string()), ("video_codec", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
    ("frames", pa.int64()), ("duration_seconds", pa.float64()), ("rate_hz", pa.float64()),
    ("start_seconds", pa.float64()),
    ("audio_codec", pa.string()), ("audio_rate_hz", pa.int32()), ("audio_channels", pa.int32()), ("sound", pa.string()),
    ("sector_left", pa.int32()), ("sector_top", pa.int32()), ("sector_right", pa.int32()),
    ("sector_bottom", pa.int32()), ("sector_source", pa.string()),
    ("gaze", pa.bool_()), ("planes", pa.bool_()), ("clips", pa.int32()), ("high_affinity_clips", pa.int32()),
    ("status", pa.string()), ("reason", pa.string()),
    # why something is not as one would wish in a scan that is used all the same; null: nothing to say
    ("time_note", pa.string()), ("sector_note", pa.string()), ("sound_note", pa.string()), ("gaze_note", pa.string()),
    ("planes_note", pa.string()), ("file_note", pa.string()),
    # what lies beside the video, relative to the archive
    ("sound_path", pa.string()), ("gaze_path", pa.string()), ("planes_path", pa.string()),
    # how that is brought onto the video's clock and picture, and which side of the owner's own split the scan is on
    ("alignment", pa.string()), ("split", pa.string()),
])
CLIPS = pa.schema([("scan", pa.int32()), ("start_seconds", pa.float64()), ("speech_fraction", pa.float32())])
FRAME_TIMES = pa.schema([("scan_key", pa.string()), ("seconds", pa.list_(pa.float64()))])
# fmt: on
NOTES = ("time_note", "sector_note", "sound_note", "gaze_note", "planes_note", "file_note")


@dataclass(frozen=True)
class Catalogue:
    """The tables that `usvs index` made: `scans` (one row a scan) and `clips` (one a clip; `scan` is the row there)."""

    scans: pa.Table
    clips: pa.Table

    @classmethod
    def load(cls, store: Path) -> Self:
        """Read the catalogue of a store.

        Raises:
            DataError: where there is none, or it is damaged or of another version.
        """
        archive_of(store, must_exist=False)
        folder = store / CATALOGUE
        return cls(_read(folder / "scans.parquet", SCANS), _read(folder / "clips.parquet", CLIPS))


def index_archive(
    archive: Path,
    store: Path,
    clips: ClipSettings,
    voice: VoiceActivitySettings,
    workers: int | None = None,
    gaze: GazeSettings | None = None,
) -> IndexSummary:
    """Find an archive's scans and write the catalogue of a store.

    Args:
        archive: any folder tree; it is only read.
        store: a private folder, made where it is not; scans keep their keys when it is indexed again.
        clips: how scans are cut into clips, and how much speech makes one high-affinity.
        voice: how speech is told from noise.
        workers: processes; None is one a core.
        gaze: where gaze was recorded, for what neither manifest.csv nor the recording says.

    Raises:
        DataError: where the archive holds no usable video, or the store cannot be written.
    """
    found = discover(_existing(archive))
    keys = create_store(archive, store)
    with locked(store):
        tasks = [IndexTask(archive.resolve(), files, clips, voice, gaze or GazeSettings()) for files in found.scans]
        results = track(run_each(look_into, tasks, workers), "looking into scans", total=len(tasks))
        facts = ((task.files, _facts(result)) for task, result in results)
        try:
            summary = _write(store, keys, found, facts, clips)
        except OSError as error:
            raise DataError(f"store '{store}' cannot be written: {error.strerror}") from None
    if summary.ok == 0:
        listed = "; ".join(f"{path}: {reason}" for path, reason in summary.put_aside[:3])
        raise DataError(f"archive '{archive}': none of its {summary.found} videos is usable ({listed})")
    return summary


def read_frame_times(store: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield scan keys and frame times in the catalogue's order, a few scans in memory at a time."""
    with pq.ParquetFile(store / CATALOGUE / "frame_times.parquet") as file:
        for batch in file.iter_batches(batch_size=8):
            for key, seconds in zip(batch["scan_key"], batch["seconds"], strict=True):
                yield key.as_py(), seconds.values.to_numpy()


def _existing(archive: Path) -> Path:
    if not archive.is_dir():
        raise DataError(f"archive '{archive}' is not a folder")
    return archive


def _facts(result: ScanFacts | DataError) -> ScanFacts:
    return result if isinstance(result, ScanFacts) else ScanFacts(0, 0, str(result))


def _write(
    store: Path, keys: Keys, found: Found, facts: Iterable[tuple[ScanFiles, ScanFacts]], clips: ClipSettings
) -> IndexSummary:
    folder = store / CATALOGUE
    missing = ((files, ScanFacts(0, 0, MISSING)) for files in found.missing)
    rows: list[dict[str, object]] = []
    with (
        pq.ParquetWriter(folder / ".clips.partial", CLIPS) as clip_file,
        pq.ParquetWriter(folder / ".frame_times.partial", FRAME_TIMES) as time_file,
    ):
        for files, fact in (*facts, *missing):
            row = _row(files, fact, keys, clips)
            if fact.info is not None and fact.speech_fractions is not None:
                clip_file.write_table(_clip_rows(len(rows), fact.speech_fractions, clips))
                seconds = pa.ListArray.from_arrays(
                    pa.array([0, fact.info.frames], pa.int32()), fact.info.timing.seconds
                )
                time_file.write_table(pa.Table.from_arrays([pa.array([row["scan_key"]]), seconds], schema=FRAME_TIMES))
            rows.append(row)
    if len({row["scan_key"] for row in rows}) != len(rows):
        raise DataError("two scans share a key by chance (once in 50,000 archives): remove the store and index again")
    pq.write_table(pa.Table.from_pylist(rows, SCANS), folder / ".scans.partial")
    for name in ("clips", "frame_times", "scans"):
        _publish(folder / f".{name}.partial", folder / f"{name}.parquet")
    return _summary(rows, found)


def _clip_rows(scan: int, fractions: NDArray[np.float32], clips: ClipSettings) -> pa.Table:
    count = len(fractions)
    starts = np.arange(count, dtype=np.float64) * clips.clip_seconds
    return pa.Table.from_arrays([pa.array(np.full(count, scan, np.int32)), starts, fractions], schema=CLIPS)


def _row(files: ScanFiles, fact: ScanFacts, keys: Keys, clips: ClipSettings) -> dict[str, object]:
    row: dict[str, object] = {
        "scan_key": keys.scan_key(files.path),
        "patient_key": keys.patient_key(files.patient) if files.patient else None,
        "path": files.path,
        "bytes": fact.bytes,
        "modified_ns": fact.modified_ns,
        "status": OK if fact.reason is None else QUARANTINED,
        "reason": fact.reason,
        "sound_path": files.sound,
        "gaze_path": files.gaze,
        "planes_path": files.planes,
        "alignment": fact.alignment.model_dump_json(),
        "split": files.split,
    }
    if fact.info is None or fact.sector is None or fact.speech_fractions is None:
        return row
    info, box = fact.info, fact.sector.box
    row |= {name: getattr(info, name) for name in SCANS.names if hasattr(info, name)}
    row |= {name: getattr(info.timing, name) for name in ("duration_seconds", "rate_hz", "start_seconds")}
    row |= {f"sector_{side}": getattr(box, side) for side in ("left", "top", "right", "bottom")}
    row |= {name: getattr(fact, name) for name in ("sound", "gaze", "planes", "sound_note", "gaze_note", "planes_note")}
    with np.errstate(invalid="ignore"):
        high = int((fact.speech_fractions >= clips.speech_fraction_high).sum())
    return row | {
        "time_note": info.timing.note,
        "sector_note": fact.sector.note,
        "sector_source": fact.sector.source,
        "clips": len(fact.speech_fractions),
        "high_affinity_clips": high,
    }


def _summary(rows: list[dict[str, object]], found: Found) -> IndexSummary:
    usable = [row for row in rows if row["status"] == OK]
    aside = [(str(row["path"]), str(row["reason"])) for row in rows if row["status"] != OK]
    notes = Counter(str(row[name]) for row in usable for name in NOTES if row.get(name))
    return IndexSummary(
        found=len(rows),
        ok=len(usable),
        quarantined=len(aside),
        no_sound=sum(row["sound"] == "none" for row in usable),
        no_gaze=sum(not row["gaze"] for row in usable),
        no_planes=sum(not row["planes"] for row in usable),
        no_patient=sum(row["patient_key"] is None for row in usable),
        seconds_of_video=sum(float(str(row["duration_seconds"])) for row in usable),
        clips=sum(int(str(row["clips"])) for row in usable),
        high_affinity_clips=sum(int(str(row["high_affinity_clips"])) for row in usable),
        reasons=dict(Counter(reason for _, reason in aside)),
        notes=dict(notes),
        other=found.other,
        put_aside=tuple(aside),
    )


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise DataError(f"the catalogue has no readable {path.name}; run 'usvs index' again") from None
    if table.schema.names != schema.names:
        raise DataError(f"the catalogue's {path.name} is of another version of usvs; run 'usvs index' again")
    return table


def _publish(partial: Path, path: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
