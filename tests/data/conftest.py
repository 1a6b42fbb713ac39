"""A small store of prepared scans without an archive."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.labelled_stores import gaze_store, grating_store
from tests.support.pretraining_stores import store_writer
from usvs.store.clips import ClipTable
from usvs.store.prepared_scan import PreparedScan
from usvs.store.settings import PrepareSettings
from usvs.store.writer import write_prepared_scan

__all__ = ["gaze_store", "grating_store", "store_writer"]

RATE_HZ, FRAME_RATE_HZ = 24_000, 20


class SmallStore:
    """Prepared scans of smooth noise with sound, the last one without; clips of two seconds."""

    def __init__(self, folder: Path, side: int, codec: str, scans: int = 3, clips: int = 8) -> None:
        self.scans = tuple(f"{number:012x}" for number in range(scans))
        self.folder = folder
        rng = np.random.default_rng(side)
        for number, key in enumerate(self.scans):
            base = rng.integers(0, 256, (5, side, side)).astype(np.uint8)
            pictures = [cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in base]
            samples = rng.normal(0, 3000, 2 * clips * RATE_HZ).astype(np.int16)
            write_prepared_scan(
                folder / key,
                scan_key=key,
                patient_key=f"patient{number}",
                frames=((i / FRAME_RATE_HZ, pictures[i % 5]) for i in range(2 * clips * FRAME_RATE_HZ)),
                speech=None if number == scans - 1 else samples,
                gaze=None,
                planes=None,
                settings=PrepareSettings(frame_pixels=side, codec=codec),
                sector=(0, 0, side, side),
                source={"bytes": 1, "modified_ns": 1},
            )
        self.open_scans()
        fraction = np.full(scans * clips, 0.8, np.float32)
        fraction[(scans - 1) * clips :] = np.nan
        self.clips = ClipTable(
            scan=np.repeat(np.arange(scans, dtype=np.int32), clips),
            start_seconds=np.tile(2.0 * np.arange(clips), scans),
            speech_fraction=fraction,
            scan_patient=np.arange(scans, dtype=np.int32),
        )

    def open_scans(self) -> None:
        self._open = [PreparedScan(self.folder / key) for key in self.scans]

    def scan(self, index: int) -> PreparedScan:
        return self._open[index]


@pytest.fixture
def damaged_store(tmp_path: Path) -> SmallStore:
    """A store whose frames are damaged behind their headers."""
    store = SmallStore(tmp_path, 72, "jpeg")
    for key in store.scans:
        blob = tmp_path / key / "frames.bin"
        content = np.frombuffer(blob.read_bytes(), np.uint8).copy()
        offsets = np.load(tmp_path / key / "frame_offsets.npy")
        for start, end in pairwise(offsets):
            content[(start + end) // 2 : end - 2] = 0xFF
        blob.write_bytes(content.tobytes())
    store.open_scans()
    return store


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`small_store(side, codec)` makes a store once a session."""
    made: dict[tuple[int, str], SmallStore] = {}

    def make(side: int, codec: str) -> SmallStore:
        if (side, codec) not in made:
            made[side, codec] = SmallStore(tmp_path_factory.mktemp(f"{codec}{side}"), side, codec)
        return made[side, codec]

    return make
