"""Metadata of one scan for the catalogue, read without decoding all of its frames.

It is one file because each of its functions fills a part of one record, and all turn errors into notes alike.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import Alignment
from usvs.archive.discovery import COMPANION_SUFFIXES, ScanFiles
from usvs.archive.gaze import read_gaze
from usvs.archive.labels import read_plane_labels
from usvs.archive.settings import GazeSettings, LabelSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.media.box import Box
from usvs.media.sector import Sector, detect_sector
from usvs.media.timing import Timing
from usvs.media.video import iter_gray_frames, iter_keyframes, read_video_info
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.store.inspect_labels import inspect_labels
from usvs.store.settings import ClipSettings

SECTOR_FRAMES = 24  # number of frames in which the sector is detected
SEQUENTIAL_FRAMES = 240  # decoded from the start of a file with fewer than SECTOR_FRAMES keyframes
VOICE_RATE_HZ = 16_000
MAX_CLIP_SLACK = 0.01  # of a clip; a larger gap is not a rounding error, even at low frame rates
# lengths of sound and video are noted if they differ by more than this many seconds and this fraction of the video
LENGTH_DIFFERENCE_SECONDS, LENGTH_DIFFERENCE_FRACTION = 1.0, 0.05
STILL_SECONDS = 5.0  # a longer time without a new frame is noted


@dataclass(frozen=True)
class IndexTask:
    """One scan to inspect."""

    archive: Path
    files: ScanFiles
    clips: ClipSettings
    voice_activity: VoiceActivitySettings
    gaze: GazeSettings = field(default_factory=GazeSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)


@dataclass(frozen=True)
class ScanMetadata:
    """What `inspect_scan` found.

    Attributes:
        bytes: size of the video file.
        modified_ns: its modification time.
        reason: why the scan is skipped; None if it is usable, and then `info`, `sector` and `speech_fractions` are set.
        info: streams, size and frame times of the video.
        time_note: what is unusual about the frame times; likewise the other notes.
        sector: the inscribed crop.
        sound: ``in_video``, ``beside`` (a file of its own) or ``none``.
        gaze: whether there is usable gaze; likewise `planes` (labels).
        labels: by label column, as text of `dump_labels`; None without any.
        labels_note: why there are none.
        alignment: of sound and gaze with the video.
        companions: size and modification time of each companion file, by kind, before it was read.
        speech_fractions: fraction of each clip that is speech [clips]; NaN without sound.
    """

    bytes: int
    modified_ns: int
    reason: str | None
    info: VideoInfo | None = None
    time_note: str | None = None
    sector: Sector | None = None
    sound: str = "none"
    sound_note: str | None = None
    gaze: bool = False
    gaze_note: str | None = None
    planes: bool = False
    planes_note: str | None = None
    labels: str | None = None
    labels_note: str | None = None
    alignment: Alignment = field(default_factory=Alignment)
    companions: dict[str, tuple[int, int]] = field(default_factory=dict)
    speech_fractions: NDArray[np.float32] | None = None


def file_states(archive: Path, files: ScanFiles) -> tuple[object, ...]:
    """Return what shows whether a scan has changed: sizes and times of its files, its row of the manifest."""
    paths, sizes = (files.path, files.sound, files.gaze, files.planes, files.labels), []
    for path in paths:
        try:
            status = None if path is None else os.stat(f"{archive}/{path}")  # noqa: PTH116  a Path would double the time
        except OSError:
            status = None
        sizes.append(status and (status.st_size, status.st_mtime_ns))
    manifest = (files.patient, files.split, files.sector, files.alignment.model_dump_json())
    return (*paths, *sizes, *manifest, files.label_rows)


def inspect_scan(task: IndexTask) -> ScanMetadata:
    """Inspect one scan; an error is the `reason` of the result, never an exception."""
    path = task.archive / task.files.path
    size = modified = 0
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
            raise DataError("not a regular file")
        return _inspect(task, path, size, modified)
    except DataError as error:
        return ScanMetadata(size, modified, str(error))
    except OSError as error:
        return ScanMetadata(size, modified, f"not readable: {error.strerror}")
    except Exception as error:
        # one file must not end the work on the others; the text of the exception may contain a path
        return ScanMetadata(size, modified, f"unexpected {type(error).__name__}")


def clip_count(timing: Timing, clips: ClipSettings) -> int:
    """Return the number of clips in a scan whose frames are all present.

    Files round the duration of a frame (DICOM writes 33.333 ms for 1/30 s). So that no clip is lost to rounding, a scan
    may end before its last clip by half a frame or `MAX_CLIP_SLACK`, whichever is less.
    """
    slack = min(0.5 / timing.rate_hz, MAX_CLIP_SLACK * clips.clip_seconds)
    return int((timing.duration_seconds + slack) // clips.clip_seconds)


def _inspect(task: IndexTask, path: Path, size: int, modified: int) -> ScanMetadata:
    companions = _companion_states(task)
    info = read_video_info(path)
    sector = _inspect_sector(path, info, task.files.sector)
    sound, sound_note, fractions = _inspect_sound(task, path, info)
    gaze, gaze_note, alignment = _inspect_gaze(task, info)
    planes, planes_note = _inspect_planes(task, info)
    labels, labels_note = _inspect_labels(task, info)
    return ScanMetadata(
        bytes=size,
        modified_ns=modified,
        reason=None,
        info=info,
        time_note=_join_notes(info.timing.note, _still_note(info)),
        sector=sector,
        sound=sound,
        sound_note=sound_note,
        gaze=gaze,
        gaze_note=gaze_note,
        planes=planes,
        planes_note=planes_note,
        labels=labels,
        labels_note=labels_note,
        alignment=alignment,
        companions=companions,
        speech_fractions=fractions,
    )


def _companion_states(task: IndexTask) -> dict[str, tuple[int, int]]:
    states = {}
    for kind in COMPANION_SUFFIXES:
        path = getattr(task.files, kind)
        if path is not None:
            try:
                status = (task.archive / path).stat()
                states[kind] = status.st_size, status.st_mtime_ns
            except OSError:
                pass  # its reader says why it is not used
    return states


def _inspect_sector(path: Path, info: VideoInfo, stated: Box | None) -> Sector:
    frames = np.stack(list(sector_frames(path, info)))
    height, width = frames.shape[1:]
    if stated is None:
        return detect_sector(frames, info.region)
    if stated.right > width or stated.bottom > height:
        raise DataError(
            f"manifest.csv: expected a sector inside the picture of {width} x {height} pixels, "
            f"got {stated.left},{stated.top},{stated.right},{stated.bottom}"
        )
    return Sector(stated, None, "manifest", confidence=1.0)


def sector_frames(path: Path, info: VideoInfo) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames in which the sector of a scan is detected: keyframes, or frames of the scan's beginning.

    Raises:
        DataError: where no frame can be decoded.
    """
    keys = info.timing.keyframes
    if len(keys) >= SECTOR_FRAMES:
        chosen = keys[np.linspace(0, len(keys) - 1, SECTOR_FRAMES).astype(int)]
        pictures = list(iter_keyframes(path, info, chosen))
        if pictures:
            yield from pictures
            return
    expected = set(np.linspace(0, min(info.frames, SEQUENTIAL_FRAMES) - 1, SECTOR_FRAMES).astype(int).tolist())
    decoded = VideoDecodeStats()
    got = 0
    for number, (_, gray) in enumerate(iter_gray_frames(path, info, decoded)):
        if number in expected:
            got += 1
            yield gray
        if number >= max(expected):
            break
    if got == 0:
        raise DataError(f"no frame could be decoded ({decoded.damaged_packets} damaged packets)")


def _inspect_sound(task: IndexTask, path: Path, info: VideoInfo) -> tuple[str, str | None, NDArray[np.float32]]:
    count = clip_count(info.timing, task.clips)
    silent = np.full(count, np.nan, np.float32)
    beside = task.archive / task.files.sound if task.files.sound else None
    if beside is None and info.audio_codec is None:
        return "none", None, silent
    decode_stats = AudioDecodeStats()
    try:
        alignment = task.files.alignment
        waveform = read_audio(
            path,
            beside,
            VOICE_RATE_HZ,
            info.timing.start_seconds,
            decode_stats,
            offset_seconds=alignment.sound_offset_seconds,
            drift_ppm=alignment.sound_drift_ppm,
            max_seconds=info.timing.duration_seconds,
        )
    except Exception as error:
        is_data = isinstance(error, DataError)
        return "none", f"sound not used: {error}" if is_data else _not_used("sound", error), silent
    from usvs.audio.voice_activity import speech_fraction, voice_activity  # imports torch, which takes seconds

    active = voice_activity(waveform, VOICE_RATE_HZ, task.voice_activity)
    edges = np.round(np.arange(count + 1) * task.clips.clip_seconds / task.voice_activity.frame_seconds).astype(int)
    is_speech = np.zeros(int(edges[-1]), bool)  # a sound that ends before the video is silent from there on
    is_speech[: len(active)] = active[: len(is_speech)]
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    fractions = np.array([speech_fraction(is_speech, start, end) for start, end in pairs], np.float32)
    note = _join_notes(
        decode_stats.note, _length_note(decode_stats.seconds, info.timing.duration_seconds, bool(beside))
    )
    return ("beside" if beside else "in_video"), note, fractions


def _length_note(sound: float, video: float, is_beside: bool) -> str | None:
    tolerance = max(LENGTH_DIFFERENCE_SECONDS, LENGTH_DIFFERENCE_FRACTION * video)
    if sound < video - tolerance:
        return f"the sound ends at {sound:.1f} s, the video at {video:.1f} s"
    if is_beside and sound > video + tolerance:  # the recording of a session, or of another scan
        return f"the sound file ends at {sound:.1f} s, the video at {video:.1f} s"
    return None


def _still_note(info: VideoInfo) -> str | None:
    longest = float(np.diff(info.timing.seconds).max(initial=0.0))
    return f"up to {longest:.1f} s without a new frame" if longest > STILL_SECONDS else None


def _join_notes(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


def _not_used(kind: str, error: Exception) -> str:
    """Return why a companion of a scan is not used: an error of any type must not cost the scan."""
    return str(error) if isinstance(error, DataError) else f"{kind} not used: unexpected {type(error).__name__}"


def _inspect_gaze(task: IndexTask, info: VideoInfo) -> tuple[bool, str | None, Alignment]:
    alignment, relative = task.files.alignment, task.files.gaze
    if relative is None:
        return False, None, alignment
    try:
        samples = read_gaze(task.archive / relative, alignment.gaze, (task.files.path, relative))
    except Exception as error:
        return False, _not_used("gaze", error), alignment
    first, last, duration = float(samples.seconds[0]), float(samples.seconds[-1]), info.timing.duration_seconds
    if not ((samples.seconds >= 0) & (samples.seconds < duration)).any():
        return (
            False,
            f"gaze: expected samples between 0 and {duration:.1f} s, got {first:.1f} to {last:.1f} s "
            "(set gaze_zero in manifest.csv)",
            alignment,
        )
    view = alignment.gaze.fill_defaults(task.gaze, samples.viewing_distance_mm)
    return True, samples.note, alignment.model_copy(update={"gaze": view})


def _inspect_planes(task: IndexTask, info: VideoInfo) -> tuple[bool, str | None]:
    if task.files.planes is None:
        return False, None
    try:
        path = task.archive / task.files.planes
        labels = read_plane_labels(path, info.timing.seconds, (task.files.path, task.files.planes))
    except Exception as error:
        return False, _not_used("plane labels", error)
    return True, labels.note(info.timing.duration_seconds)


def _inspect_labels(task: IndexTask, info: VideoInfo) -> tuple[str | None, str | None]:
    try:
        return inspect_labels(task.archive, task.files, info, task.labels)
    except Exception as error:
        return None, _not_used("labels", error)
