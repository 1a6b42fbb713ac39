"""The manifest of a prepared scan: how it was made, and the hashes of its files. It is written last."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from usvs.archive.alignment import Alignment
from usvs.errors import DataError
from usvs.store.settings import PrepareSettings
from usvs.utils.regular_files import read_regular

MANIFEST_FILE = "manifest.json"
VERSION: Literal[1] = 1


class FileState(BaseModel):
    """Size and modification time of the video, and of its companion files, when they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    modified_ns: int
    beside: dict[str, tuple[int, int]] = {}  # of companion files, by kind (sound, gaze, planes): bytes, modified_ns


class PreparedManifest(BaseModel):
    """Content and source of a prepared scan, the settings it was made with, and the SHA-256 of each of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    scan_key: str
    patient_key: str | None
    codec: Literal["jpeg", "raw"]
    frame_pixels: int
    frames: int
    duration_seconds: float
    rate_hz: float
    sector: tuple[int, int, int, int]
    source: FileState
    source_sha256: str | None = None
    alignment: Alignment = Alignment()
    gaze_degree: tuple[float, float] | None = (
        None  # one degree of visual angle, as fractions of the frame's width and height
    )
    settings: PrepareSettings
    sha256: dict[str, str]
    usvs: str

    @classmethod
    def load(cls, folder: Path) -> "PreparedManifest":
        """Read the manifest of a prepared scan.

        Raises:
            DataError: if there is none, or it is damaged or of another version.
        """
        try:
            return cls.model_validate_json(read_regular(folder / MANIFEST_FILE))
        except OSError:
            raise DataError(f"'{folder.name}' is not a prepared scan: it has no {MANIFEST_FILE}") from None
        except ValidationError:
            raise DataError(f"scan {folder.name}: {MANIFEST_FILE} is damaged or of another version") from None
