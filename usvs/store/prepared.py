"""The prepared store: what a scan holds, ready to be read at random."""

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
from usvs.store.prepared_manifest import MANIFEST_FILE, PreparedManifest
from usvs.store.writer import write_prepared_scan
from usvs.utils.columns import blocks, map_column

__all__ = ["PreparedManifest", "PreparedScan", "PreparedStore", "write_prepared_scan"]

OPEN_SCANS = 256  # a file handle each; the usual limit of a process is 1,024


class PreparedScan:
    """One prepared scan; opened files go with the object.

    Attributes:
        frame_seconds: sorted frame times on the scan clock [n].
        gaze: mean gaze of each frame as shares of the picture, NaN where there is none [n, 2].
        planes: each frame's plane, -1 where it has no label [n]; None without labels.

    Raises:
        DataError: where the folder is not a whole prepared scan.
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
        count, size = self.manifest.frames, self._open_blob()
        if len(self.frame_seconds) != count or len(self._offsets) != count + 1 or int(self._offsets[-1]) != size:
            raise DataError(f"scan {self.scan_key}: the prepared files do not fit each other; prepare it again")
        self._speech: NDArray[np.int16] | None = self._load("speech.npy") if self.has_sound else None

    @property
    def has_sound(self) -> bool:
        """Whether there is speech to read."""
        return "speech.npy" in self.manifest.sha256

    @property
    def rate_hz(self) -> int:
        """Samples a second of the speech."""
        return self.manifest.settings.rate_hz

    @cached_property
    def gaze(self) -> NDArray[np.float32]:
        """Mean gaze of each frame as shares of the picture, NaN where there is none [n, 2]."""
        return self._load("gaze.npy")

    @property
    def gaze_degree(self) -> tuple[float, float] | None:
        """One degree of visual angle as shares of the frame's width and height; None without gaze."""
        return self.manifest.gaze_degree

    @cached_property
    def planes(self) -> NDArray[np.int16] | None:
        """Each frame's plane, -1 where it has no label [n]; None without labels."""
        return self._load("planes.npy") if "planes.npy" in self.manifest.sha256 else None

    def frames(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Read some frames [k, P, P]; errors as of `read_frames`."""
        frames = np.empty((len(indices), self.frame_pixels, self.frame_pixels), np.uint8)
        self.read_frames(indices, list(frames))
        return frames

    @cached_property
    def _checks(self) -> NDArray[np.uint32]:
        return self._load("frame_crc32.npy")

    def read_frames(self, indices: NDArray[np.integer], targets: Sequence[NDArray[np.uint8]]) -> None:
        """Read some frames into memory that is there, each decoded once however often it is asked for.

        Args:
            indices: numbers of frames [k].
            targets: k arrays [P, P] to be filled.

        Raises:
            DataError: for a frame that the scan does not have, or that is damaged on disk.
        """
        row_of: dict[int, int] = {}
        for row, index in enumerate(np.asarray(indices).tolist()):
            if (first := row_of.setdefault(index, row)) == row:
                self._decode(index, targets[row])
            else:
                targets[row][:] = targets[first]

    def read_encoded(self, indices: NDArray[np.integer]) -> list[NDArray[np.uint8]]:
        """Read some frames as they lie on disk: k JPEG files, or with the codec `raw` k pictures [P, P].

        Their checksums are looked at, since whoever decodes them may take damage for a picture.

        Raises:
            DataError: for a frame that the scan does not have, or that is damaged on disk.
        """
        return [self._encoded(index) for index in np.asarray(indices).tolist()]

    def nearest_frames(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the frame nearest to each moment [k]; the earlier one of two equally near."""
        times = self.frame_seconds
        after = np.clip(np.searchsorted(times, seconds), 1, max(1, len(times) - 1))
        before = after - 1
        after = np.minimum(after, len(times) - 1)
        nearer = np.where(times[after] - seconds < seconds - times[before], after, before)
        return nearer.astype(np.int64)

    def speech(self, start_seconds: float, samples: int) -> NDArray[np.int16]:
        """Return a piece of the speech [samples], from the sample nearest to `start_seconds` on; not to be written to.

        The last clip may end after the scan, by less than a frame (see `clip_count`); a piece that would is the last
        one that there is.

        Raises:
            DataError: without sound, and where the piece reaches further outside of it.
        """
        if self._speech is None:
            raise DataError(f"scan {self.scan_key} has no sound")
        first = round(start_seconds * self.rate_hz)
        if 0 < first + samples - len(self._speech) < self._frame_seconds * self.rate_hz:
            first = len(self._speech) - samples
        if first < 0 or first + samples > len(self._speech):
            held = len(self._speech) / self.rate_hz
            expected = f"{start_seconds:.3f} s to {start_seconds + samples / self.rate_hz:.3f} s"
            raise DataError(f"scan {self.scan_key}: speech from {expected} is asked for, it has 0 s to {held:.3f} s")
        return self._speech[first : first + samples]

    @property
    def _frame_seconds(self) -> float:
        return 1 / self.manifest.rate_hz if self.manifest.rate_hz > 0 else self.duration_seconds

    def __reduce__(self) -> tuple[type["PreparedScan"], tuple[Path]]:
        return type(self), (self._folder,)

    def _decode(self, index: int, target: NDArray[np.uint8]) -> None:
        start, length = self._place(index)
        try:
            if self.manifest.codec == "raw":
                whole = os.preadv(self._blob, [target.data], start) == target.nbytes
            else:
                content = os.pread(self._blob, length, start)
                whole = simplejpeg.decode_jpeg(content, "GRAY", buffer=target).shape == (*target.shape, 1)
        except (ValueError, OSError):
            whole = False
        if not whole:
            raise self._damaged(index)

    def _encoded(self, index: int) -> NDArray[np.uint8]:
        start, length = self._place(index)
        content = os.pread(self._blob, length, start)
        if crc32(content) != self._checks[index]:
            raise self._damaged(index)
        encoded = np.frombuffer(content, np.uint8)
        return encoded.reshape(self.frame_pixels, -1) if self.manifest.codec == "raw" else encoded

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self.frame_seconds):
            raise DataError(f"scan {self.scan_key}: frame {index} is asked for, it has {len(self.frame_seconds)}")
        start, end = self._offsets[index : index + 2].tolist()
        return start, end - start

    def _damaged(self, index: int) -> DataError:
        return DataError(f"scan {self.scan_key}: prepared frame {index} is damaged; prepare the scan again")

    def _open_blob(self) -> int:
        try:
            self._blob = os.open(self._folder / "frames.bin", os.O_RDONLY)
        except OSError:
            return -1
        weakref.finalize(self, os.close, self._blob)
        return os.fstat(self._blob).st_size

    def _load(self, name: str) -> NDArray:  # type: ignore[type-arg]
        try:
            return map_column(self._folder / name)
        except (OSError, ValueError):
            raise DataError(f"scan {self.scan_key}: {name} is missing or damaged; prepare the scan again") from None


class PreparedStore:
    """All prepared scans of a store, in the catalogue's order; a scan's number is its place in `scans`.

    Raises:
        DataError: where `store` is not a store or nothing in it is prepared.
    """

    def __init__(self, store: Path) -> None:
        catalogue = Catalogue.load(store)
        self.store = store
        self._folder = store / PREPARED
        ready = {entry.name for entry in os.scandir(self._folder)} if self._folder.is_dir() else set()
        keys, states = (catalogue.scans[name].to_pylist() for name in ("scan_key", "status"))
        rows = [
            row
            for row, (key, state) in enumerate(zip(keys, states, strict=True))
            if state == OK and key in ready and os.path.exists(f"{self._folder}/{key}/{MANIFEST_FILE}")  # noqa: PTH110
        ]
        if not rows:
            raise DataError(f"nothing in store '{store}' is prepared; run 'usvs prepare {store}'")
        self.scans: tuple[str, ...] = tuple(keys[row] for row in rows)
        self.clips = _clip_table(catalogue, np.array(rows))
        self._open: OrderedDict[int, PreparedScan] = OrderedDict()
        self._lock = Lock()

    def scan(self, index: int) -> PreparedScan:
        """Return a prepared scan; the last ones asked for stay open."""
        with self._lock:
            found = self._open.get(index)
            if found is not None:
                self._open.move_to_end(index)
                return found
        opened = PreparedScan(self._folder / self.scans[index])  # not under the lock: a disk may take its time
        with self._lock:
            found = self._open.setdefault(index, opened)
            if len(self._open) > OPEN_SCANS:
                self._open.popitem(last=False)
            return found

    def __reduce__(self) -> tuple[type["PreparedStore"], tuple[Path]]:
        return type(self), (self.store,)


def _clip_table(catalogue: Catalogue, rows: NDArray[np.int64]) -> ClipTable:
    """The clips of the scans in these rows of the catalogue, which are numbered anew."""
    patients = catalogue.scans["patient_key"].take(pa.array(rows)).combine_chunks().dictionary_encode()
    scan, start, fraction = (catalogue.clips[name].to_numpy() for name in ("scan", "start_seconds", "speech_fraction"))
    all_scans = np.arange(catalogue.scans.num_rows, dtype=np.int32)
    groups = patients.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    table = ClipTable(scan, start, fraction, np.zeros(len(all_scans), np.int32))
    if len(rows) == len(all_scans):
        return replace(table, scan_patient=groups)
    number = np.full(len(all_scans), -1, np.int32)
    number[rows] = np.arange(len(rows), dtype=np.int32)
    kept = table.of_scans(number >= 0)
    for block in blocks(len(kept)):
        kept.scan[block] = number[kept.scan[block]]
    return replace(kept, scan_patient=groups)
