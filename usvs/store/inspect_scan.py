"""What the catalogue says of one scan, found out without decoding it all."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.alignment import Alignment
from usvs.archive.discovery import ScanFiles
from usvs.archive.gaze import read_gaze
from usvs.archive.labels import read_plane_labels
from usvs.archive.settings import GazeSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.errors import DataError
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.media.box import Box
from usvs.media.sector import Sector, detect_sector
from usvs.media.timing import Timing
from usvs.media.video import iter_gray_frames, iter_keyframes, read_video_info
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.store.settings import ClipSettings

SECTOR_FRAMES = 24  # the fan is looked for in this many
SEQUENTIAL_FRAMES = 240  # of a file with few keyframes only its beginning is decoded
VOICE_RATE_HZ = 16_000
CLIP_SLACK = 0.01  # of a clip: more is no rounding, even where frames are rare
LEAST_DIFFERENCE_SECONDS, LEAST_DIFFERENCE = 1.0, 0.05  # of lengths of sound and picture that is told
STILL_SECONDS = 5.0  # without a new picture, which is told


@dataclass(frozen=True)
class IndexTask:
    """One scan to look into."""

    archive: Path
    files: ScanFiles
    clips: ClipSettings
    voice: VoiceActivitySettings
    gaze: GazeSettings = field(default_factory=GazeSettings)


@dataclass(frozen=True)
class ScanMetadata:
    """What was found: the file's size and age, then either the reason it is put aside or everything else."""

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
    alignment: Alignment = field(default_factory=Alignment)
    speech_fractions: NDArray[np.float32] | None = None  # one a clip, NaN without sound


def file_states(archive: Path, files: ScanFiles) -> tuple[object, ...]:
    """Return all that tells whether a scan is as it was: its files' sizes and times, and what the manifest says."""
    sizes = []
    for path in (files.path, files.sound, files.gaze, files.planes):
        try:
            status = None if path is None else os.stat(f"{archive}/{path}")  # noqa: PTH116  a Path is half the cost
        except OSError:
            status = None
        sizes.append(status and (status.st_size, status.st_mtime_ns))
    manifest = (files.patient, files.folder, files.split, files.sector, files.alignment.model_dump_json())
    return (files.path, files.sound, files.gaze, files.planes, *sizes, *manifest)


def inspect_scan(task: IndexTask) -> ScanMetadata:
    """Find out what the catalogue says of one scan; what is wrong with it is its `reason`, never an exception."""
    path = task.archive / task.files.path
    size = modified = 0
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):  # a pipe would keep who reads it waiting
            raise DataError("not a file")
        return _look(task, path, size, modified)
    except DataError as error:
        return ScanMetadata(size, modified, str(error))
    except OSError as error:
        return ScanMetadata(size, modified, f"not readable: {error.strerror}")
    except Exception as error:
        # one file's surprise must not end the work on the others; its kind and no text, which may hold a path
        return ScanMetadata(size, modified, f"unexpected {type(error).__name__} while reading it")


def clip_count(timing: Timing, clips: ClipSettings) -> int:
    """Return the number of clips in a scan none of whose frames is missing.

    Files round what a frame lasts (DICOM writes 33.333 ms for a thirtieth of a second), and no clip is lost to that: a
    scan may end before its last clip does, by half a frame or CLIP_SLACK, whichever is less.
    """
    slack = min(0.5 / timing.rate_hz, CLIP_SLACK * clips.clip_seconds)
    return int((timing.duration_seconds + slack) // clips.clip_seconds)


def _look(task: IndexTask, path: Path, size: int, modified: int) -> ScanMetadata:
    info = read_video_info(path)
    sector = _sector(path, info, task.files.sector)
    sound, sound_note, fractions = _listen(task, path, info)
    gaze, gaze_note, alignment = _look_at_gaze(task, info)
    planes, planes_note = _planes(task, info)
    return ScanMetadata(
        bytes=size,
        modified_ns=modified,
        reason=None,
        info=info,
        time_note=_joined(info.timing.note, _still_note(info)),
        sector=sector,
        sound=sound,
        sound_note=sound_note,
        gaze=gaze,
        gaze_note=gaze_note,
        planes=planes,
        planes_note=planes_note,
        alignment=alignment,
        speech_fractions=fractions,
    )


def _sector(path: Path, info: VideoInfo, stated: Box | None) -> Sector:
    frames = np.stack(list(_sector_frames(path, info)))
    height, width = frames.shape[1:]
    if stated is None:
        return detect_sector(frames, info.region)
    if stated.right > width or stated.bottom > height:
        raise DataError(f"the manifest's sector reaches outside of the picture of {width} x {height} pixels")
    return Sector(stated, None, "manifest")


def _sector_frames(path: Path, info: VideoInfo) -> Iterator[NDArray[np.uint8]]:
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


def _listen(task: IndexTask, path: Path, info: VideoInfo) -> tuple[str, str | None, NDArray[np.float32]]:
    count = clip_count(info.timing, task.clips)
    silent = np.full(count, np.nan, np.float32)
    beside = task.archive / task.files.sound if task.files.sound else None
    if beside is None and info.audio_codec is None:
        return "none", None, silent
    heard = AudioDecodeStats()
    try:
        clock = task.files.alignment
        waveform = read_audio(
            path,
            beside,
            VOICE_RATE_HZ,
            info.timing.start_seconds,
            heard,
            offset_seconds=clock.sound_offset_seconds,
            drift_ppm=clock.sound_drift_ppm,
        )
    except DataError as error:
        return "none", f"sound not used: {error}", silent
    from usvs.audio.voice_activity import speech_fraction, voice_activity  # brings torch, which takes seconds

    active = voice_activity(waveform, VOICE_RATE_HZ, task.voice)
    edges = np.round(np.arange(count + 1) * task.clips.clip_seconds / task.voice.frame_seconds).astype(int)
    expected = np.zeros(int(edges[-1]), bool)  # a sound that ends before the picture is silent from there on
    expected[: len(active)] = active[: len(expected)]
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    fractions = np.array([speech_fraction(expected, start, end) for start, end in pairs], np.float32)
    note = _joined(heard.note, _length_note(len(waveform) / VOICE_RATE_HZ, info.timing.duration_seconds, bool(beside)))
    return ("beside" if beside else "in_video"), note, fractions


def _length_note(sound: float, picture: float, is_beside: bool) -> str | None:
    least = max(LEAST_DIFFERENCE_SECONDS, LEAST_DIFFERENCE * picture)
    if sound < picture - least:
        return f"the sound ends at {sound:.1f} s, the picture at {picture:.1f} s"
    if is_beside and sound > picture + least:  # of a whole session, or another scan's
        return f"the sound file ends at {sound:.1f} s, the picture at {picture:.1f} s"
    return None


def _still_note(info: VideoInfo) -> str | None:
    longest = float(np.diff(info.timing.seconds).max(initial=0.0))
    return f"up to {longest:.1f} s pass without a new picture" if longest > STILL_SECONDS else None


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


def _look_at_gaze(task: IndexTask, info: VideoInfo) -> tuple[bool, str | None, Alignment]:
    alignment, relative = task.files.alignment, task.files.gaze
    if relative is None:
        return False, None, alignment
    try:
        samples = read_gaze(task.archive / relative, alignment.gaze)
    except DataError as error:
        return False, str(error), alignment
    first, last, duration = float(samples.seconds[0]), float(samples.seconds[-1]), info.timing.duration_seconds
    if not ((samples.seconds >= 0) & (samples.seconds < duration)).any():
        where = f"from {first:.1f} to {last:.1f} s, the scan from 0 to {duration:.1f} s"
        return False, f"gaze: its samples lie {where} (say gaze_zero in manifest.csv)", alignment
    view = alignment.gaze.fill_defaults(task.gaze, samples.viewing_distance_mm)
    return True, samples.note, alignment.model_copy(update={"gaze": view})


def _planes(task: IndexTask, info: VideoInfo) -> tuple[bool, str | None]:
    if task.files.planes is None:
        return False, None
    try:
        labels = read_plane_labels(task.archive / task.files.planes, info.timing.seconds)
    except DataError as error:
        return False, str(error)
    return True, labels.note(info.timing.duration_seconds)
