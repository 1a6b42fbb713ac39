"""`usvs index`: from an archive to the catalogue of its store.

It is one file because rows, their states and their summary use the same columns.
"""

import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import usvs
from usvs.archive.discovery import ArchiveListing, ScanFiles, discover_scans
from usvs.archive.patients import NAME_RULES
from usvs.archive.settings import GazeSettings, LabelSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.config import override_settings
from usvs.errors import DataError
from usvs.media.sector import SECTOR_RULES
from usvs.store.catalogue import OK, SKIPPED
from usvs.store.folder import CATALOGUE, check_apart, open_store
from usvs.store.index_journal import IndexedScan, IndexJournal
from usvs.store.index_summary import IndexSummary
from usvs.store.inspect_scan import IndexTask, ScanMetadata, file_states, inspect_scan
from usvs.store.keys import KEY_BYTES, Keys
from usvs.store.label_summary import summarise_labels
from usvs.store.patient_groups import ID_COLUMNS, IdKeys, assign_patients, find_id_keys, hash_patient_id
from usvs.store.settings import ClipSettings, IndexSettings
from usvs.store.tables import (
    SCAN_SCHEMA,
    CatalogueWriter,
    map_clips,
    read_class_rules_of,
    read_rows,
    read_scans,
    remove_leftovers,
)
from usvs.utils.atomic_files import writing
from usvs.utils.process_pool import count_workers, map_tasks
from usvs.utils.progress import track
from usvs.utils.text import printable

logger: logging.Logger = logging.getLogger(__name__)

MISSING = "manifest.csv names it, the archive does not contain it"
NOTE_COLUMNS = ("time_note", "sector_note", "sound_note", "gaze_note", "planes_note", "labels_note", "file_note")
SUMMARY_COLUMNS = (
    *("path", "status", "reason", "patient_key", "sound", "gaze", "planes"),
    *("duration_seconds", "clips", "high_affinity_clips"),
    *("sound_path", "gaze_path", "planes_path", "labels_path", "labels", "frames"),
)
TABLES = ("gaze", "planes", "labels")  # companion files that people and programs write as tables


def index_archive(
    archive: str | Path,
    store: str | Path,
    *,
    clips: ClipSettings | Mapping[str, Any] | None = None,
    voice_activity: VoiceActivitySettings | Mapping[str, Any] | None = None,
    gaze: GazeSettings | Mapping[str, Any] | None = None,
    labels: LabelSettings | Mapping[str, Any] | None = None,
    label_file: str | Path | None = None,
    class_file: str | Path | None = None,
    workers: int | None = None,
    moved: bool = False,
) -> IndexSummary:
    """Find the scans of an archive and write the catalogue of its store.

    A scan keeps its row if neither its files (size and time), its row of the manifest nor the settings have changed. An
    interrupted index resumes: scans that it has inspected are not inspected again.

    Args:
        archive: any folder tree of videos; it is only read.
        store: a private folder, created if it does not exist. Scans keep their keys when an archive is indexed again.
        clips: how scans are cut into clips, and the speech fraction of a high-affinity clip.
        voice_activity: settings of the speech detector.
        gaze: how gaze was recorded, for what neither manifest.csv nor the recording states.
        labels: names of the columns in the table of labels.
        label_file: the table of labels; None: ``labels.csv`` in the archive or a table beside it.
        class_file: order and spelling of classes; None: ``classes.csv`` in the archive, or ``ARCHIVE.classes.csv``.
        workers: number of processes; None is one per core.
        moved: `archive` is the archive of `store` in another place. False: this is recognised by its files, if the old
            place does not exist any more.

    Raises:
        ConfigError: for a setting that is unknown or out of range, or a store inside of the archive.
        DataError: if the archive contains no usable video.
        ResourceError: if the store cannot be written.
    """
    given = {"clips": clips, "voice_activity": voice_activity, "gaze": gaze, "labels": labels}
    settings = override_settings(IndexSettings(), **{name: value for name, value in given.items() if value is not None})
    archive, store = Path(archive), Path(store)
    check_apart(archive, store)
    files = (None if file is None else Path(file) for file in (label_file, class_file))
    found = discover_scans(archive, settings.labels, *files)
    with open_store(archive, store, moved) as keys:
        with writing(f"store '{store}'"):
            _Indexer(archive.resolve(), store / CATALOGUE, keys, settings).update(found, workers)
        scans = read_scans(store / CATALOGUE, [*SUMMARY_COLUMNS, *ID_COLUMNS, *NOTE_COLUMNS])
        summary = _summarise(scans, found, _patient_lines(scans, found, keys))
    if summary.usable == 0:
        examples = "; ".join(f"{printable(path)}: {reason}" for path, reason in summary.skipped_scans[:3])
        raise DataError(f"archive '{archive}': none of its {summary.found} videos is usable ({examples})")
    return summary


def inspect_archive(archive: str | Path, workers: int | None = None) -> tuple[pa.Table, IndexSummary]:
    """Inspect the scans of an archive as `index_archive` does, without a store: nothing is written.

    Args:
        archive: any folder tree of videos; it is only read.
        workers: number of processes; None is one per core.

    Returns:
        A table with the columns of `SCAN_SCHEMA`, whose keys are hashes under a key that is forgotten, and the summary.

    Raises:
        DataError: if the archive contains no video.
    """
    archive, settings = Path(archive).resolve(), IndexSettings()
    found, keys = discover_scans(archive), Keys(secrets.token_bytes(KEY_BYTES))
    scans = (*found.scans, *found.missing)
    metadata = _inspect_scans(archive, settings, found, [True] * len(scans), workers)
    rows = [_make_row(scan, next(metadata), keys, settings.clips) for scan in scans]
    patients = assign_patients(scans, [find_id_keys(row) for row in rows], keys)
    rows = [row | {"patient_key": key} for row, key in zip(rows, patients.keys, strict=True)]
    table = pa.Table.from_pylist(rows, SCAN_SCHEMA)
    return table, _summarise(table, found, patients.lines)


def _inspect_scans(
    archive: Path, settings: IndexSettings, found: ArchiveListing, is_new: list[bool], workers: int | None
) -> Iterator[ScanMetadata]:
    """Inspect the new scans in order; then, without end, yield the metadata of a missing scan."""
    tasks = (
        IndexTask(archive, scan, settings.clips, settings.voice_activity, settings.gaze, settings.labels)
        for scan, new in zip(found.scans, is_new, strict=False)
        if new
    )
    total = sum(is_new[: len(found.scans)])
    results = track(map_tasks(inspect_scan, tasks, count_workers(workers, total)), "inspecting scans", total)
    return chain((_metadata_of(result) for _, result in results), repeat(ScanMetadata(0, 0, MISSING)))


@dataclass(frozen=True)
class _Indexer:
    """Brings the catalogue in `folder` up to date with an archive."""

    archive: Path
    folder: Path
    keys: Keys
    settings: IndexSettings

    def update(self, found: ArchiveListing, workers: int | None) -> None:
        """Write the catalogue, or leave it as it is if nothing has changed."""
        old_states, states = self._read_states(), self._current_states(found)
        scans = (*found.scans, *found.missing)
        paths = [scan.path for scan in scans]
        is_same = list(old_states) == paths and [old_states[path] for path in paths] == states
        if is_same and read_class_rules_of(self.folder) == found.class_rules:
            remove_leftovers(self.folder)  # of an index that was killed right after it had replaced the old catalogue
            return
        unchanged = _unchanged(paths, states, old_states)
        with IndexJournal(self.folder) as journal:
            is_new = [not same and state not in journal for same, state in zip(unchanged, states, strict=True)]
            if resumed := len(scans) - sum(unchanged) - sum(is_new):
                logger.info(f"index: resuming an interrupted index, {resumed} scans of it are inspected already")
            metadata = _inspect_scans(self.archive, self.settings, found, is_new, workers)
            for scan, state, new in zip(scans, states, is_new, strict=True):
                if new:
                    inspected = next(metadata)
                    row = _make_row(scan, inspected, self.keys, self.settings.clips) | {"state": state}
                    journal.add(row, inspected.speech_fractions)
            old_ids = self._read_id_keys() if old_states else {}
            id_keys = [
                old_ids[scan.path] if same else find_id_keys(journal[state][0])
                for scan, state, same in zip(scans, states, unchanged, strict=True)
            ]
            patients = assign_patients(scans, id_keys, self.keys)
            old_scans = self._read_scans(old_states)
            with CatalogueWriter(self.folder, self.settings.clips, found.class_rules) as writer:
                for scan, state, same, key in zip(scans, states, unchanged, patients.keys, strict=True):
                    row, fractions = (
                        next(pair for pair in old_scans if pair[0]["path"] == scan.path) if same else journal[state]
                    )
                    writer.add(row | {"patient_key": key}, fractions)
                writer.publish()

    def _read_states(self) -> dict[str, str]:
        """Return path and state of each scan in the catalogue on disk; empty if it is not readable."""
        try:
            table = read_scans(self.folder, ["path", "state"])
            map_clips(self.folder)
        except DataError:
            return {}
        return dict(zip(table["path"].to_pylist(), table["state"].to_pylist(), strict=True))

    def _read_id_keys(self) -> dict[str, IdKeys]:
        """Return the hashed PatientIDs of each scan in the catalogue on disk."""
        rows = read_scans(self.folder, ["path", *ID_COLUMNS]).to_pylist()
        return {row["path"]: find_id_keys(row) for row in rows}

    def _current_states(self, found: ArchiveListing) -> list[str]:
        """Return a hash of everything that the row of each scan depends on."""
        settings = self.settings
        parts = [
            part.model_dump_json() for part in (settings.clips, settings.voice_activity, settings.gaze, settings.labels)
        ]
        common = sha256("\n".join([usvs.__version__, str(NAME_RULES), str(SECTOR_RULES), *parts]).encode())
        states = []
        for scan in (*found.scans, *found.missing):
            digest = common.copy()
            digest.update(repr(file_states(self.archive, scan)).encode("utf-8", "surrogateescape"))
            states.append(digest.hexdigest()[:32])
        return states

    def _read_scans(self, old_states: dict[str, str]) -> Iterator[IndexedScan]:
        """Yield row and speech fractions of each scan of the catalogue on disk."""
        if not old_states:
            return
        fractions, first = map_clips(self.folder)["speech_fraction"].to_numpy(), 0
        for row in read_rows(self.folder):
            count = row["clips"]
            yield row, None if count is None else fractions[first : first + int(str(count))]
            first += int(str(count or 0))


def _unchanged(paths: list[str], states: list[str], old_states: dict[str, str]) -> list[bool]:
    """Return which scans keep their rows: those in the same state and in the same order, as old rows are read once."""
    old_positions = {path: position for position, path in enumerate(old_states)}
    kept, last = [], -1
    for path, state in zip(paths, states, strict=True):
        kept.append(old_states.get(path) == state and old_positions[path] > last)
        last = old_positions[path] if kept[-1] else last
    return kept


def _metadata_of(result: ScanMetadata | DataError) -> ScanMetadata:
    return result if isinstance(result, ScanMetadata) else ScanMetadata(0, 0, str(result))


def _make_row(files: ScanFiles, metadata: ScanMetadata, keys: Keys, clips: ClipSettings) -> dict[str, object]:
    row: dict[str, object] = {
        "scan_key": keys.scan_key(files.path),
        "patient_key": None,  # depends on the other scans, see `assign_patients`
        "path": files.path,
        "bytes": metadata.bytes,
        "modified_ns": metadata.modified_ns,
        "status": OK if metadata.reason is None else SKIPPED,
        "reason": metadata.reason,
        "sound_path": files.sound,
        "gaze_path": files.gaze,
        "planes_path": files.planes,
        "labels_path": files.labels,
        "companions": json.dumps(metadata.companions),
        "alignment": metadata.alignment.model_dump_json(),
        "split": files.split,
        **hash_patient_id(metadata.info.patient if metadata.info else None, keys),
    }
    if metadata.info is None or metadata.sector is None or metadata.speech_fractions is None:
        return row
    info, box = metadata.info, metadata.sector.crop_box
    row |= {name: getattr(info, name) for name in SCAN_SCHEMA.names if hasattr(info, name)}
    row |= {name: getattr(info.timing, name) for name in ("duration_seconds", "rate_hz", "start_seconds")}
    row |= {f"sector_{side}": getattr(box, side) for side in ("left", "top", "right", "bottom")}
    names = ("time_note", "sound", "gaze", "planes", "labels", "sound_note", "gaze_note", "planes_note", "labels_note")
    row |= {name: getattr(metadata, name) for name in names}
    return row | {
        "sector_note": metadata.sector.note,
        "sector_source": metadata.sector.source,
        "sector_confidence": metadata.sector.confidence,
        "sector_geometry": metadata.sector.geometry and metadata.sector.geometry.to_json(),
        "clips": len(metadata.speech_fractions),
        "high_affinity_clips": _count_high_affinity(metadata.speech_fractions, clips),
    }


def _count_high_affinity(speech_fractions: NDArray[np.float32], clips: ClipSettings) -> int:
    with np.errstate(invalid="ignore"):
        return int((speech_fractions >= clips.speech_fraction_high).sum())


def _patient_lines(scans: pa.Table, found: ArchiveListing, keys: Keys) -> tuple[str, ...]:
    """Return the groups of patients and reasons; the rows of the catalogue are in the order of the listing."""
    id_keys = [find_id_keys(row) for row in scans.select(list(ID_COLUMNS)).to_pylist()]
    return assign_patients((*found.scans, *found.missing), id_keys, keys).lines


def _summarise(scans: pa.Table, found: ArchiveListing, patient_lines: tuple[str, ...]) -> IndexSummary:
    usable = scans.filter(pc.equal(scans["status"], OK))
    skipped = scans.filter(pc.not_equal(scans["status"], OK)).select(["path", "reason"])
    notes: dict[str, int] = {}
    note_files: dict[str, str] = {}
    table = found.label_table
    unused = [(str(table.file), table.problem)] if table.problem else []
    for name in NOTE_COLUMNS:
        kind = name.removesuffix("_note")
        noted = usable.filter(pc.is_valid(usable[name]))
        if kind in TABLES:
            is_used = pc.is_valid(noted[kind]) if kind == "labels" else noted[kind]
            is_unused = pc.and_(pc.invert(is_used), pc.is_valid(noted[f"{kind}_path"]))
            refused = noted.filter(is_unused)
            unused += zip(refused[f"{kind}_path"].to_pylist(), refused[name].to_pylist(), strict=True)
            noted = noted.filter(pc.invert(is_unused))
        notes |= _count_values(noted[name])
        files = noted[f"{kind}_path"] if f"{kind}_path" in SUMMARY_COLUMNS else noted["path"]
        for note, file, video in zip(
            noted[name].to_pylist(), files.to_pylist(), noted["path"].to_pylist(), strict=True
        ):
            note_files.setdefault(note, file or video)
    return IndexSummary(
        found=scans.num_rows,
        usable=usable.num_rows,
        skipped=skipped.num_rows,
        no_sound=_total(pc.equal(usable["sound"], "none")),
        no_gaze=_total(pc.invert(usable["gaze"])),
        no_planes=_total(pc.invert(usable["planes"])),
        no_labels=usable["labels"].null_count,
        no_patient=usable["patient_key"].null_count,
        patients=len(usable["patient_key"].drop_null().unique()),
        seconds_of_video=float(pc.sum(usable["duration_seconds"]).as_py() or 0.0),
        clips=_total(usable["clips"]),
        high_affinity_clips=_total(usable["high_affinity_clips"]),
        reasons=_count_values(skipped["reason"]),
        notes=notes,
        other=found.other,
        unreadable=found.unreadable,
        patient_lines=patient_lines,
        skipped_scans=tuple(zip(skipped["path"].to_pylist(), skipped["reason"].to_pylist(), strict=True)),
        unused_tables=tuple(sorted(unused)),
        note_files=note_files,
        labels=summarise_labels(
            usable.select(["labels", "patient_key", "duration_seconds", "frames"]).to_pylist(),
            found.class_rules,
            table,
            found.class_file,
        ),
    )


def _total(values: pa.ChunkedArray) -> int:
    return int(pc.sum(values).as_py() or 0)


def _count_values(texts: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(texts).to_pylist()}
