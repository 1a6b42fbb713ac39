"""The result of `usvs index` in numbers and as text."""

from dataclasses import dataclass, field

from usvs.utils.text import printable, quantity

MAX_LINES = 20  # of notes, and of skipped scans


@dataclass(frozen=True)
class IndexSummary:
    """What `index_archive` found.

    Attributes:
        found: scans in the archive.
        usable: scans that can be prepared.
        skipped: scans that cannot be used.
        no_sound: usable scans without sound; likewise `no_gaze`, `no_planes` (labels) and `no_patient`.
        patients: number of known patients.
        seconds_of_video: of all usable scans.
        clips: of all usable scans.
        high_affinity_clips: clips with enough speech to form a pair.
        reasons: number of skipped scans by reason.
        notes: number of usable scans by what is unusual about them.
        other: number of files that belong to no scan, by suffix.
        skipped_scans: path in the archive and reason of each skipped scan: for the terminal of its owner only.
    """

    found: int = 0
    usable: int = 0
    skipped: int = 0
    no_sound: int = 0
    no_gaze: int = 0
    no_planes: int = 0
    no_patient: int = 0
    patients: int = 0
    seconds_of_video: float = 0.0
    clips: int = 0
    high_affinity_clips: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)
    skipped_scans: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the lines for a terminal; the only text in which paths of the archive may be printed."""
        lines = [
            f"index: {self.usable} of {quantity(self.found, 'scan')} usable: "
            f"{self.seconds_of_video / 60:.1f} minutes of video, {quantity(self.clips, 'clip')}, "
            f"{self.high_affinity_clips} of them with enough speech for pairs",
            f"  patients: {self.patients}, from manifest.csv, else from the file, else from the folder's name",
            f"  scans without sound: {self.no_sound}, without gaze: {self.no_gaze}, without plane labels: "
            f"{self.no_planes}, without a known patient: {self.no_patient}",
        ]
        notes = sorted(self.notes.items(), key=lambda item: -item[1])
        lines += [f"  note ({quantity(count, 'scan')}): {note}" for note, count in notes[:MAX_LINES]]
        if len(notes) > MAX_LINES:
            lines.append(
                f"  ... and {len(notes) - MAX_LINES} more kinds of notes: see catalogue/scans.parquet in the store"
            )
        lines += [f"  skipped: {printable(path)}: {reason}" for path, reason in self.skipped_scans[:MAX_LINES]]
        if len(self.skipped_scans) > MAX_LINES:
            more = len(self.skipped_scans) - MAX_LINES
            lines.append(f"  ... and {more} more skipped scans: see catalogue/scans.parquet in the store")
        if self.other:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.other.items()))
            lines.append(f"  files that belong to no scan: {counts}")
        return "\n".join(lines)
