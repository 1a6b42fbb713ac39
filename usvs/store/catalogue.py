"""The catalogue of a store, for reading: one row per scan and one per clip. Only it holds paths of the archive."""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from typing_extensions import Self

from usvs.archive.class_list import ClassRules
from usvs.store.folder import CATALOGUE, read_archive_path
from usvs.store.settings import ClipSettings
from usvs.store.tables import map_clips, read_class_rules_of, read_clip_settings, read_scans

OK, SKIPPED = "ok", "skipped"  # values of the column `status`; `reason` says why a scan is skipped


@dataclass(frozen=True)
class Catalogue:
    """The tables that `index_archive` writes.

    Attributes:
        scans: one row per scan, with the columns of `usvs.store.tables.SCAN_SCHEMA`.
        clips: one row per clip: ``scan`` (a row of `scans`), ``start_seconds`` and ``speech_fraction``. The columns are
            memory-mapped: they are read from disk when they are used.
        clip_settings: how the scans were cut into clips.
        class_rules: order and spelling of the classes of labels.
    """

    scans: pa.Table
    clips: pa.Table
    clip_settings: ClipSettings
    class_rules: ClassRules = field(default_factory=ClassRules)

    @property
    def paths(self) -> dict[str, str]:
        """Path in the archive of each scan, by its key."""
        return dict(zip(*(self.scans[name].to_pylist() for name in ("scan_key", "path")), strict=True))

    @classmethod
    def load(cls, store: str | Path) -> Self:
        """Read the catalogue of a store, and compare its files with their hashes.

        Raises:
            DataError: if there is none, or it is damaged or of another version.
        """
        store = Path(store)
        read_archive_path(store, must_exist=False)
        folder = store / CATALOGUE
        return cls(read_scans(folder), map_clips(folder), read_clip_settings(folder), read_class_rules_of(folder))
