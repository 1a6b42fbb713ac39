"""Prepared scans, for reading: frames, speech, gaze and labels at any time of a scan."""

import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from zlib import crc32

import numpy as np
import pyarrow as pa
import simplejpeg
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.store.catalogue import OK, Catalogue
from usvs.store.clips import ClipTable
from usvs.store.folder import PREPARED
from usvs.store.identity import read_store_id
from usvs.store.prepared_manifest import MANIFEST_FILE, PreparedManifest
from usvs.utils.columns import blocks, map_column
from usvs.utils.regular_files import check_regular
from usvs.utils.text import shell_command

MAX_OPEN_SCANS = 256  # one file handle each; the usual limit of a process is 1,024
PREPARE_AGAIN = "prepare the scan again: remove its folder in 'prepared', then run 'usvs prepare'"


class PreparedScan:
    """One prepared scan; its files are closed with the object.

    Args:
        folder: of the prepared scan.

    Attributes:
        manifest: how the scan was made, and the hashes of its files.
        scan_key: keyed hash of the scan's path in the archive.
        patient_key: keyed hash of the patient; None if unknown.
        frame_pixels: width and height of a frame.
        duration_seconds: of the scan.
        frame_seconds: increasing frame times in seconds from the start of the scan [n].

    Raises:
        DataError: if the folder is not a complete prepared scan.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest = PreparedManifest.load(folder)
        self._folder = folder
        self.scan_key = self.manifest.scan_key
        self.patient_key = self.manifest.patient_key
        self.frame_pixels = self.manifest.frame_pixels
        self.duration_seconds = self.manifest.duration_seconds
        self.frame_seconds: NDArray[np.float64] = self._load("frame_seconds.npy")
        self._offsets: NDArray[np.int64] = self._load("frame_offsets.npy")
        count, size = self.manifest.frames, self._open_frames()
        if len(self.frame_seconds) != count or len(self._offsets) != count + 1 or int(self._offsets[-1]) != size:
            raise DataError(
                f"scan {self.scan_key}: expected {count} frames in files of matching sizes; {PREPARE_AGAIN}"
            )
        self._speech: NDArray[np.int16] | None = self._load("speech.npy") if self.has_sound else None

    @property
    def has_sound(self) -> bool:
        """Whether the scan has sound."""
        return "speech.npy" in self.manifest.sha256

    @property
    def rate_hz(self) -> int:
        """Sampling rate of the speech in Hz."""
        return self.manifest.settings.rate_hz

    @cached_property
    def gaze(self) -> NDArray[np.float32]:
        """Mean gaze x, y of each frame as fractions of its width and height [n, 2]; NaN without gaze."""
        return self._load("gaze.npy")

    @property
    def gaze_degree(self) -> tuple[float, float] | None:
        """One degree of visual angle as fractions of the frame's width and height; None without gaze."""
        return self.manifest.gaze_degree

    @cached_property
    def planes(self) -> NDArray[np.int16] | None:
        """Label of each frame, -1 for an unlabelled one [n]; None without labels."""
        return self._load("planes.npy") if "planes.npy" in self.manifest.sha256 else None

    def frames(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the frames with these indices [k, P, P]; errors as of `read_frames`."""
        frames = np.empty((len(indices), self.frame_pixels, self.frame_pixels), np.uint8)
        self.read_frames(indices, list(frames))
        return frames

    @cached_property
    def _checksums(self) -> NDArray[np.uint32]:
        return self._load("frame_crc32.npy")

    def read_frames(self, indices: NDArray[np.integer], targets: Sequence[NDArray[np.uint8]]) -> None:
        """Decode frames into given arrays; an index that occurs several times is decoded once.

        Args:
            indices: of frames [k].
            targets: k arrays [P, P] that are filled.

        Raises:
            DataError: for an index out of range, or a frame that is damaged on disk.
        """
        first_position: dict[int, int] = {}
        for position, index in enumerate(np.asarray(indices).tolist()):
            if (first := first_position.setdefault(index, position)) == position:
                self._decode(index, targets[position])
            else:
                targets[position][:] = targets[first]

    def read_encoded(self, indices: NDArray[np.integer]) -> list[NDArray[np.uint8]]:
        """Return frames as they are stored: k JPEG files, or with the codec `raw` k arrays [P, P].

        Their checksums are verified, because a decoder may decode a damaged file without an error.

        Raises:
            DataError: for an index out of range, or a frame that is damaged on disk.
        """
        return [self._encoded(index) for index in np.asarray(indices).tolist()]

    def nearest_frames(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index of the frame nearest to each time [k]; of two equally near ones, the earlier."""
        times = self.frame_seconds
        after = np.clip(np.searchsorted(times, seconds), 1, max(1, len(times) - 1))
        before = after - 1
        after = np.minimum(after, len(times) - 1)
        nearest = np.where(times[after] - seconds < seconds - times[before], after, before)
        return nearest.astype(np.int64)

    def speech(self, start_seconds: float, samples: int) -> NDArray[np.int16]:
        """Return speech [samples] from the sample nearest to `start_seconds`, as a read-only view.

        The last clip may end up to a frame after the scan (see `clip_count`); then the last `samples` are returned.

        Raises:
            DataError: if the scan has no sound, or the interval is further outside the scan.
        """
        if self._speech is None:
            raise DataError(f"scan {self.scan_key} has no sound")
        first = round(start_seconds * self.rate_hz)
        if 0 < first + samples - len(self._speech) < self._frame_interval_seconds * self.rate_hz:
            first = len(self._speech) - samples
        if first < 0 or first + samples > len(self._speech):
            end_seconds, length_seconds = start_seconds + samples / self.rate_hz, len(self._speech) / self.rate_hz
            raise DataError(
                f"scan {self.scan_key}: expected speech between 0 s and {length_seconds:.3f} s, "
                f"got {start_seconds:.3f} s to {end_seconds:.3f} s"
            )
        return self._speech[first : first + samples]

    @property
    def _frame_interval_seconds(self) -> float:
        return 1 / self.manifest.rate_hz if self.manifest.rate_hz > 0 else self.duration_seconds

    def __reduce__(self) -> tuple[type["PreparedScan"], tuple[Path]]:
        return type(self), (self._folder,)

    def _decode(self, index: int, target: NDArray[np.uint8]) -> None:
        start, length = self._byte_range(index)
        try:
            if self.manifest.codec == "raw":
                is_complete = os.preadv(self._frames_file, [target.data], start) == target.nbytes
            else:
                content = os.pread(self._frames_file, length, start)
                is_complete = simplejpeg.decode_jpeg(content, "GRAY", buffer=target).shape == (*target.shape, 1)
        except (ValueError, OSError):
            is_complete = False
        if not is_complete:
            raise self._damaged_frame_error(index)

    def _encoded(self, index: int) -> NDArray[np.uint8]:
        start, length = self._byte_range(index)
        content = os.pread(self._frames_file, length, start)
        if crc32(content) != self._checksums[index]:
            raise self._damaged_frame_error(index)
        encoded = np.frombuffer(content, np.uint8)
        return encoded.reshape(self.frame_pixels, -1) if self.manifest.codec == "raw" else encoded

    def _byte_range(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self.frame_seconds):
            raise DataError(
                f"scan {self.scan_key}: expected a frame index below {len(self.frame_seconds)}, got {index}"
            )
        start, end = self._offsets[index : index + 2].tolist()
        return start, end - start

    def _damaged_frame_error(self, index: int) -> DataError:
        return DataError(f"scan {self.scan_key}: prepared frame {index} is damaged; {PREPARE_AGAIN}")

    def _open_frames(self) -> int:
        try:
            check_regular(self._folder / "frames.bin")
            self._frames_file = os.open(self._folder / "frames.bin", os.O_RDONLY)
        except OSError:
            return -1
        weakref.finalize(self, os.close, self._frames_file)
        return os.fstat(self._frames_file).st_size

    def _load(self, name: str) -> NDArray:  # type: ignore[type-arg]
        try:
            return map_column(self._folder / name)
        except (OSError, ValueError):
            raise DataError(f"scan {self.scan_key}: {name} is missing or damaged; {PREPARE_AGAIN}") from None


class PreparedStore:
    """All prepared scans of a store, in the order of the catalogue.

    Args:
        store: a folder made by `index_archive` and `prepare_store`.

    Attributes:
        scans: keys of the prepared scans [S]; the index of a scan is its position here.
        clips: their clips.

    Raises:
        DataError: if `store` is not a store, or none of its scans is prepared.
    """

    def __init__(self, store: str | Path) -> None:
        self.store = Path(store)
        catalogue = Catalogue.load(self.store)
        self._folder = self.store / PREPARED
        ready = {entry.name for entry in os.scandir(self._folder)} if self._folder.is_dir() else set()
        keys, statuses = (catalogue.scans[name].to_pylist() for name in ("scan_key", "status"))
        rows = [
            row
            for row, (key, status) in enumerate(zip(keys, statuses, strict=True))
            if status == OK and key in ready and os.path.exists(f"{self._folder}/{key}/{MANIFEST_FILE}")  # noqa: PTH110
        ]
        if not rows:
            raise DataError(f"store '{store}' has no prepared scan; run: {shell_command('usvs', 'prepare', store)}")
        self.scans: tuple[str, ...] = tuple(keys[row] for row in rows)
        self.clips = _clip_table(catalogue, np.array(rows))
        self._open: OrderedDict[int, PreparedScan] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def store_id(self) -> str:
        """The id of the store: keys can be compared within one store id only."""
        return read_store_id(self.store)

    def scan(self, index: int) -> PreparedScan:
        """Return a prepared scan; the most recently used ones stay open."""
        with self._lock:
            found = self._open.get(index)
            if found is not None:
                self._open.move_to_end(index)
                return found
        opened = PreparedScan(
            self._folder / self.scans[index]
        )  # without the lock: a slow disk must not block other threads
        with self._lock:
            found = self._open.setdefault(index, opened)
            if len(self._open) > MAX_OPEN_SCANS:
                self._open.popitem(last=False)
            return found

    def __reduce__(self) -> tuple[type["PreparedStore"], tuple[Path]]:
        return type(self), (self.store,)


def _clip_table(catalogue: Catalogue, rows: NDArray[np.int64]) -> ClipTable:
    """Return the clips of the scans in some rows of the catalogue; scans are renumbered by their position in `rows`."""
    patients = catalogue.scans["patient_key"].take(pa.array(rows)).combine_chunks().dictionary_encode()
    scan, start, fraction = (catalogue.clips[name].to_numpy() for name in ("scan", "start_seconds", "speech_fraction"))
    all_scans = np.arange(catalogue.scans.num_rows, dtype=np.int32)
    groups = patients.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    table = ClipTable(scan, start, fraction, np.zeros(len(all_scans), np.int32))
    if len(rows) == len(all_scans):
        return replace(table, scan_patient=groups)
    new_index = np.full(len(all_scans), -1, np.int32)
    new_index[rows] = np.arange(len(rows), dtype=np.int32)
    kept = table.of_scans(new_index >= 0)
    for block in blocks(len(kept)):
        kept.scan[block] = new_index[kept.scan[block]]
    return replace(kept, scan_patient=groups)
