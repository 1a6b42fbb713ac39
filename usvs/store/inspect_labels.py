"""The labels of one scan of any kind: from the archive's table, from a file of its own, and of standard planes."""

from pathlib import Path

from usvs.archive.discovery import ScanFiles
from usvs.archive.label_tables import LABELS_FILE
from usvs.archive.label_tracks import LabelTrack, check_frames, dump_labels, in_seconds, make_tracks, read_label_rows
from usvs.archive.labels import FILE_KIND, PLANE_COLUMN
from usvs.archive.settings import LabelSettings
from usvs.errors import DataError
from usvs.media.video_info import VideoInfo

WHAT = "labels"  # error messages begin with it


def inspect_labels(
    archive: Path, files: ScanFiles, info: VideoInfo, settings: LabelSettings
) -> tuple[str | None, str | None]:
    """Return the labels of a scan by label column as text of `dump_labels`, and what is unusual about them.

    Args:
        archive: the folder.
        files: of the scan, with its rows of the table of labels.
        info: of the video.
        settings: names of the label columns.

    Raises:
        DataError: for an invalid file, labels of frames that the scan does not have, or one column in two files.
    """
    sources = [(WHAT, make_tracks(files.label_rows, LABELS_FILE))]
    if files.labels is not None:
        rows = read_label_rows(archive / files.labels, WHAT, settings.columns, (files.path, files.labels))
        sources.append((WHAT, make_tracks(rows, WHAT)))
    if files.planes is not None:
        sources.append((FILE_KIND, _read_plane_tracks(archive, files.path, files.planes)))
    tracks: dict[str, LabelTrack] = {}
    for what, of_source in sources:
        check_frames(of_source, info.frames, what)
        if twice := sorted(set(tracks) & set(of_source)):
            raise DataError(f"{WHAT}: expected column '{twice[0]}' in one file, got it in two")
        tracks |= of_source
    if info.container == "dicom":  # its frames are numbered in the file, whether they can be decoded or not
        tracks = in_seconds(tracks, info.timing.seconds)
    duration = info.timing.duration_seconds
    outside = sum(track.outside(duration, info.frames) for name, track in tracks.items() if name != PLANE_COLUMN)
    note = f"{WHAT}: {outside} are outside of the scan: expected 0 to {duration:.1f} s" if outside else None
    return dump_labels(tracks), note


def _read_plane_tracks(archive: Path, scan: str, path: str) -> dict[str, LabelTrack]:
    """Return the labels of a file of planes; none where it is not used, which its own note says."""
    try:
        return make_tracks(read_label_rows(archive / path, FILE_KIND, (PLANE_COLUMN,), (scan, path)), FILE_KIND)
    except DataError:
        return {}
