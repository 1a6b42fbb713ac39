"""The prepared store, for reading: its scans, its clips, and the checks of both."""

import logging
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from usvs.errors import ConfigError, DataError
from usvs.store.catalogue import OK, Catalogue
from usvs.store.clips import ClipTable
from usvs.store.folder import PREPARED
from usvs.store.identity import read_store_id
from usvs.store.prepare_failures import read_failures
from usvs.store.prepared_manifest import PREPARE, PreparedManifest
from usvs.store.prepared_scan import FrameMemory, PreparedScan
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.store.staleness import OTHER_SETTINGS, STATE_COLUMNS, stale_reason
from usvs.store.store_labels import StoreLabels
from usvs.utils.columns import blocks
from usvs.utils.text import quantity, shell_command

logger: logging.Logger = logging.getLogger(__name__)

MAX_OPEN_SCANS = 256  # one file handle each; the usual limit of a process is 1,024
KEPT_FRAMES_BYTES = 160 << 20  # of decoded frames, in each process: 30,000 of the quick profile, 2,400 of the paper's


class PreparedStore:
    """All prepared scans of a store, in the order of the catalogue.

    Args:
        store: a folder made by `index_archive` and `prepare_store`.
        check_scans: compare each prepared scan with the catalogue now. False: when the scan is opened.

    Attributes:
        scans: keys of the prepared scans [S]; the index of a scan is its position here.
        clips: their clips.
        labels: class lists of the label columns, and the labels of each scan.
        clip_settings: how the scans were cut into clips.

    Raises:
        DataError: if `store` is not a store, none of its scans is prepared, or a usable scan is not prepared or out of
            date. Scans that `prepare_store` reported as failed are left out.
    """

    def __init__(self, store: str | Path, check_scans: bool = True) -> None:
        self.store: Path = Path(store)
        catalogue = Catalogue.load(self.store)
        self._folder = self.store / PREPARED
        failed = read_failures(self.store)
        keys, statuses = (catalogue.scans[name].to_pylist() for name in ("scan_key", "status"))
        usable = [row for row, status in enumerate(statuses) if status == OK]
        rows = [row for row in usable if keys[row] not in failed]
        command = shell_command("usvs", "prepare", store)
        if not rows or not self._folder.is_dir() or not any(self._folder.iterdir()):
            raise DataError(f"store '{store}' has no prepared scan; run: {command}")
        self.scans: tuple[str, ...] = tuple(keys[row] for row in rows)
        self._states = catalogue.scans.select(STATE_COLUMNS).take(pa.array(rows))
        self._settings: PrepareSettings | None = None  # those of the first scan that is opened
        if check_scans:
            self._check_scans(command)
            if left_out := len(usable) - len(rows):
                logger.warning(
                    f"store '{store}': {left_out} of {quantity(len(usable), 'usable scan')} could not be prepared and "
                    f"{'is' if left_out == 1 else 'are'} not used; to see why, run: {command}"
                )
        labels = catalogue.scans["labels"].take(pa.array(usable)).to_pylist()
        number_of = {row: number for number, row in enumerate(usable)}
        self.labels: StoreLabels = StoreLabels(labels, [number_of[row] for row in rows], catalogue.class_rules)
        self.clips: ClipTable = _clip_table(catalogue, np.array(rows))
        self.clip_settings: ClipSettings = catalogue.clip_settings
        self._open: OrderedDict[int, PreparedScan] = OrderedDict()
        # Of scans that are closed and opened again nothing is kept.
        self._memory = FrameMemory(KEPT_FRAMES_BYTES) if len(rows) <= MAX_OPEN_SCANS else None
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
        # without the lock: a slow disk must not block other threads
        opened = PreparedScan(self._folder / self.scans[index], self._memory)
        row = self._states.slice(index, 1).to_pylist()[0]
        if reason := stale_reason(opened.manifest, row) or self._other_settings(opened.manifest):
            raise DataError(f"scan {opened.scan_key}: {reason}; {PREPARE}")
        with self._lock:
            found = self._open.setdefault(index, opened)
            if len(self._open) > MAX_OPEN_SCANS:
                self._open.popitem(last=False)
            return found

    def _other_settings(self, manifest: PreparedManifest) -> str | None:
        self._settings = self._settings or manifest.settings
        return None if manifest.settings == self._settings else OTHER_SETTINGS

    def _check_scans(self, command: str) -> None:
        problems = []
        for row in self._states.to_pylist():
            folder = self._folder / str(row["scan_key"])
            try:
                manifest = PreparedManifest.load(folder)
                if reason := stale_reason(manifest, row) or self._other_settings(manifest):
                    problems.append(f"scan {folder.name}: {reason}")
            except DataError as error:
                problems.append(str(error).removesuffix(f"; {PREPARE}"))
        if problems:
            raise DataError(
                f"store '{self.store}': {len(problems)} of {quantity(len(self.scans), 'scan')} are not prepared or not "
                f"up to date ({problems[0]}); run: {command}"
            )

    def __reduce__(self) -> tuple[type["PreparedStore"], tuple[Path, bool]]:
        return type(self), (self.store, False)


def warn_of_other_crop(store: PreparedStore) -> None:
    """Warn where frames show another crop than the inscribed one, which is what models see of pictures and videos."""
    crop = store.scan(0).manifest.settings.crop
    if crop != "inscribed":
        logger.warning(
            f"store '{store.store}' has frames with crop={crop}: predict with this model from stores prepared alike;"
            " of image and video files it is shown the inscribed crop, which it was not trained on"
        )


def check_clip_length(store: PreparedStore, clips: ClipSettings) -> None:
    """Check that samples are drawn from the clips that the store was cut into.

    Raises:
        ConfigError: where the lengths differ.
    """
    cut = store.clip_settings.clip_seconds
    if clips.clip_seconds != cut:
        again = shell_command(
            "usvs", "index", "ARCHIVE", store.store, "--set", f"clips.clip_seconds={clips.clip_seconds}"
        )
        raise ConfigError(
            f"clips.clip_seconds: expected {cut}, the length of the clips in store '{store.store}', got "
            f"{clips.clip_seconds}; use --set clips.clip_seconds={cut}, or cut the archive again, run: {again}"
        )


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
