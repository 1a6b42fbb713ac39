"""The index of a store's frames in the shared space of a run: made once, used by every search."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.errors import DataError
from usvs.inference.embedding_index import DESCRIPTION, EmbeddingIndex, build_index
from usvs.inference.frame_batches import open_store, store_batches
from usvs.store.prepared import PreparedStore
from usvs.tasks.fingerprint import store_sha256
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.training.checkpoint import MANIFEST, newest_checkpoint_folder
from usvs.utils.atomic_files import sync_files, writing
from usvs.utils.columns import ColumnWriter, map_column
from usvs.utils.folder_lock import FolderLock
from usvs.utils.hashing import file_sha256
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular_text

SEARCH = "search"  # folder in a run; the index of each store is in a folder of its store id
SCANS, SECONDS = "scans.npy", "seconds.npy"
PARTIAL = ".writing-"
VERSION = 2


class ScanIndex:
    """Embeddings of every `stride`-th frame of a store, with scan and time of each.

    Args:
        folder: that `open_scan_index` has written.
        store: whose frames they are.

    Attributes:
        index: of the embeddings.
        scan: [n] number of each frame's scan in the store.
        seconds: [n] time of each frame on the scan's clock.

    Raises:
        DataError: for a folder that is not a complete index.
    """

    def __init__(self, folder: Path, store: PreparedStore) -> None:
        self.store = store
        self.index: EmbeddingIndex = EmbeddingIndex(folder)
        try:
            self.scan: NDArray[np.int32] = map_column(folder / SCANS)
            self.seconds: NDArray[np.float64] = map_column(folder / SECONDS)
        except (OSError, ValueError) as error:
            raise DataError(f"index '{folder}': expected a complete index, got {error}; remove the folder") from None

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def open(cls, store: str | Path, run: str | Path, space: SharedSpace, stride: int) -> Self:
        """Open the index of a store in a run's folder; it is made where there is none, or the old one is out of date.

        Args:
            store: a prepared store.
            run: a pretraining run, or one of its checkpoints.
            space: of the run.
            stride: every `stride`-th frame of a scan is indexed.

        Raises:
            DataError: for a store that cannot be read.
            ConfigError: where another process is making an index in the run.
            ResourceError: where the disk is full or not writable.
        """
        opened, checkpoint = open_store(Path(store)), newest_checkpoint_folder(Path(run))
        parent = checkpoint.parent.parent / SEARCH
        folder = parent / f"{opened.store_id}_{stride}"
        description = {
            "version": VERSION,
            "store": store_sha256(opened),
            "run": file_sha256(checkpoint / MANIFEST),
            "stride": stride,
        }
        if _description(folder) == description:  # without the lock: several may search, also where nobody may write
            return cls(folder, opened)
        with writing(f"index '{folder}'"):
            make_private_folder(parent)
            lock = FolderLock(parent)
            try:
                if _description(folder) != description:
                    _build(parent, folder, opened, space, description)
            finally:
                lock.release()
        return cls(folder, opened)


def _description(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(read_regular_text(folder / DESCRIPTION))
    except (OSError, ValueError):
        return None
    return found


def _build(parent: Path, folder: Path, store: PreparedStore, space: SharedSpace, description: dict[str, Any]) -> None:
    """Embed all frames into files, sort them into cells, and replace the older index."""
    partial = parent / f"{PARTIAL}{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    make_private_folder(partial)
    flat = partial / "flat.npy"
    number_of = {key: number for number, key in enumerate(store.scans)}
    with (
        ColumnWriter(flat, np.float16) as embeddings,
        ColumnWriter(partial / SCANS, np.int32) as scans,
        ColumnWriter(partial / SECONDS, np.float64) as seconds,
    ):
        for batch in store_batches(store, int(description["stride"]), "embedding scans"):
            embeddings.append(space.embed_frames(batch.frames).astype(np.float16).reshape(-1))
            scans.append(np.full(len(batch.frames), number_of[batch.scan]))
            seconds.append(np.array(batch.seconds, np.float64))
    build_index(partial, map_column(flat).reshape(-1, space.width), description)
    flat.unlink()
    for name in (SCANS, SECONDS):
        (partial / name).chmod(0o600)
    sync_files(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
