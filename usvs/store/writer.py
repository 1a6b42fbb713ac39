"""Writing of one prepared scan: into a temporary folder, which is renamed once it is complete and on disk."""

import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import simplejpeg
from numpy.typing import NDArray

import usvs
from usvs.archive.alignment import Alignment
from usvs.errors import DataError
from usvs.media.box import Box
from usvs.store.prepared_manifest import MANIFEST_FILE, FileState, PreparedManifest
from usvs.store.settings import PrepareSettings
from usvs.utils.atomic_files import sync_files, sync_folder
from usvs.utils.hashing import file_sha256

Frames = Iterable[tuple[float, NDArray[np.uint8]]]
Track = (
    NDArray[Any] | Callable[[NDArray[np.float64]], NDArray[Any]] | None
)  # one value per frame, or a function of the frame times
PARTIAL_PREFIX = ".partial."
SPEECH_BLOCK = 4800  # samples per checksum: a piece of 0.6 s at 24 kHz is in three or four blocks


def write_prepared_scan(
    folder: Path,
    *,
    scan_key: str,
    patient_key: str | None,
    frames: Frames,
    speech: NDArray[np.int16] | None,
    gaze: Track,
    planes: Track,
    settings: PrepareSettings,
    sector: Box | tuple[int, int, int, int],
    source: FileState | Mapping[str, int],
    duration_seconds: float | None = None,
    alignment: Alignment | None = None,
    gaze_degree: tuple[float, float] | None = None,
    source_sha256: str | None = None,
    geometry: str | None = None,
) -> PreparedManifest:
    """Write a prepared scan; a kill at any instant leaves the old one, the new one or none.

    Args:
        folder: of the prepared scan; an older one is replaced.
        scan_key: keyed hash of the scan.
        patient_key: keyed hash of its patient, None if unknown.
        frames: increasing times in seconds from the start of the scan, and gray images uint8 [P, P]; read one by one.
        speech: int16 samples from time 0, at `settings.rate_hz`; None without sound.
        gaze: x, y of each frame as fractions of its sides [n, 2], or a function of the frame times; None without gaze.
        planes: label of each frame [n], or a function of the frame times; None without labels.
        settings: size and encoding of the frames.
        sector: the inscribed crop of the video image, which the frames show by default: left, top, right, bottom
            (exclusive) in pixels.
        source: size and modification time of the video file.
        duration_seconds: of the scan; None: the last frame lasts for the median frame interval.
        alignment: of sound and gaze with the video.
        gaze_degree: one degree of visual angle as fractions of the frame's width and height; None without gaze.
        source_sha256: SHA-256 of the video file.
        geometry: of the sector, which frames depend on unless they show the inscribed crop.

    Raises:
        DataError: if there is no frame, a frame has another size, times do not increase, or a track has another length.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL_PREFIX}{folder.name}.", dir=folder.parent))
    try:
        seconds, hashes = _write_frames(partial, frames, settings, scan_key)
        interval = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
        columns: dict[str, NDArray[Any] | None] = {
            "frame_seconds.npy": seconds,
            "gaze.npy": _gaze_track(gaze, seconds),
            "planes.npy": _evaluate_track(planes, seconds),
            "speech.npy": speech,
        }
        if speech is not None:
            columns["speech_crc32.npy"] = speech_checksums(np.ascontiguousarray(speech))
        for name, values in columns.items():
            if values is not None:
                hashes[name] = _save(partial / name, values)
        manifest = PreparedManifest(
            scan_key=scan_key,
            patient_key=patient_key,
            codec=settings.codec,
            frame_pixels=settings.frame_pixels,
            frames=len(seconds),
            duration_seconds=float(seconds[-1]) + interval if duration_seconds is None else duration_seconds,
            rate_hz=(len(seconds) - 1) / float(seconds[-1] - seconds[0]) if len(seconds) > 1 else 0.0,
            sector=(sector.left, sector.top, sector.right, sector.bottom) if isinstance(sector, Box) else sector,
            geometry=geometry if settings.crop != "inscribed" else None,
            source=source if isinstance(source, FileState) else FileState.model_validate(source),
            source_sha256=source_sha256,
            alignment=alignment or Alignment(),
            gaze_degree=gaze_degree,
            settings=settings,
            speech_samples=None if speech is None else len(speech),
            bytes={name: (partial / name).stat().st_size for name in hashes},
            sha256=hashes,
            usvs=usvs.__version__,
        ).seal()
        (partial / MANIFEST_FILE).write_bytes(manifest.model_dump_json(indent=1).encode())
        sync_files(partial)
        _replace_folder(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def remove_partial(prepared: Path) -> None:
    """Remove incomplete scans of killed processes; the caller must have locked the store."""
    for leftover in prepared.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write_frames(
    folder: Path, frames: Frames, settings: PrepareSettings, scan_key: str
) -> tuple[NDArray[np.float64], dict[str, str]]:
    side = settings.frame_pixels
    offsets, seconds, checksums, digest = array("q", [0]), array("d"), array("I"), sha256()
    with (folder / "frames.bin").open("wb") as file:
        for time, picture in frames:
            if picture.shape != (side, side):
                raise DataError(f"scan {scan_key}: expected frames of {side} x {side} pixels, got {picture.shape}")
            if seconds and time <= seconds[-1]:
                raise DataError(
                    f"scan {scan_key}: expected increasing frame times, frame {len(seconds)} is not later than the last"
                )
            content = encode_frame(picture, settings)
            digest.update(content)
            checksums.append(crc32(content))
            file.write(content)
            seconds.append(time)
            offsets.append(offsets[-1] + len(content))
    if not seconds:
        raise DataError(f"scan {scan_key}: no frame could be decoded")
    hashes = {"frames.bin": digest.hexdigest()}
    hashes["frame_offsets.npy"] = _save(folder / "frame_offsets.npy", np.array(offsets, np.int64))
    hashes["frame_crc32.npy"] = _save(folder / "frame_crc32.npy", np.array(checksums, np.uint32))
    return np.array(seconds, np.float64), hashes


def speech_checksums(speech: NDArray[np.int16]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each `SPEECH_BLOCK` samples of speech [n]; the last block may be shorter."""
    starts = range(0, len(speech), SPEECH_BLOCK)
    return np.array([crc32(speech[start : start + SPEECH_BLOCK].data) for start in starts], np.uint32)


def encode_frame(picture: NDArray[np.uint8], settings: PrepareSettings) -> bytes:
    """Return the bytes of a frame uint8 [P, P] in the codec of the settings."""
    if settings.codec == "raw":
        return picture.tobytes()
    pixels = np.ascontiguousarray(picture)[:, :, None]
    return bytes(simplejpeg.encode_jpeg(pixels, quality=settings.jpeg_quality, colorspace="GRAY"))


def _gaze_track(gaze: Track, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    values = _evaluate_track(gaze, seconds)
    return np.full((len(seconds), 2), np.nan, np.float32) if values is None else values.astype(np.float32)


def _evaluate_track(values: Track, seconds: NDArray[np.float64]) -> NDArray[Any] | None:
    result = values(seconds) if callable(values) else values
    if result is not None and len(result) != len(seconds):
        raise DataError(f"expected one value for each of {len(seconds)} frames, got {len(result)}")
    return result


def _save(path: Path, values: NDArray[Any]) -> str:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return file_sha256(path)


def _replace_folder(partial: Path, folder: Path) -> None:
    if folder.exists():
        # a folder cannot be renamed onto one that is not empty: rename the old one first, then remove it
        old = folder.with_name(f"{PARTIAL_PREFIX}{folder.name}.old.{os.getpid()}")
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(folder)
    sync_folder(folder.parent)
