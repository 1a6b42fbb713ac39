"""The catalogue: one row a scan and one a clip, inside the store; paths of the archive live nowhere else."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from typing_extensions import Self

import usvs
from usvs.archive.discovery import ArchiveListing, ScanFiles, discover_scans
from usvs.archive.settings import GazeSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.store.folder import CATALOGUE, archive_of, create_store, locked
from usvs.store.index_journal import Journal
from usvs.store.index_summary import IndexSummary
from usvs.store.inspect_scan import IndexTask, ScanMetadata, file_states, inspect_scan
from usvs.store.keys import Keys
from usvs.store.settings import ClipSettings
from usvs.store.tables import SCANS, CatalogueWriter, map_clips, read_rows, read_scans
from usvs.utils.process_pool import run_each
from usvs.utils.progress import printable, track

logger = logging.getLogger(__name__)

__all__ = ["Catalogue", "IndexSummary", "index_archive"]

OK, QUARANTINED = "ok", "quarantined"
MISSING = "the manifest names it, the archive does not hold it"
NOTES = ("time_note", "sector_note", "sound_note", "gaze_note", "planes_note", "file_note")
SUMMED = (
    *("path", "status", "reason", "patient_key", "sound", "gaze", "planes"),
    *("duration_seconds", "clips", "high_affinity_clips"),
)


@dataclass(frozen=True)
class Catalogue:
    """The tables that `usvs index` made: `scans` (one row a scan) and `clips` (one a clip; `scan` is the row there).

    The clips are mapped: they lie on disk until they are looked at.
    """

    scans: pa.Table
    clips: pa.Table

    @classmethod
    def load(cls, store: Path) -> Self:
        """Read the catalogue of a store.

        Raises:
            DataError: where there is none, or it is damaged or of another version.
        """
        archive_of(store, must_exist=False)
        return cls(read_scans(store / CATALOGUE), map_clips(store / CATALOGUE))


def index_archive(
    archive: Path,
    store: Path,
    clips: ClipSettings,
    voice: VoiceActivitySettings,
    workers: int | None = None,
    gaze: GazeSettings | None = None,
) -> IndexSummary:
    """Find an archive's scans and write the catalogue of a store.

    A scan none of whose files has changed in size or time, nor what the manifest says of it, keeps its row; so does one
    that a run looked into which was stopped before its end.

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
    found = discover_scans(_existing(archive))
    keys = create_store(archive, store)
    with locked(store):
        work = _Index(archive.resolve(), store / CATALOGUE, keys, clips, voice, gaze or GazeSettings())
        try:
            work.bring_up_to_date(found, workers)
        except OSError as error:
            raise DataError(f"store '{store}' cannot be written: {error.strerror}") from None
        summary = _summary(read_scans(store / CATALOGUE, [*SUMMED, *NOTES]), found)
    if summary.ok == 0:
        listed = "; ".join(f"{printable(path)}: {reason}" for path, reason in summary.put_aside[:3])
        raise DataError(f"archive '{archive}': none of its {summary.found} videos is usable ({listed})")
    return summary


def _existing(archive: Path) -> Path:
    if not archive.is_dir():
        raise DataError(f"archive '{archive}' is not a folder")
    return archive


class _Index(NamedTuple):
    """What an archive is indexed with."""

    archive: Path
    folder: Path
    keys: Keys
    clips: ClipSettings
    voice: VoiceActivitySettings
    gaze: GazeSettings

    def bring_up_to_date(self, found: ArchiveListing, workers: int | None) -> None:
        """Write the catalogue, or leave it where all is as it was."""
        known, states = self._known(), self._states(found)
        files = (*found.scans, *found.missing)
        paths = [scan.path for scan in files]
        if list(known) == paths and [known[path] for path in paths] == states:
            return
        same_as_before = [known.get(path) == state for path, state in zip(paths, states, strict=True)]
        with Journal(self.folder) as journal, CatalogueWriter(self.folder, self.clips) as writer:
            is_new = [not same and state not in journal for same, state in zip(same_as_before, states, strict=True)]
            if resumed := len(files) - sum(same_as_before) - sum(is_new):
                logger.info(f"index: {resumed} scans were looked into by a run that did not end; going on from there")
            facts, old = self._look_into(found, is_new, workers), self._old_scans(known)
            for scan, state, same, new in zip(files, states, same_as_before, is_new, strict=True):
                if same:
                    writer.add(*next(pair for pair in old if pair[0]["path"] == scan.path))
                    continue
                if new:
                    fact = next(facts)
                    row = _row(scan, fact, self.keys, self.clips) | {"state": state}
                    journal.add(row, fact.speech_fractions)
                writer.add(*journal[state])
            writer.publish()

    def _look_into(self, found: ArchiveListing, is_new: list[bool], workers: int | None) -> Iterator[ScanMetadata]:
        """Look into the new ones of the scans, in order; then, without end, say of the missing that they are."""
        tasks = (
            IndexTask(self.archive, scan, self.clips, self.voice, self.gaze)
            for scan, new in zip(found.scans, is_new, strict=False)
            if new
        )
        total = sum(is_new[: len(found.scans)])
        workers = min(workers or os.cpu_count() or 1, max(1, total))
        results = track(run_each(inspect_scan, tasks, workers), "looking into scans", total)
        return chain((_facts(result) for _, result in results), repeat(ScanMetadata(0, 0, MISSING)))

    def _known(self) -> dict[str, str]:
        """The paths and states of the catalogue that is there; none where it is of no use."""
        try:
            table = read_scans(self.folder, ["path", "state"])
            map_clips(self.folder)
        except DataError:
            return {}
        return dict(zip(table["path"].to_pylist(), table["state"].to_pylist(), strict=True))

    def _states(self, found: ArchiveListing) -> list[str]:
        settings = [part.model_dump_json() for part in (self.clips, self.voice, self.gaze)]
        common = sha256("\n".join([usvs.__version__, *settings]).encode())
        states = []
        for scan in (*found.scans, *found.missing):
            digest = common.copy()
            digest.update(repr(file_states(self.archive, scan)).encode("utf-8", "surrogateescape"))
            states.append(digest.hexdigest()[:32])
        return states

    def _old_scans(self, known: dict[str, str]) -> Iterator[tuple[dict[str, object], NDArray[np.float32] | None]]:
        """Go through the catalogue that is there: each row, and the speech fractions of its clips."""
        if not known:
            return
        fractions, first = map_clips(self.folder)["speech_fraction"].to_numpy(), 0
        for row in read_rows(self.folder):
            count = row["clips"]
            yield row, None if count is None else fractions[first : first + int(str(count))]
            first += int(str(count or 0))


def _facts(result: ScanMetadata | DataError) -> ScanMetadata:
    return result if isinstance(result, ScanMetadata) else ScanMetadata(0, 0, str(result))


def _row(files: ScanFiles, fact: ScanMetadata, keys: Keys, clips: ClipSettings) -> dict[str, object]:
    patient = files.patient or (fact.info and fact.info.patient) or files.folder
    row: dict[str, object] = {
        "scan_key": keys.scan_key(files.path),
        "patient_key": keys.patient_key(patient) if patient else None,
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
    info, box = fact.info, fact.sector.crop_box
    row |= {name: getattr(info, name) for name in SCANS.names if hasattr(info, name)}
    row |= {name: getattr(info.timing, name) for name in ("duration_seconds", "rate_hz", "start_seconds")}
    row |= {f"sector_{side}": getattr(box, side) for side in ("left", "top", "right", "bottom")}
    row |= {name: getattr(fact, name) for name in ("sound", "gaze", "planes", "sound_note", "gaze_note", "planes_note")}
    with np.errstate(invalid="ignore"):
        high = int((fact.speech_fractions >= clips.speech_fraction_high).sum())
    return row | {
        "time_note": fact.time_note,
        "sector_note": fact.sector.note,
        "sector_source": fact.sector.source,
        "clips": len(fact.speech_fractions),
        "high_affinity_clips": high,
    }


def _summary(scans: pa.Table, found: ArchiveListing) -> IndexSummary:
    usable = scans.filter(pc.equal(scans["status"], OK))
    aside = scans.filter(pc.not_equal(scans["status"], OK)).select(["path", "reason"])
    notes: dict[str, int] = {}
    for name in NOTES:
        notes |= _counts(usable[name].drop_null())
    return IndexSummary(
        found=scans.num_rows,
        ok=usable.num_rows,
        quarantined=aside.num_rows,
        no_sound=_total(pc.equal(usable["sound"], "none")),
        no_gaze=_total(pc.invert(usable["gaze"])),
        no_planes=_total(pc.invert(usable["planes"])),
        no_patient=usable["patient_key"].null_count,
        patients=len(usable["patient_key"].drop_null().unique()),
        seconds_of_video=float(pc.sum(usable["duration_seconds"]).as_py() or 0.0),
        clips=_total(usable["clips"]),
        high_affinity_clips=_total(usable["high_affinity_clips"]),
        reasons=_counts(aside["reason"]),
        notes=notes,
        other=found.other,
        put_aside=tuple(zip(aside["path"].to_pylist(), aside["reason"].to_pylist(), strict=True)),
    )


def _total(values: pa.ChunkedArray) -> int:
    return int(pc.sum(values).as_py() or 0)


def _counts(texts: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(texts).to_pylist()}
