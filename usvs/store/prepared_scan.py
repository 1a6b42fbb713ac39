"""One prepared scan, for reading: frames, speech, gaze and labels at any time of it."""

import os
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.store.prepared_manifest import PREPARE, PreparedManifest
from usvs.store.writer import SPEECH_BLOCK
from usvs.utils.columns import map_column
from usvs.utils.hashing import file_sha256
from usvs.utils.regular_files import check_regular


class FrameMemory:
    """How many bytes of decoded frames the scans of a store may keep: an epoch reads each frame again.

    Args:
        limit_bytes: of all scans together. What has been kept stays; further frames are decoded at each use.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes

    def take(self, count: int) -> bool:
        """Return whether this many bytes were left."""
        self._left -= count
        return self._left >= 0


class PreparedScan:
    """One prepared scan; its files are closed with the object.

    Everything that is read is compared with a checksum: columns with their SHA-256 when they are opened, frames and
    speech with CRC-32s of each frame and of each block of speech.

    Args:
        folder: of the prepared scan.
        memory: of decoded frames; None: none is kept.

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

    def __init__(self, folder: Path, memory: FrameMemory | None = None) -> None:
        self._memory = memory
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self.manifest: PreparedManifest = PreparedManifest.load(folder)
        self._folder = folder
        self.scan_key: str = self.manifest.scan_key
        self.patient_key: str | None = self.manifest.patient_key
        self.frame_pixels: int = self.manifest.frame_pixels
        self.duration_seconds: float = self.manifest.duration_seconds
        if folder.name != self.scan_key:
            raise DataError(f"scan {folder.name}: its manifest is of scan {self.scan_key}; {PREPARE}")
        self.frame_seconds: NDArray[np.float64] = self._load("frame_seconds.npy")
        self._offsets: NDArray[np.int64] = self._load("frame_offsets.npy")
        self._checksums: NDArray[np.uint32] = self._load("frame_crc32.npy")
        count, size = self.manifest.frames, self._open_frames()
        if len(self.frame_seconds) != count or len(self._offsets) != count + 1 or int(self._offsets[-1]) != size:
            raise DataError(f"scan {self.scan_key}: expected {count} frames in files of matching sizes; {PREPARE}")
        self._speech: NDArray[np.int16] | None = self._open_speech() if self.has_sound else None

    @property
    def has_sound(self) -> bool:
        """Whether the scan has sound."""
        return self.manifest.speech_samples is not None

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
                self._read_frame(index, targets[position])
            else:
                targets[position][:] = targets[first]

    def read_encoded(self, indices: NDArray[np.integer]) -> list[NDArray[np.uint8]]:
        """Return frames as they are stored: k JPEG files, or with the codec `raw` k arrays [P, P].

        Raises:
            DataError: for an index out of range, or a frame that is damaged on disk.
        """
        return [self._encoded(index) for index in np.asarray(indices).tolist()]

    def nearest_frames(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index of the frame nearest to each time [k]; of two equally near ones, the earlier."""
        times = self.frame_seconds
        after = np.minimum(np.maximum(np.searchsorted(times, seconds), 1), max(1, len(times) - 1))
        before = after - 1
        after = np.minimum(after, len(times) - 1)
        nearest = np.where(times[after] - seconds < seconds - times[before], after, before)
        return nearest.astype(np.int64)

    @property
    def speech_samples(self) -> int:
        """Number of samples of the scan's sound; 0 without sound."""
        return 0 if self._speech is None else len(self._speech)

    def speech(self, start_seconds: float, samples: int) -> NDArray[np.int16]:
        """Return speech [samples] from the sample nearest to `start_seconds`, as a read-only view.

        The last clip may end up to a frame after the scan (see `clip_count`); then the last `samples` are returned.

        Raises:
            DataError: if the scan has no sound, the interval is further outside the scan, or its speech is damaged.
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
        self._verify_speech(first, first + samples)
        return self._speech[first : first + samples]

    def _verify_speech(self, first: int, end: int) -> None:
        """Compare the blocks of speech that hold these samples with their checksums, each once."""
        assert self._speech is not None
        for block in range(first // SPEECH_BLOCK, -(-end // SPEECH_BLOCK)):
            if not self._verified[block]:
                if (
                    crc32(self._speech[block * SPEECH_BLOCK : (block + 1) * SPEECH_BLOCK].data)
                    != self._speech_crc32[block]
                ):
                    raise DataError(
                        f"scan {self.scan_key}: speech.npy is damaged at {block * SPEECH_BLOCK / self.rate_hz:.1f} s;"
                        f" {PREPARE}"
                    )
                self._verified[block] = True

    def _open_speech(self) -> NDArray[np.int16]:
        speech: NDArray[np.int16] = self._load("speech.npy", verify=False)  # may be long: verified where it is read
        self._speech_crc32: NDArray[np.uint32] = self._load("speech_crc32.npy")
        if speech.dtype != np.int16 or speech.shape != (self.manifest.speech_samples,):
            raise DataError(f"scan {self.scan_key}: speech.npy is damaged; {PREPARE}")
        self._verified = np.zeros(len(self._speech_crc32), np.bool_)
        return speech

    @property
    def _frame_interval_seconds(self) -> float:
        return 1 / self.manifest.rate_hz if self.manifest.rate_hz > 0 else self.duration_seconds

    def __reduce__(self) -> tuple[type["PreparedScan"], tuple[Path]]:
        return type(self), (self._folder,)

    def _read_frame(self, index: int, target: NDArray[np.uint8]) -> None:
        kept = self._kept.get(index)
        if kept is not None:
            target[:] = kept
            return
        self._decode(index, target)
        if self._memory is not None and self.manifest.codec != "raw" and self._memory.take(target.nbytes):
            self._kept[index] = target.copy()

    def _decode(self, index: int, target: NDArray[np.uint8]) -> None:
        start, length = self._byte_range(index)
        try:
            if self.manifest.codec == "raw":
                is_complete = os.preadv(self._frames_file, [target.data], start) == target.nbytes == length
                is_complete = is_complete and crc32(target.data) == self._checksums[index]
            else:
                content = self._read_content(index, start, length)
                is_complete = simplejpeg.decode_jpeg(content, "GRAY", buffer=target).shape == (*target.shape, 1)
        except (ValueError, OSError):
            is_complete = False
        if not is_complete:
            raise self._damaged_frame_error(index)

    def _encoded(self, index: int) -> NDArray[np.uint8]:
        start, length = self._byte_range(index)
        content = self._read_content(index, start, length)
        encoded = np.frombuffer(content, np.uint8)
        return encoded.reshape(self.frame_pixels, -1) if self.manifest.codec == "raw" else encoded

    def _read_content(self, index: int, start: int, length: int) -> bytes:
        """Read a frame as it is stored; a decoder may decode a damaged one without an error."""
        content = os.pread(self._frames_file, length, start)
        if crc32(content) != self._checksums[index]:
            raise self._damaged_frame_error(index)
        return content

    def _byte_range(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self.frame_seconds):
            raise DataError(
                f"scan {self.scan_key}: expected a frame index below {len(self.frame_seconds)}, got {index}"
            )
        start, end = self._offsets[index : index + 2].tolist()
        return start, end - start

    def _damaged_frame_error(self, index: int) -> DataError:
        return DataError(f"scan {self.scan_key}: prepared frame {index} is damaged; {PREPARE}")

    def _open_frames(self) -> int:
        try:
            check_regular(self._folder / "frames.bin")
            self._frames_file = os.open(self._folder / "frames.bin", os.O_RDONLY)
        except OSError:
            return -1
        weakref.finalize(self, os.close, self._frames_file)
        return os.fstat(self._frames_file).st_size

    def _load(self, name: str, verify: bool = True) -> NDArray:  # type: ignore[type-arg]
        path = self._folder / name
        try:
            if verify and file_sha256(path) != self.manifest.sha256.get(name):
                raise ValueError("expected the SHA-256 of the manifest")
            return map_column(path)
        except (OSError, ValueError):
            raise DataError(f"scan {self.scan_key}: {name} is missing or damaged; {PREPARE}") from None
