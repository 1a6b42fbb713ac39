"""The optional manifest.csv of an archive: one row per scan; only the column `scan` is required."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from usvs.archive.alignment import DEFAULT_ALIGNMENT, FULL_SCREEN, Alignment, GazeAlignment
from usvs.archive.csv_rows import CsvRow, check_spelling, describe_columns, open_csv
from usvs.errors import DataError
from usvs.media.box import Box

MANIFEST = "manifest.csv"
COMPANION_COLUMNS = ("sound", "gaze", "planes")  # paths of files that belong to the scan
# fmt: off
COLUMNS = (
    "scan", "patient", "split", "sector", *COMPANION_COLUMNS, "sound_offset_seconds", "sound_drift_ppm", "gaze_zero",
    "gaze_offset_seconds", "gaze_drift_ppm", "viewing_distance_mm", "screen_width_mm", "screen_height_mm",
    "screen_pixels", "picture_on_screen",
)
# fmt: on
MAX_DRIFT_PPM = 20_000.0  # 2 %; a clock that differs by more has another sample rate
MAX_NUMBER = 1e18


@dataclass(frozen=True)
class ManifestEntry:
    """What the manifest states about one scan; None for what it does not state.

    Attributes:
        patient: name or id of the patient.
        split: name of the owner's own split that the scan belongs to.
        sector: inscribed crop of the sector, in pixels.
        companions: paths of the audio, gaze and label files that are named, by column.
        alignment: of audio and gaze.
    """

    patient: str | None = None
    split: str | None = None
    sector: Box | None = None
    companions: Mapping[str, str] | None = None
    alignment: Alignment = DEFAULT_ALIGNMENT


EMPTY_ENTRY = ManifestEntry()  # of a scan that the manifest does not name


def read_manifest(path: Path) -> tuple[dict[str, ManifestEntry], frozenset[str]]:
    """Read a manifest.

    Args:
        path: manifest.csv; it need not exist.

    Returns:
        The entries by path of the scan, and the names of the columns that are present.

    Raises:
        DataError: for a column name that looks misspelt, and for an invalid value, with its line.
    """
    if not path.exists() and not path.is_symlink():
        return {}, frozenset()
    entries: dict[str, ManifestEntry] = {}
    with open_csv(path, MANIFEST) as file:
        columns = frozenset(file.columns)
        _check_columns(columns)
        for row in file.rows:
            if not row.values["scan"]:
                raise _invalid_value(row.line, "scan", "the path of a video in the archive", "")
            scan = _normalize_path(row.values["scan"])
            if scan in entries:
                raise DataError(f"{MANIFEST}, line {row.line}: scan '{scan}' is named twice: expected one row per scan")
            entries[scan] = _parse_row(row)
    return entries, columns


def _check_columns(columns: frozenset[str]) -> None:
    if "scan" not in columns:
        got = describe_columns(sorted(columns), COLUMNS)
        raise DataError(f"{MANIFEST}, line 1: column 'scan' is missing: expected a path in each row, got {got}")
    check_spelling(columns, COLUMNS, MANIFEST)


def _parse_row(row: CsvRow) -> ManifestEntry:
    values, line = row.values, row.line
    gaze = GazeAlignment(
        zero=_parse_number(row, "gaze_zero"),
        offset_seconds=_parse_number(row, "gaze_offset_seconds") or 0.0,
        drift_ppm=_parse_drift(row, "gaze_drift_ppm"),
        viewing_distance_mm=_parse_number(row, "viewing_distance_mm", above=0),
        screen_width_mm=_parse_number(row, "screen_width_mm", above=0),
        screen_height_mm=_parse_number(row, "screen_height_mm", above=0),
        picture=_parse_picture_on_screen(values, line),
    )
    alignment = Alignment(
        sound_offset_seconds=_parse_number(row, "sound_offset_seconds") or 0.0,
        sound_drift_ppm=_parse_drift(row, "sound_drift_ppm"),
        gaze=gaze,
    )
    companions = {column: _normalize_path(values[column]) for column in COMPANION_COLUMNS if values.get(column)}
    return ManifestEntry(
        patient=values.get("patient") or None,
        split=values.get("split") or None,
        sector=_parse_sector(values.get("sector", ""), line),
        companions=companions or None,
        alignment=alignment,
    )


def _parse_number(row: CsvRow, column: str, above: float | None = None) -> float | None:
    text = row.values.get(column, "")
    try:
        value = row.parse_number(column) if text else None
    except ValueError:
        value = float("nan")
    if value is not None and not (abs(value) < MAX_NUMBER and (above is None or value > above)):
        expected = "a number" if above is None else f"a number above {above:g}"
        raise _invalid_value(row.line, column, expected, text)
    return value


def _parse_drift(row: CsvRow, column: str) -> float:
    value = _parse_number(row, column) or 0.0
    if abs(value) > MAX_DRIFT_PPM:
        expected = f"parts per million from -{MAX_DRIFT_PPM:g} to {MAX_DRIFT_PPM:g}"
        raise _invalid_value(row.line, column, expected, row.values[column])
    return value


def _parse_sector(text: str, line: int) -> Box | None:
    if not text:
        return None
    sides = _split_numbers(text, 4)
    if sides is None or not all(side.is_integer() for side in sides) or not _is_box(sides):
        raise _invalid_value(line, "sector", '"left,top,right,bottom" in pixels', text)
    return Box(*(int(side) for side in sides))


def _parse_picture_on_screen(values: Mapping[str, str], line: int) -> tuple[float, float, float, float]:
    text, screen_text = values.get("picture_on_screen", ""), values.get("screen_pixels", "")
    if not text:
        return FULL_SCREEN
    sides, size = _split_numbers(text, 4), _split_numbers(screen_text.replace("x", ","), 2)
    if sides is None or not _is_box(sides):
        raise _invalid_value(line, "picture_on_screen", '"left,top,right,bottom" in screen pixels', text)
    if size is None or min(size) <= 0 or sides[2] > size[0] or sides[3] > size[1]:
        expected = '"width,height" of the screen that contains picture_on_screen'
        raise _invalid_value(line, "screen_pixels", expected, screen_text)
    return sides[0] / size[0], sides[1] / size[1], sides[2] / size[0], sides[3] / size[1]


def _split_numbers(text: str, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def _is_box(sides: list[float]) -> bool:
    left, top, right, bottom = sides
    return 0 <= left < right and 0 <= top < bottom


def _normalize_path(text: str) -> str:
    return str(PurePosixPath(text.strip().replace("\\", "/")))


def _invalid_value(line: int, column: str, expected: str, got: str) -> DataError:
    return DataError(f"{MANIFEST}, line {line}, column '{column}': expected {expected}, got '{got}'")
