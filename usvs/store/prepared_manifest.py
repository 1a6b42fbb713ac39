"""The manifest of a prepared scan: how it was made, and the hashes of its files. It is written last."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from usvs.archive.alignment import Alignment
from usvs.errors import DataError
from usvs.store.settings import PrepareSettings
from usvs.utils.regular_files import read_regular

MANIFEST_FILE = "manifest.json"
VERSION: Literal[2] = 2  # 2: sizes of the files, checksums of speech and of the manifest itself
PREPARE = "run 'usvs prepare'"


class FileState(BaseModel):
    """Size and modification time of the video, and of its companion files, when they were read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    modified_ns: int
    beside: dict[str, tuple[int, int]] = {}  # of companion files, by kind (sound, gaze, planes): bytes, modified_ns


class PreparedManifest(BaseModel):
    """Content and source of a prepared scan, the settings it was made with, and the SHA-256 of each of its files.

    Attributes:
        sector: the inscribed crop of the picture: left, top, right, bottom (exclusive) in pixels.
        geometry: of the sector, where the frames show another crop than the inscribed one; None if unknown.
        speech_samples: length of the speech; None without sound.
        bytes: size of each file.
        sha256: SHA-256 of each file.
        checksum: SHA-256 of the manifest's other values, see `seal`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = VERSION
    scan_key: str
    patient_key: str | None
    codec: Literal["jpeg", "raw"]
    frame_pixels: int
    frames: int
    duration_seconds: float
    rate_hz: float
    sector: tuple[int, int, int, int]
    geometry: str | None = None
    source: FileState
    source_sha256: str | None = None
    alignment: Alignment = Alignment()
    gaze_degree: tuple[float, float] | None = (
        None  # one degree of visual angle, as fractions of the frame's width and height
    )
    settings: PrepareSettings
    speech_samples: int | None = None
    bytes: dict[str, int]
    sha256: dict[str, str]
    usvs: str
    checksum: str = ""

    @model_serializer(mode="wrap")
    def _omit_inscribed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the values; of the inscribed crop as before there was another, so that older checksums stay valid."""
        values: dict[str, Any] = handler(self)
        if self.settings.crop == "inscribed":
            del values["geometry"], values["settings"]["crop"]
        return values

    def seal(self) -> "PreparedManifest":
        """Return the manifest with its checksum."""
        return self.model_copy(update={"checksum": self._checksum()})

    def _checksum(self) -> str:
        return sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> "PreparedManifest":
        """Read the manifest of a prepared scan.

        Raises:
            DataError: if there is none, or it is damaged or of another version.
        """
        try:
            content = read_regular(folder / MANIFEST_FILE)
        except OSError:
            raise DataError(f"'{folder.name}' is not a prepared scan: it has no {MANIFEST_FILE}; {PREPARE}") from None
        try:
            manifest = cls.model_validate_json(content)
        except (ValidationError, RecursionError):
            raise DataError(_unreadable(folder, content)) from None
        if manifest.checksum != manifest._checksum():
            raise DataError(f"scan {folder.name}: {MANIFEST_FILE} is damaged; {PREPARE}")
        return manifest


def _unreadable(folder: Path, content: bytes) -> str:
    try:
        version = json.loads(content)["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version = None
    if isinstance(version, int) and version != VERSION:
        return f"scan {folder.name}: {MANIFEST_FILE}: expected version {VERSION}, got {version}; {PREPARE}"
    return f"scan {folder.name}: {MANIFEST_FILE} is damaged; {PREPARE}"
