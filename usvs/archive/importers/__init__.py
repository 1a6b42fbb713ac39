"""Importers of published image sets: each writes an archive that `usvs index` reads.

To add one, write a module here with a function ``(source, archive, label_map) -> ImportSummary`` and add it to
`IMPORTERS`. The command line lists it as ``usvs import NAME SOURCE ARCHIVE``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from usvs.errors import ConfigError
from usvs.utils.text import printable


@dataclass(frozen=True)
class ImportSummary:
    """What was imported.

    Attributes:
        images: number of images.
        patients: number of patients.
        videos: number of videos written.
        planes: number of images by the plane that they are labelled as, ``unlabelled`` among them.
    """

    images: int
    patients: int
    videos: int
    planes: dict[str, int]

    def __str__(self) -> str:
        """Return two lines for a terminal."""
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.planes.items()))
        return (
            f"import: {self.images} images of {self.patients} patients in {self.videos} lossless videos\n"
            f"  images by plane: {printable(counts)}; fine-tune with --set temporal_stride=1"
        )


class ImportFunction(Protocol):
    """Writes an image set as an archive."""

    def __call__(
        self, source: str | Path, archive: str | Path, label_map: Mapping[str, str | None] | None = None
    ) -> ImportSummary:
        """Import a set.

        Args:
            source: the unpacked set; only read.
            archive: a new folder.
            label_map: plane for labels of the set, replacing the importer's own; None leaves a label out.
        """
        ...


@dataclass(frozen=True)
class Importer:
    """One importer, loaded when it is used.

    Attributes:
        description: one line for ``usvs import --help``.
        module: module that defines the function.
        function: name of the function.
    """

    description: str
    module: str
    function: str

    def load(self) -> ImportFunction:
        """Import the module and return the function."""
        return cast(ImportFunction, getattr(import_module(self.module), self.function))


IMPORTERS = {
    "fetal-planes": Importer(
        "FETAL_PLANES_DB and the African planes set: a csv and a folder of images",
        "usvs.archive.importers.fetal_planes",
        "import_fetal_planes",
    ),
}


def parse_label_map(pairs: list[str]) -> dict[str, str | None]:
    """Parse ``LABEL=PLANE`` texts; an empty plane leaves the label out.

    Raises:
        ConfigError: for a text without an equals sign.
    """
    parts = [text.partition("=") for text in pairs]
    invalid = [text for text, (_, equals, _) in zip(pairs, parts, strict=True) if not equals]
    if invalid:
        raise ConfigError(f"--map: expected LABEL=PLANE, with an empty plane to leave a label out, got '{invalid[0]}'")
    return {label.strip(): plane.strip() or None for label, _, plane in parts}
