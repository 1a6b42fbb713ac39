"""What a store has, with the owner's names: scans, patients, labels and notes (``usvs ls``).

Everything outside of the store has keyed hashes instead of names; here they are translated both ways.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.archive.discovery import discover_scans
from usvs.archive.label_tracks import load_labels
from usvs.archive.patients import top_folder
from usvs.errors import ConfigError, DataError
from usvs.store.catalogue import OK
from usvs.store.folder import CATALOGUE, PREPARED, read_archive_path
from usvs.store.keys import Keys
from usvs.store.patient_groups import ID_COLUMNS
from usvs.store.prepare_failures import read_failures
from usvs.store.prepared_manifest import MANIFEST_FILE
from usvs.store.tables import read_rows
from usvs.utils.text import duration_text, printable, quantity

NOTES = ("time", "sector", "sound", "gaze", "planes", "labels", "file")  # columns of the catalogue, without ``_note``
UNKNOWN = "unknown patient"


@dataclass(frozen=True)
class ListedScan:
    """A scan of a store.

    Attributes:
        path: in the archive.
        scan_key: its keyed hash, by which runs and predictions name it.
        patient_key: of its patient; None: unknown.
        state: ``prepared``, ``not prepared``, ``failed`` (to prepare) or ``skipped`` (by index).
        reason: why it is skipped.
        seconds: duration.
        frames: their number.
        clips: their number.
        speech_clips: clips with enough speech for pairs.
        sound: ``in_video``, ``beside`` or ``none``.
        has_gaze: whether there is usable gaze.
        labels: by label column, the names of its labels in order of time, each once.
        notes: file in the archive, and what is unusual about it.
    """

    path: str
    scan_key: str
    patient_key: str | None
    state: str
    reason: str | None
    seconds: float
    frames: int
    clips: int
    speech_clips: int
    sound: str
    has_gaze: bool
    labels: Mapping[str, Sequence[str]]
    notes: Sequence[tuple[str, str]]

    @property
    def lines(self) -> list[str]:
        """The lines for a terminal."""
        what = f"{self.state}: {self.reason}" if self.reason else self.state
        if self.state != "skipped":
            sound = {"in_video": "sound in the video", "beside": "sound in a file of its own"}.get(self.sound)
            parts = [
                f"{duration_text(self.seconds)}, {quantity(self.frames, 'frame')}",
                f"{self.speech_clips} of {quantity(self.clips, 'clip')} with enough speech",
                sound or "no sound",
                *(["gaze"] if self.has_gaze else []),
            ]
            what = f"{what}; {', '.join(parts)}"
        lines = [f"  {self.scan_key}  {self.path}", f"    {what}"]
        lines += [f"    labels {column}: {', '.join(names)}" for column, names in self.labels.items()]
        lines += [f"    note on '{file}': {note}" for file, note in self.notes]
        return [printable(line) for line in lines]


@dataclass(frozen=True)
class ListedPatient:
    """A patient of a store.

    Attributes:
        patient_key: the keyed hash, by which runs name it; None for all scans of unknown patients.
        name: as the archive has it; None where it is not stored and the archive is not at hand.
        reason: why these scans are one patient.
        scans: of the patient.
    """

    patient_key: str | None
    name: str | None
    reason: str
    scans: Sequence[ListedScan]

    @property
    def lines(self) -> list[str]:
        """The lines for a terminal."""
        name = "" if self.name is None else f" '{self.name}'"
        who = UNKNOWN if self.patient_key is None else f"patient {self.patient_key}{name}"
        head = printable(f"{who}: {quantity(len(self.scans), 'scan')}, {self.reason}")
        return [head, *(line for scan in self.scans for line in scan.lines)]


@dataclass(frozen=True)
class StoreListing:
    """All or some patients of a store; as text, their lines."""

    store: Path
    archive: Path
    patients: Sequence[ListedPatient]

    def __str__(self) -> str:
        scans = sum(len(patient.scans) for patient in self.patients)
        known = sum(patient.patient_key is not None for patient in self.patients)
        head = f"store '{self.store}' of archive '{self.archive}':"
        lines = [printable(f"{head} {quantity(scans, 'scan')}, {quantity(known, 'patient')}")]
        return "\n".join([*lines, *(line for patient in self.patients for line in patient.lines)])


def list_store(store: str | Path, names: Iterable[str] = ()) -> StoreListing:
    """List the scans of a store by patient, or some of them.

    Args:
        store: a folder made by `index_archive`; only its owner has its private key.
        names: keys of scans or patients, or paths of files or folders of the archive; empty: everything.

    Raises:
        DataError: if `store` is not a store, or it is damaged.
        ConfigError: for a name that is not in it.
    """
    store = Path(store)
    keys, archive = Keys.load(store), read_archive_path(store, must_exist=False)
    failed = read_failures(store)
    rows = list(read_rows(store / CATALOGUE))
    scans = [_scan(row, store, failed) for row in rows]
    kept = set(range(len(scans)))
    if chosen := list(names):
        kept = {number for name in chosen for number in _find(name, scans, archive, store)}
    known = _known_names(archive, keys)
    of_patient: dict[str | None, list[int]] = defaultdict(list)
    for number in sorted(kept):
        of_patient[scans[number].patient_key].append(number)
    patients = [
        _patient(key, [rows[n] for n in numbers], [scans[n] for n in numbers], keys, known)
        for key, numbers in of_patient.items()
    ]
    patients.sort(key=lambda patient: (patient.patient_key is None, patient.scans[0].path))
    return StoreListing(store, archive, patients)


def _scan(row: Mapping[str, Any], store: Path, failed: frozenset[str]) -> ListedScan:
    key = str(row["scan_key"])
    is_prepared = (store / PREPARED / key / MANIFEST_FILE).is_file()
    state = "failed" if key in failed else "prepared" if is_prepared else "not prepared"
    notes = [
        (str(row.get(f"{kind}_path") or row["path"]), str(row[f"{kind}_note"]))
        for kind in NOTES
        if row[f"{kind}_note"] is not None
    ]
    tracks = load_labels(row["labels"])
    return ListedScan(
        path=str(row["path"]),
        scan_key=key,
        patient_key=row["patient_key"],
        state=state if row["status"] == OK else "skipped",
        reason=row["reason"],
        seconds=float(row["duration_seconds"] or 0.0),
        frames=int(row["frames"] or 0),
        clips=int(row["clips"] or 0),
        speech_clips=int(row["high_affinity_clips"] or 0),
        sound=str(row["sound"] or "none"),
        has_gaze=bool(row["gaze"]),
        labels={column: list(dict.fromkeys(span.label for span in track.spans)) for column, track in tracks.items()},
        notes=notes,
    )


def _find(name: str, scans: Sequence[ListedScan], archive: Path, store: Path) -> list[int]:
    """Return the positions of the scans that a name stands for."""
    path = name
    if Path(name).is_absolute():
        try:
            path = Path(name).relative_to(archive).as_posix()
        except ValueError:
            path = name
    path = path.rstrip("/")
    found = [
        number
        for number, scan in enumerate(scans)
        if name in (scan.scan_key, scan.patient_key) or scan.path == path or scan.path.startswith(f"{path}/")
    ]
    if not found:
        raise ConfigError(
            f"'{name}': expected a key of store '{store}', or a path in its archive '{archive}', got neither"
        )
    return found


def _known_names(archive: Path, keys: Keys) -> dict[str, str]:
    """Return the names of patients in manifest.csv or labels.csv by their keys; empty without the archive."""
    try:
        found = discover_scans(archive)
    except (DataError, ConfigError, OSError):
        return {}
    stated = [scan.patient for scan in (*found.scans, *found.missing) if scan.patient is not None]
    return {keys.patient_key(name): name for name in stated}


def _patient(
    key: str | None,
    rows: Sequence[Mapping[str, Any]],
    scans: Sequence[ListedScan],
    keys: Keys,
    known: Mapping[str, str],
) -> ListedPatient:
    folders = sorted({folder for scan in scans if (folder := top_folder(scan.path)) is not None})
    listed = ", ".join(f"'{folder}'" for folder in folders)
    ids = {row[ID_COLUMNS[1]] for row in rows if row[ID_COLUMNS[1]] is not None}
    if key is None:
        return ListedPatient(None, None, "in no folder, no PatientID, and not named in manifest.csv", scans)
    shared = f"; folders {listed} are linked by a PatientID or a name" if len(folders) > 1 else ""
    shared += f"; {len(ids)} PatientIDs share a folder or a name" if len(ids) > 1 else ""
    if key in known:
        return ListedPatient(key, known[key], f"named in manifest.csv or labels.csv{shared}", scans)
    if any(key == row[ID_COLUMNS[0]] for row in rows):
        return ListedPatient(key, None, f"by the DICOM PatientID, which is not stored{shared}", scans)
    of_folder = next((folder for folder in folders if keys.patient_key(folder) == key), None)
    if of_folder is not None:
        return ListedPatient(key, of_folder, f"by the top-level folder{shared}", scans)
    return ListedPatient(key, None, f"by its name or folder in the archive when it was indexed{shared}", scans)
