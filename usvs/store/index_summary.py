"""The result of `usvs index` in numbers and as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from usvs.store.label_summary import LabelSummary
from usvs.utils.text import printable, quantity

MAX_PATIENT_LINES = 12
MAX_LINES = 20  # of notes, and of skipped scans


@dataclass(frozen=True)
class IndexSummary:
    """What `index_archive` found.

    Attributes:
        found: scans in the archive.
        usable: scans that can be prepared.
        skipped: scans that cannot be used.
        no_sound: usable scans without sound; likewise `no_gaze`, `no_planes` (plane labels), `no_labels` (of any kind)
            and `no_patient`.
        patients: number of known patients.
        seconds_of_video: of all usable scans.
        clips: of all usable scans.
        high_affinity_clips: clips with enough speech to form a pair.
        reasons: number of skipped scans by reason.
        notes: number of usable scans by what is unusual about them.
        other: number of files that belong to no scan, by suffix.
        unreadable: path and reason of each folder of the archive that could not be read, likewise.
        skipped_scans: path in the archive and reason of each skipped scan: for the terminal of its owner only.
        unused_tables: path in the archive and reason of each table of gaze or labels of a usable scan that is not used;
            likewise for its owner only.
        note_files: for each note, the path of the first file that it is about; likewise.
        patient_lines: how many patients there are, and which scans with different names are one and why; likewise.
        labels: classes by label column, and labels that may be one class; likewise.
    """

    found: int = 0
    usable: int = 0
    skipped: int = 0
    no_sound: int = 0
    no_gaze: int = 0
    no_planes: int = 0
    no_labels: int = 0
    no_patient: int = 0
    patients: int = 0
    seconds_of_video: float = 0.0
    clips: int = 0
    high_affinity_clips: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()
    skipped_scans: tuple[tuple[str, str], ...] = ()
    unused_tables: tuple[tuple[str, str], ...] = ()
    note_files: dict[str, str] = field(default_factory=dict)
    patient_lines: tuple[str, ...] = ()
    labels: LabelSummary = field(default_factory=LabelSummary)

    def __str__(self) -> str:
        """Return the lines for a terminal; the only text in which paths of the archive may be printed."""
        lines = [
            f"index: {self.usable} of {quantity(self.found, 'scan')} usable: "
            f"{self.seconds_of_video / 60:.1f} minutes of video, {quantity(self.clips, 'clip')}, "
            f"{self.high_affinity_clips} of them with enough speech for pairs",
            *(printable(f"  {line}") for line in self.patient_lines[:MAX_PATIENT_LINES]),
            *self._more_patient_lines(),
            f"  scans without sound: {self.no_sound}, without gaze: {self.no_gaze}, without labels: {self.no_labels}, "
            f"without a known patient: {self.no_patient}",
            *(printable(f"  {line}") for line in self.labels.lines),
        ]
        notes = sorted(self.notes.items(), key=lambda item: -item[1])
        lines += [self._note_line(note, count) for note, count in notes[:MAX_LINES]]
        if len(notes) > MAX_LINES:
            lines.append(
                f"  ... and {len(notes) - MAX_LINES} more kinds of notes: see catalogue/scans.parquet in the store"
            )
        lines += [printable(f"  skipped folder: {path}: {reason}") for path, reason in self.unreadable]
        lines += _list_files("skipped", self.skipped_scans, "skipped scans")
        if self.other:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.other.items()))
            lines.append(printable(f"  files that belong to no scan: {counts}"))
        lines += _list_files("NOT USED", self.unused_tables, "unused tables of gaze or labels")
        return "\n".join(lines)

    def _more_patient_lines(self) -> list[str]:
        more = len(self.patient_lines) - MAX_PATIENT_LINES
        return [f"  ... and {more} more lines about patients: attribute patient_lines in Python"] if more > 0 else []

    def _note_line(self, note: str, count: int) -> str:
        file = self.note_files.get(note)
        first = f", {'the first is ' if count > 1 else ''}'{file}'" if file else ""
        return printable(f"  note ({quantity(count, 'scan')}{first}): {note}")


def _list_files(what: str, files: Sequence[tuple[str, str]], kind: str) -> list[str]:
    """Return one line for each file, and one that counts those that are left out."""
    lines = [printable(f"  {what}: {path}: {reason}") for path, reason in files[:MAX_LINES]]
    if len(files) > MAX_LINES:
        lines.append(f"  ... and {len(files) - MAX_LINES} more {kind}: see catalogue/scans.parquet in the store")
    return lines
