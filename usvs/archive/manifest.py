"""The optional manifest.csv of an archive: what its owner says of the scans, a row a scan; only `scan` is needed."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from usvs.archive.alignment import AS_RECORDED, WHOLE_SCREEN, Alignment, GazeAlignment
from usvs.archive.csv_rows import CsvRow, open_csv
from usvs.errors import DataError
from usvs.media.box import Box

MANIFEST = "manifest.csv"
FILES = ("sound", "gaze", "planes")
# fmt: off
COLUMNS = (
    "scan", "patient", "split", "sector", *FILES, "sound_offset_seconds", "sound_drift_ppm", "gaze_zero",
    "gaze_offset_seconds", "gaze_drift_ppm", "viewing_distance_mm", "screen_width_mm", "screen_height_mm",
    "screen_pixels", "picture_on_screen",
)
# fmt: on
LARGEST_DRIFT_PPM = 20_000.0  # a sound that runs 2 % off is one of another rate


@dataclass(frozen=True)
class ManifestRow:
    """What the manifest says of one scan; None for what it leaves open.

    Attributes:
        patient: the archive's own name of the patient.
        split: the side of the owner's own split that the scan belongs to.
        sector: the inner box of the fan.
        beside: paths of the sound, gaze and planes files, where they are named.
        alignment: of sound and gaze.
    """

    patient: str | None = None
    split: str | None = None
    sector: Box | None = None
    beside: Mapping[str, str] | None = None
    alignment: Alignment = AS_RECORDED


UNNAMED = ManifestRow()  # of a scan that the manifest does not name


def read_manifest(path: Path) -> tuple[dict[str, ManifestRow], frozenset[str]]:
    """Return the rows by scan, and the columns that are there.

    Raises:
        DataError: for a column that looks misspelt, and for a value that is not what the column holds, with its line.
    """
    if not path.exists():
        return {}, frozenset()
    rows: dict[str, ManifestRow] = {}
    with open_csv(path, MANIFEST) as file:
        columns = frozenset(file.columns)
        _check_columns(columns)
        for row in file.rows:
            if not row.texts["scan"]:
                raise _wrong(row.line, "scan", "the path of a video in the archive", "")
            scan = _path(row.texts["scan"])
            if scan in rows:
                raise DataError(f"{MANIFEST}, line {row.line}: scan '{scan}' is named twice")
            rows[scan] = _row(row)
    return rows, columns


def _check_columns(columns: frozenset[str]) -> None:
    if "scan" not in columns:
        raise DataError(f"{MANIFEST}: column 'scan' is missing, got {', '.join(sorted(columns)) or 'nothing'}")
    for name in sorted(columns - set(COLUMNS)):
        near = difflib.get_close_matches(name.lower().replace(" ", "_"), COLUMNS, n=1, cutoff=0.8)
        if near:  # other columns are the owner's own notes
            raise DataError(f"{MANIFEST}: unknown column '{name}': did you mean '{near[0]}'?")


def _row(row: CsvRow) -> ManifestRow:
    texts, line = row.texts, row.line

    def number(name: str, least: float | None = None) -> float | None:
        text = texts.get(name, "")
        try:
            value = row.number(name) if text else None
        except ValueError:
            value = float("nan")
        if value is not None and not (abs(value) < 1e18 and (least is None or value > least)):
            raise _wrong(line, name, "a number" if least is None else f"a number above {least:g}", text)
        return value

    def drift(name: str) -> float:
        value = number(name) or 0.0
        if abs(value) > LARGEST_DRIFT_PPM:
            raise _wrong(line, name, f"parts in a million within {LARGEST_DRIFT_PPM:g}", texts[name])
        return value

    gaze = GazeAlignment(
        zero=number("gaze_zero"),
        offset_seconds=number("gaze_offset_seconds") or 0.0,
        drift_ppm=drift("gaze_drift_ppm"),
        viewing_distance_mm=number("viewing_distance_mm", 0),
        screen_width_mm=number("screen_width_mm", 0),
        screen_height_mm=number("screen_height_mm", 0),
        picture=_picture(texts, line),
    )
    alignment = Alignment(
        sound_offset_seconds=number("sound_offset_seconds") or 0.0, sound_drift_ppm=drift("sound_drift_ppm"), gaze=gaze
    )
    beside = {kind: _path(texts[kind]) for kind in FILES if texts.get(kind)}
    sector = _sector(texts.get("sector", ""), line)
    return ManifestRow(texts.get("patient") or None, texts.get("split") or None, sector, beside or None, alignment)


def _sector(text: str, line: int) -> Box | None:
    if not text:
        return None
    sides = _numbers(text, 4)
    if sides is None or not all(side.is_integer() for side in sides) or not _is_box(sides):
        raise _wrong(line, "sector", '"left,top,right,bottom" in pixels', text)
    return Box(*(int(side) for side in sides))


def _picture(texts: Mapping[str, str], line: int) -> tuple[float, float, float, float]:
    text, screen = texts.get("picture_on_screen", ""), texts.get("screen_pixels", "")
    if not text:
        return WHOLE_SCREEN
    sides, size = _numbers(text, 4), _numbers(screen.replace("x", ","), 2)
    if sides is None or not _is_box(sides):
        raise _wrong(line, "picture_on_screen", '"left,top,right,bottom" in screen pixels', text)
    if size is None or min(size) <= 0 or sides[2] > size[0] or sides[3] > size[1]:
        raise _wrong(line, "screen_pixels", '"width,height" of the screen that holds picture_on_screen', screen)
    return sides[0] / size[0], sides[1] / size[1], sides[2] / size[0], sides[3] / size[1]


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return values if len(values) == count else None


def _is_box(sides: list[float]) -> bool:
    left, top, right, bottom = sides
    return 0 <= left < right and 0 <= top < bottom


def _path(text: str) -> str:
    return str(PurePosixPath(text.strip().replace("\\", "/")))


def _wrong(line: int, name: str, expected: str, came: str) -> DataError:
    return DataError(f"{MANIFEST}, line {line}: expected {name} as {expected}, got '{came}'")
