"""What `usvs index` tells the person at the terminal."""

from dataclasses import dataclass, field

from usvs.utils.progress import printable

MOST_NOTES = 20


@dataclass(frozen=True)
class IndexSummary:
    """What `usvs index` found, in numbers; as a text, what a person should know of it.

    Attributes:
        reasons: how many scans were put aside, by reason.
        notes: how many scans are used although something is not as one would wish, by what it is.
        other: how many files belong to no scan, by suffix.
        put_aside: path in the archive and reason of each scan put aside: for its owner's terminal only.
    """

    found: int = 0
    ok: int = 0
    quarantined: int = 0
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
    put_aside: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return a few lines for a terminal; the only place where a file's path is printable."""
        lines = [
            f"index: {self.ok} of {self.found} scans usable, {self.seconds_of_video / 60:.1f} minutes of video, "
            f"{self.clips} clips, {self.high_affinity_clips} of them with speech enough to pair",
            f"  patients: {self.patients}, by manifest.csv, else by the file, else by its folder's name",
            f"  without sound: {self.no_sound}, without gaze: {self.no_gaze}, without plane labels: {self.no_planes}, "
            f"without a patient: {self.no_patient}",
        ]
        common = sorted(self.notes.items(), key=lambda item: -item[1])
        lines += [f"  note, {count} scans: {note}" for note, count in common[:MOST_NOTES]]
        if len(common) > MOST_NOTES:
            lines.append(f"  ... and notes of {len(common) - MOST_NOTES} more kinds, see the catalogue in the store")
        lines += [f"  put aside: {printable(path)}: {reason}" for path, reason in self.put_aside[:20]]
        if len(self.put_aside) > 20:
            lines.append(f"  ... and {len(self.put_aside) - 20} more, see catalogue/scans.parquet in the store")
        if self.other:
            lines.append(
                "  of no scan: " + ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.other.items()))
            )
        return "\n".join(lines)
