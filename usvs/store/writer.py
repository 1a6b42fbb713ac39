"""Writing one prepared scan: into a temporary folder as frames come, synced, and named only when whole."""

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
Track = NDArray[Any] | Callable[[NDArray[np.float64]], NDArray[Any]] | None  # per frame, or made from the frame times
PARTIAL = ".partial."


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
) -> PreparedManifest:
    """Write a prepared scan so that a kill at any instant leaves the old one, the new one or none.

    Args:
        folder: where it shall lie; an older one there is replaced.
        scan_key: stands for the scan.
        patient_key: stands for its patient, None where that is not known.
        frames: seconds on the scan clock, rising, and gray pictures [P, P]; taken one by one, never held together.
        speech: int16 from t = 0 on, at `settings.rate_hz`; None without sound.
        gaze: x, y of each frame [n, 2], or a function that makes them from the frame times; None without gaze.
        planes: plane of each frame [n], likewise.
        settings: how frames are coded.
        sector: the box of the video picture that the frames show.
        source: the video file's bytes and modified_ns.
        duration_seconds: of the scan; None: the last frame lasts as long as frames do in the median.
        alignment: how sound and gaze were brought onto the video's clock and picture.
        gaze_degree: one degree of visual angle as shares of the frame's width and height; None without gaze.
        source_sha256: of the video file.

    Raises:
        DataError: for no frame at all, a picture of another size, times that do not rise, tracks of another length.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{folder.name}.", dir=folder.parent))
    try:
        seconds, hashes = _write_frames(partial, frames, settings, scan_key)
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
        columns: dict[str, NDArray[Any] | None] = {
            "frame_seconds.npy": seconds,
            "gaze.npy": _gaze(gaze, seconds),
            "planes.npy": _track(planes, seconds),
            "speech.npy": speech,
        }
        for name, values in columns.items():
            if values is not None:
                hashes[name] = _save(partial / name, values)
        manifest = PreparedManifest(
            scan_key=scan_key,
            patient_key=patient_key,
            codec=settings.codec,
            frame_pixels=settings.frame_pixels,
            frames=len(seconds),
            duration_seconds=float(seconds[-1]) + step if duration_seconds is None else duration_seconds,
            rate_hz=(len(seconds) - 1) / float(seconds[-1] - seconds[0]) if len(seconds) > 1 else 0.0,
            sector=(sector.left, sector.top, sector.right, sector.bottom) if isinstance(sector, Box) else sector,
            source=source if isinstance(source, FileState) else FileState.model_validate(source),
            source_sha256=source_sha256,
            alignment=alignment or Alignment(),
            gaze_degree=gaze_degree,
            settings=settings,
            sha256=hashes,
            usvs=usvs.__version__,
        )
        (partial / MANIFEST_FILE).write_bytes(manifest.model_dump_json(indent=1).encode())
        sync_files(partial)
        _take_place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def remove_partial(prepared: Path) -> None:
    """Remove what killed runs left behind; only for the holder of the store's lock."""
    for left in prepared.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def _write_frames(
    folder: Path, frames: Frames, settings: PrepareSettings, scan_key: str
) -> tuple[NDArray[np.float64], dict[str, str]]:
    side = settings.frame_pixels
    offsets, seconds, checks, digest = array("q", [0]), array("d"), array("I"), sha256()
    with (folder / "frames.bin").open("wb") as file:
        for moment, picture in frames:
            if picture.shape != (side, side):
                raise DataError(f"scan {scan_key}: expected frames of {side} x {side} pixels, got {picture.shape}")
            if seconds and moment <= seconds[-1]:
                raise DataError(f"scan {scan_key}: frame times do not rise at frame {len(seconds)}")
            content = _encoded(picture, settings)
            digest.update(content)
            checks.append(crc32(content))
            file.write(content)
            seconds.append(moment)
            offsets.append(offsets[-1] + len(content))
    if not seconds:
        raise DataError(f"scan {scan_key}: no frame could be decoded")
    hashes = {"frames.bin": digest.hexdigest()}
    hashes["frame_offsets.npy"] = _save(folder / "frame_offsets.npy", np.array(offsets, np.int64))
    hashes["frame_crc32.npy"] = _save(folder / "frame_crc32.npy", np.array(checks, np.uint32))
    return np.array(seconds, np.float64), hashes


def _encoded(picture: NDArray[np.uint8], settings: PrepareSettings) -> bytes:
    if settings.codec == "raw":
        return picture.tobytes()
    pixels = np.ascontiguousarray(picture)[:, :, None]
    return bytes(simplejpeg.encode_jpeg(pixels, quality=settings.jpeg_quality, colorspace="GRAY"))


def _gaze(gaze: Track, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    values = _track(gaze, seconds)
    return np.full((len(seconds), 2), np.nan, np.float32) if values is None else values.astype(np.float32)


def _track(values: Track, seconds: NDArray[np.float64]) -> NDArray[Any] | None:
    result = values(seconds) if callable(values) else values
    if result is not None and len(result) != len(seconds):
        raise DataError(f"expected one value for each of {len(seconds)} frames, got {len(result)}")
    return result


def _save(path: Path, values: NDArray[Any]) -> str:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return file_sha256(path)


def _take_place(partial: Path, folder: Path) -> None:
    if folder.exists():
        # a folder cannot be renamed onto a full one: the old one steps aside first, as something to be removed
        old = folder.with_name(f"{PARTIAL}{folder.name}.old.{os.getpid()}")
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(folder)
    sync_folder(folder.parent)
