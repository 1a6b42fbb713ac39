"""What the work on one prepared scan needs: the base of the tasks of `usvs prepare` and `usvs audit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, repr=False)  # no repr: names of the archive must not appear in the logs of a cluster
class ScanTask:
    """One scan of the catalogue.

    Attributes:
        archive: folder of the archive.
        prepared: folder of the prepared scans.
        row: of the catalogue.
    """

    archive: Path
    prepared: Path
    row: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of the prepared scan."""
        return self.prepared / str(self.row["scan_key"])
